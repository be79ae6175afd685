"""The ``ketang`` command: only what is there is listed, only what is asked is imported."""

import importlib
import re
import subprocess
import sys

import pytest

from ketang_cli import main as command
from ketang_contract.errors import BadInput

HEAVY = (
    "pydantic",
    "numpy",
    "cv2",
    "onnxruntime",
    "cryptography",
    "sqlite_utils",
    "fastapi",
    "uvicorn",
    "ketang_center",
    "ketang_agent",
)


def run(*words):
    return subprocess.run(
        [sys.executable, "-m", "ketang_cli.main", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_only_sub_commands_that_are_here_are_listed_and_each_has_its_two_functions():
    named = re.findall(r"^    (\w+)(?: |$)", run("--help").stdout, re.MULTILINE)
    assert named == command.available()
    for name in named:
        module = importlib.import_module(f"ketang_cli.{name}")
        assert callable(module.add_arguments)
        assert callable(module.run)


def test_help_and_one_command_import_no_other_commands_parts():
    for words in ("['--help']", "['profile', 'list']"):
        code = (
            "import sys\nfrom ketang_cli.main import main\n"
            f"try: main({words})\nexcept SystemExit: pass\n"
            f"print(sorted(set({HEAVY!r}) & sys.modules.keys()), file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stderr.strip() == "[]"


def test_the_version_is_printed():
    done = run("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"ketang \d+\.\d+\.\d+\S*\n", done.stdout)


def test_an_unknown_sub_command_is_a_mistake():
    done = run("teach")
    assert done.returncode == 2
    assert "teach" in done.stderr


class Stub:
    def __init__(self, error):
        self.error = error

    def add_arguments(self, parser):
        pass

    def run(self, options):
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (BadInput("a.toml: x: wrong"), 2, "ketang: a.toml: x: wrong\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_raised_on_purpose_is_one_line_and_no_traceback(
    monkeypatch, capsys, error, status, said
):
    monkeypatch.setattr(command, "_load", lambda name: Stub(error))
    assert command.main(["profile"]) == status
    assert capsys.readouterr().err == said


def test_a_reader_that_has_seen_enough_is_no_error():
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m ketang_cli.main profile list | true"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""


def test_an_installation_without_the_parts_of_a_command_says_what_to_install():
    code = (
        "import sys\nsys.modules['cryptography'] = None\nfrom ketang_cli.main import main\n"
        "sys.exit(main(['demo', '--check', '--seconds', '1']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr == (
        "ketang: this installation lacks cryptography: pip install 'ketang[demo]'\n"
    )
