"""``ketang profile``: one line for a mistake and status 2, one line for a file that is right."""

from pathlib import Path

import pytest

import ketang_profiles
from ketang_cli.main import main
from ketang_profiles.profile import kinds

FOLDER = Path(ketang_profiles.__file__).parent


def test_a_right_file_gives_one_ok_line_and_status_0(capsys):
    assert main(["profile", "check", str(FOLDER / "ifp.toml")]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.count("\n") == 1
    assert said.out.startswith(f"{FOLDER}/ifp.toml: ok: ifp ")


def test_a_wrong_file_gives_one_line_on_stderr_and_status_2(tmp_path, capsys):
    path = tmp_path / "wrong.toml"
    path.write_text(
        (FOLDER / "ifp.toml").read_text("utf-8").replace("usage = ", "usge = "), "utf-8"
    )
    assert main(["profile", "check", str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"ketang: {path}: intervals_s.usge: unknown key; did you mean 'usage'? accepted: usage, "
        "host, network, environment, inventory, security, occupancy\n"
    )


def test_list_names_every_kind(capsys):
    assert main(["profile", "list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == list(kinds())


def test_no_action_is_a_mistake_with_a_usage_line(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["profile"])
    assert "usage: ketang profile" in capsys.readouterr().err
