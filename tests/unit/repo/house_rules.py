"""Rules of the house that no linter knows: sizes, and text that must not be in the project.

Run by ``make check`` and by the tests beside it; standard library only.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 50
_TEXT = {
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".json",
    ".yaml",
    ".yml",
    ".html",
    ".css",
    ".js",
    ".svg",
    ".sh",
    ".conf",
    ".service",
    ".cfg",
    ".ini",
    "",
}
_VENDORED = "center/ketang_center/web/static/"
_FORBIDDEN = {
    "an unresolved merge": re.compile(r"^(<{7}|>{7}) ", re.MULTILINE),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a path of somebody's machine": re.compile(r"(?<![\w.}])/(?:home|root|Users|work)/\w"),
    "a package registry's address": re.compile(r"pypi\.org|pythonhosted\.org|registry\.npmjs"),
    "Windows line ends": re.compile(r"\r\n"),
}
_PINNED = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+(?: ; [\w\s\"'.<>=!]+)?(?:\s+# via .*)?")


def tracked(root: Path = ROOT) -> list[Path]:
    """Files of the project: what git knows, or would know after ``git add``."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=root,
        capture_output=True,
        check=True,
        timeout=30,
    )
    paths = (root / name for name in listed.stdout.decode().split("\0") if name)
    return sorted(one for one in paths if one.is_file())


def forbidden_text(path: Path, text: str) -> Iterator[str]:
    """Name each thing in a file that must not be there, with its line."""
    for what, pattern in _FORBIDDEN.items():
        found = pattern.search(text)
        if found:
            yield f"{path}:{text.count(chr(10), 0, found.start()) + 1}: {what}"


def oversize(path: Path, text: str) -> Iterator[str]:
    """Name a module or function that has outgrown its one subject; docstrings do not count."""
    lines = text.count("\n")
    if lines > MAX_MODULE_LINES:
        yield f"{path}: {lines} lines; split it at its second subject (at most {MAX_MODULE_LINES})"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            long = _body_lines(node)
            if long > MAX_FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {long} lines ({MAX_FUNCTION_LINES})"


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    told = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if told else 0
    return (node.end_lineno or 0) - node.lineno + 1 - docstring


def unpinned(path: Path, text: str) -> Iterator[str]:
    """Name each line of the lock that is no exact version."""
    for number, line in enumerate(text.splitlines(), 1):
        if line and not line.startswith("#") and not _PINNED.fullmatch(line):
            yield f"{path}:{number}: not an exact version"


def faults(root: Path = ROOT) -> list[str]:
    """Everything that breaks a rule, one line each."""
    found: list[str] = []
    for path in tracked(root):
        name = path.relative_to(root)
        if path.suffix not in _TEXT or str(name).startswith(_VENDORED) or name.name == "LICENSE":
            continue
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError:
            found.append(f"{name}: not UTF-8")
            continue
        found += forbidden_text(name, text)
        if path.suffix == ".py" and name.parts[0] != "tests":
            found += oversize(name, text)
        if name.name == "constraints.txt":
            found += unpinned(name, text)
    return found


def main() -> int:
    """Print what breaks a rule; 1 when anything does."""
    found = faults()
    sys.stdout.write("".join(f"{one}\n" for one in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
