"""``ketang models``, as the people who hold the keys use it: on a laptop, and at the centre."""

import hashlib
import shutil

import pytest
from tests.regions import Region

from ketang_cli.main import main
from ketang_contract import agent_release
from ketang_models import registry
from ketang_provisioning import agent_archive
from ketang_provisioning.keys import make_ed25519, save_private


@pytest.fixture
def region(tmp_path):
    return Region(tmp_path)


@pytest.fixture
def said(region, tmp_path):
    """Give the words that name the keys and their passphrases."""
    for name in ("updates-root", "updates-targets"):
        (tmp_path / name).write_text(region.passphrases[name])
    offline = region.folder / "offline"
    return {
        "repository": ["--repository", str(tmp_path / "repository"), "--lang", "en"],
        "init": [
            *("--keys", str(offline), "--root-passphrase-file", str(tmp_path / "updates-root")),
            *("--targets-passphrase-file", str(tmp_path / "updates-targets")),
        ],
        "targets": [
            *("--key", str(offline / "tuf-targets.key")),
            *("--passphrase-file", str(tmp_path / "updates-targets")),
        ],
        "root": [
            *("--key", str(offline / "tuf-root.key")),
            *("--passphrase-file", str(tmp_path / "updates-root")),
        ],
    }


def run(*words):
    return main(["models", *map(str, words)])


@pytest.fixture
def made(region, said, tmp_path):
    assert run("public", region.center_folder, "--out", tmp_path / "public") == 0
    assert run("init", *said["repository"], *said["init"], "--online", tmp_path / "public") == 0
    return said


def test_a_model_goes_from_the_laptop_to_the_centre(region, made, tmp_path, capsys):
    model = registry.SHIPPED / "mtcnn"
    assert run("publish", *made["repository"], *made["targets"], model) == 0
    assert run("check", *made["repository"]) == 0
    assert run("list", *made["repository"]) == 0
    assert registry.shipped("mtcnn").digest in capsys.readouterr().out
    center = ["--repository", region.data_dir / "updates", "--lang", "zh"]
    assert run("take", *center, tmp_path / "repository") == 0
    assert run("refresh", *center, "--keys", region.center_folder) == 0
    assert "已签署" in capsys.readouterr().out
    assert (region.data_dir / "updates" / "metadata" / "timestamp.json").exists()


@pytest.fixture
def release(tmp_path):
    """Give an archive with a release of the agent, as far as it is looked at here."""
    path = tmp_path / "release.zip"
    path.write_bytes(
        agent_archive.build(
            [agent_archive.House("3.11", "linux_x86_64", (wheel(tmp_path),))], "0.2.0"
        )
    )
    return path


def wheel(folder):
    path = folder / "ketang-0.2.0-py3-none-any.whl"
    path.write_bytes(b"PK")
    return path


def test_an_agents_release_is_published_and_withdrawn(made, release, capsys):
    publish = ["publish", *made["repository"], *made["targets"]]
    assert run(*publish, "--agent", release, "--min-agent", "0.1.0") == 0
    assert hashlib.sha256(release.read_bytes()).hexdigest() in capsys.readouterr().out
    path = agent_release.target("0.2.0").path
    run("list", *made["repository"])
    assert path in capsys.readouterr().out
    assert run("withdraw", *made["repository"], *made["targets"], path) == 0
    capsys.readouterr()
    run("list", *made["repository"])
    assert capsys.readouterr().out == ""


def test_a_model_that_does_not_answer_its_golden_pictures_is_not_published(made, tmp_path, capsys):
    folder = tmp_path / "m"
    shutil.copytree(registry.SHIPPED / "mtcnn", folder)
    path = folder / "golden.f32"
    raw = bytearray(path.read_bytes())
    raw[3] ^= 0x40
    path.write_bytes(raw)
    manifest = folder / "manifest.toml"
    before = registry.shipped("mtcnn").manifest.golden.sha256
    text = manifest.read_text("utf-8").replace(before, hashlib.sha256(raw).hexdigest())
    manifest.write_text(text, "utf-8")
    assert run("publish", *made["repository"], *made["targets"], folder) == 2
    assert "golden answers differ" in capsys.readouterr().err


def test_keys_are_replaced(region, made, tmp_path, capsys):
    word = tmp_path / "new-word"
    word.write_text("a-new-passphrase-of-some-length")
    for role in ("root", "targets"):
        save_private(tmp_path / f"{role}.key", make_ed25519(), word.read_bytes())
        new = ["--role", role, "--new", tmp_path / f"{role}.key", "--new-passphrase-file", word]
        assert run("rotate", *made["repository"], *made["root"], *new) == (
            0 if role == "root" else 2
        )
    assert "trust add-key" in capsys.readouterr().out
    key = ["--key", tmp_path / "root.key", "--passphrase-file", word]
    new = ["--role", "targets", "--new", tmp_path / "targets.key", "--new-passphrase-file", word]
    assert run("rotate", *made["repository"], *key, *new) == 0
    online = ["--role", "snapshot", "--new", region.center_folder / "tuf-timestamp.key"]
    assert run("rotate", *made["repository"], *key, *online) == 0
    assert run("rotate", *made["repository"], *key) == 0
    assert run("rotate", *made["repository"], *key, "--role", "root") == 2


@pytest.mark.parametrize("content", [None, b"PK", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_release_is_told_in_one_line(made, tmp_path, content, capsys):
    path = tmp_path / "0.2.0.zip"
    if content is not None:
        path.write_bytes(content)
    assert run("publish", *made["repository"], *made["targets"], "--agent", path) == 2
    assert capsys.readouterr().err.count("\n") == 1
