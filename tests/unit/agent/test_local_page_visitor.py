"""Who sits at the other end, as the kernel and the login records tell it."""

import os
import socket
import struct

import pytest
from tests.unit.agent.trees import plant

from ketang_agent.local_page.visitor import NOBODY, Visitor, login_ms, uid_of, visitor_of

PEER, HERE = ("127.0.0.1", 0xC001), ("127.0.0.1", 0x223D)
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"


def row(local, remote, state="01", uid=1000, inode=77):
    return (
        f"   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000"
        f"  {uid}        0 {inode} 1 0 100 0 0 10 0\n"
    )


CLIENT = ("0100007F:C001", "0100007F:223D")
SERVER = ("0100007F:223D", "0100007F:C001")


def table(tmp_path, *rows, name="tcp"):
    return plant(tmp_path, {f"proc/net/{name}": HEAD + "".join(rows)})


def test_the_owner_of_the_clients_end_is_the_visitor(tmp_path):
    root = table(tmp_path, row(*SERVER, uid=0), row(*CLIENT))
    assert uid_of(PEER, HERE, root) == 1000


@pytest.mark.parametrize(
    ("state", "inode"), [("06", 0), ("04", 77), ("05", 0), ("08", 77), ("01", 0)]
)
def test_a_socket_that_was_let_go_of_is_nobodys_though_the_kernel_says_root(tmp_path, state, inode):
    root = table(tmp_path, row(*SERVER, uid=900), row(*CLIENT, state=state, uid=0, inode=inode))
    assert uid_of(PEER, HERE, root) is None
    assert visitor_of(PEER, HERE, 900, root) == NOBODY


def test_another_connection_to_the_page_is_not_this_one(tmp_path):
    root = table(tmp_path, row("0100007F:C002", "0100007F:223D"), row("0100007F:C001", "0:1"))
    assert uid_of(PEER, HERE, root) is None


def test_a_v4_connection_made_on_a_v6_socket_is_found(tmp_path):
    mapped = "0000000000000000FFFF00000100007F"
    root = table(tmp_path, row(f"{mapped}:C001", f"{mapped}:223D"), name="tcp6")
    assert uid_of(PEER, HERE, root) == 1000


def test_a_v6_connection_is_found(tmp_path):
    one = "00000000000000000000000001000000"
    root = table(tmp_path, row(f"{one}:C001", f"{one}:223D"), name="tcp6")
    assert uid_of(("::1", 0xC001), ("::1", 0x223D), root) == 1000


def test_without_the_kernels_tables_nobody_is_known(tmp_path):
    assert uid_of(PEER, HERE, tmp_path) is None


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_on_this_machine_it_finds_ourselves_and_forgets_us_when_we_hang_up(family):
    address = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.socket(family) as ear:
        try:
            ear.bind((address, 0))
        except OSError:
            assert family == socket.AF_INET6, "this machine has no IPv6"
            return
        ear.listen()
        client = socket.create_connection(ear.getsockname()[:2])
        ours, peer = ear.accept()
        with ours:
            ends = peer[:2], ours.getsockname()[:2]
            assert uid_of(*ends) == os.getuid()
            client.close()
            assert uid_of(*ends) is None


def session(uid, since_us, **more):
    said = {"UID": uid, "CLASS": "user", "STATE": "active", "REALTIME": since_us, **more}
    return "".join(f"{name}={value}\n" for name, value in said.items())


def test_the_login_session_is_the_latest_that_is_still_there(tmp_path):
    root = plant(
        tmp_path,
        {
            "run/systemd/sessions/1": session(1000, 1_000_000_000),
            "run/systemd/sessions/3": session(1000, 2_000_000_000),
            "run/systemd/sessions/4": session(1000, 3_000_000_000, STATE="closing"),
            "run/systemd/sessions/c1": session(1000, 4_000_000_000, CLASS="greeter"),
            "run/systemd/sessions/5": session(1001, 5_000_000_000),
            "run/systemd/sessions/6": session(1000, "soon"),
            "run/systemd/sessions/3.ref": "",
        },
    )
    assert login_ms(1000, root) == 2_000_000
    assert login_ms(4242, root) is None


def utmp(kind, user, seconds):
    return struct.pack(
        "=hxxi32s4s32s256shhiii16s20s",
        kind, 1, b"tty1", b"1", user, b"", 0, 0, 0, seconds, 0, b"", b"",
    )  # fmt: skip


def test_where_there_is_no_logind_utmp_tells(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/utmp").write_bytes(
        utmp(7, b"root", 1_700_000_000)
        + utmp(8, b"root", 1_800_000_000)
        + utmp(7, b"x", 1)
        + b"cut short"
    )
    assert login_ms(0, tmp_path) == 1_700_000_000_000


@pytest.mark.parametrize(
    ("uid", "own_uid", "administrator"), [(0, 900, True), (900, 900, True), (1000, 900, False)]
)
def test_root_and_the_service_account_are_administrators(tmp_path, uid, own_uid, administrator):
    root = table(tmp_path, row(*CLIENT, uid=uid))
    assert visitor_of(PEER, HERE, own_uid, root) == Visitor(uid, None, administrator)
