"""Private keys on disk: only their owner reads them, and they are written whole or not at all."""

import stat

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ketang_contract import signatures
from ketang_contract.errors import BadInput
from ketang_provisioning import keys


@pytest.mark.parametrize("make", [keys.make_ec, keys.make_ed25519])
@pytest.mark.parametrize("passphrase", [None, b"a passphrase of some length"])
def test_a_key_comes_back_from_a_file_that_only_its_owner_reads(tmp_path, make, passphrase):
    key, path = make(), tmp_path / "one.key"
    keys.save_private(path, key, passphrase)
    assert keys.load_private(path, passphrase).public_key() == key.public_key()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_key_with_a_passphrase_is_really_encrypted(tmp_path):
    path = tmp_path / "one.key"
    keys.save_private(path, keys.make_ed25519(), b"right")
    assert b"ENCRYPTED PRIVATE KEY" in path.read_bytes()
    with pytest.raises(TypeError):
        load_pem_private_key(path.read_bytes(), None)
    for wrong in (b"wrong", None):
        with pytest.raises(BadInput, match=r"one\.key"):
            keys.load_private(path, wrong)


def test_files_that_hold_no_key_of_ours_are_refused_in_one_line(tmp_path):
    path = tmp_path / "one.key"
    for other in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with pytest.raises(BadInput, match="P-256"):
            keys.load_private(path, None)
    path.write_bytes(b"no key")
    with pytest.raises(BadInput, match="not a private key"):
        keys.load_private(path, None)
    with pytest.raises(BadInput, match="cannot be read"):
        keys.load_private(tmp_path / "missing", None)


def test_a_file_is_replaced_whole_and_what_a_crash_left_does_not_stop_it(tmp_path):
    path = tmp_path / "one.key"
    path.write_bytes(b"old")
    path.chmod(0o644)
    (tmp_path / ".one.key.partial").write_bytes(b"hal")
    keys.write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "one.key"
    victim.write_bytes(b"untouched")
    path.symlink_to(victim)
    (tmp_path / ".one.key.partial").symlink_to(victim)
    keys.write_private(path, b"new")
    assert victim.read_bytes() == b"untouched"
    assert not path.is_symlink()


def test_a_key_has_the_same_name_on_both_sides_of_the_wire():
    for key in (keys.make_ec(), keys.make_ed25519()):
        public = key.public_key()
        assert keys.key_id(public) == signatures.key_id(keys.public_pem(public))
        assert len(keys.key_id(public)) == 64
