"""Reading the small files through which Linux tells of itself."""

from pathlib import Path


def text_of(path: Path) -> str | None:
    """Return a file's text without surrounding space; None where there is none to read."""
    try:
        return path.read_text("utf-8", "replace").strip("\0 \t\r\n")
    except OSError:  # absent, or a driver that answers EINVAL or ENODATA
        return None


def number_of(path: Path) -> int | None:
    """Return the whole number a file holds; None where it holds none."""
    try:
        return int(text_of(path) or "")
    except ValueError:
        return None


def entries_of(folder: Path) -> list[Path]:
    """Return a folder's entries in order; none where the folder is absent."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def fields_of(text: str, separator: str) -> dict[str, str]:
    """Parse ``key<separator>value`` lines, as in os-release or meminfo; the first of a key wins."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, mark, value = line.partition(separator)
        if mark:
            found.setdefault(key.strip(), value.strip().strip('"'))
    return found
