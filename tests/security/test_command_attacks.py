"""Attacks on commands: whatever comes down, nothing is carried out that was not asked for, once."""

import json
import random
from base64 import b64decode, b64encode
from dataclasses import replace

import pytest

from ketang_agent.remote import commands_judging
from ketang_agent.remote.commands import USED
from ketang_agent.remote.commands_judging import Asked, CommandRefused, Used, judge, take
from ketang_contract import signatures
from ketang_contract.commands import COMMAND_TYPE, Command, What, payload
from ketang_contract.errors import Refused
from ketang_contract.layers import LAYER_TYPE
from ketang_contract.trust import Purpose, RevokedKey
from ketang_contract.validate import signed
from ketang_provisioning.keys import key_id
from tests.unit.agent.commanded import (
    COMMAND_KEY,
    DAY_S,
    DEVICE,
    NOW_S,
    OTHER_KEY,
    SCHOOL_KEY,
    STRANGER,
    Device,
    command,
    identity,
    sealed,
    trust,
    trusted,
)

ASKED = Asked(device=DEVICE, job="job-1", now_s=NOW_S + 5)


@pytest.fixture
def folder(tmp_path):
    identity(tmp_path / "identity")
    return tmp_path


def why(folder, raw, **asked):
    """The word a command is refused with; empty where it is carried out."""
    place = identity(folder / "identity") if not (folder / "identity").exists() else None
    place = place or commands_judging.Place(folder / "identity")
    try:
        take(raw, replace(ASKED, **asked), folder / USED, place)
    except CommandRefused as refusal:
        return refusal.reason
    return ""


def as_signed(said: dict, key=COMMAND_KEY, kind=COMMAND_TYPE) -> bytes:
    return signatures.seal(json.dumps(said).encode(), kind, [key])


def said(**changes) -> dict:
    return json.loads(payload(command())) | changes


def test_a_good_command_is_carried_out_once(folder):
    assert why(folder, sealed()) == ""
    assert why(folder, sealed()) == "used"


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (sealed(key=STRANGER), "forged"),
        (sealed(key=OTHER_KEY), "forged"),
        (sealed(key=SCHOOL_KEY), "forged"),
        (sealed(kind=LAYER_TYPE), "bad_envelope"),
        (sealed(command(device="s1-pc-2")), "wrong_device"),
        (sealed(command(job="job-2")), "wrong_job"),
        (sealed(command(issued_s=NOW_S - 600, expires_s=NOW_S)), "expired"),
        (sealed(command(issued_s=NOW_S + 606, expires_s=NOW_S + 700)), "too_early"),
        (as_signed(said(expires_s=NOW_S + 660)), "bad_document"),
        (as_signed(said(expires_s=NOW_S)), "bad_document"),
        (as_signed(said(what="run_shell")), "bad_document"),
        (as_signed(said(what="")), "bad_document"),
        (as_signed(said(command="rm -rf /")), "bad_document"),
        (as_signed(said(arguments=["x"])), "bad_document"),
        (as_signed(said(countdown_s=60)), "bad_document"),
        (as_signed(said(what="shut_down")), "bad_document"),
        (as_signed(said(what="shut_down", countdown_s=5)), "bad_document"),
        (as_signed(said(what="shut_down", countdown_s=60.0)), "bad_document"),
        (as_signed(said(who="<b>headmaster</b>")), "bad_document"),
        (as_signed(said(who="")), "bad_document"),
        (as_signed({name: one for name, one in said().items() if name != "who"}), "bad_document"),
        (b"", "bad_envelope"),
        (b"[]", "bad_envelope"),
        (b"x" * 5000, "bad_envelope"),
        (signatures.seal(payload(command()), COMMAND_TYPE, []), "forged"),
    ],
)
def test_what_is_no_command_for_this_device_and_now_is_refused(folder, raw, word):
    assert why(folder, raw) == word
    assert not (folder / USED).exists(), "a stranger cannot even write"


def test_a_field_named_twice_is_refused(folder):
    twice = payload(command())[:-1] + b',"what":"shut_down"}'
    assert why(folder, signatures.seal(twice, COMMAND_TYPE, [COMMAND_KEY])) == "bad_document"


def test_a_command_for_eleven_minutes_cannot_even_be_made():
    with pytest.raises(ValueError, match="at most 600"):
        command(expires_s=NOW_S + 660)
    with pytest.raises(Refused):
        signed(Command, json.dumps(said(expires_s=NOW_S + 660)).encode())


def test_a_revoked_or_ended_command_key_commands_nothing(tmp_path):
    burnt = RevokedKey(key_id(COMMAND_KEY.public_key()), NOW_S, "stolen")
    ended = trusted(COMMAND_KEY, Purpose.COMMAND, until_s=NOW_S)
    for name, held in (("a", trust(revoked=(burnt,))), ("b", trust(keys=(ended,)))):
        (tmp_path / name).mkdir()
        identity(tmp_path / name / "identity", held)
        assert why(tmp_path / name, sealed()) == "forged"


def test_a_device_that_holds_no_trust_document_or_a_damaged_one_obeys_nobody(tmp_path):
    (tmp_path / "identity").mkdir()
    assert why(tmp_path, sealed()) == "no_trust"
    place = identity(tmp_path / "identity")
    place.trust.write_bytes(place.trust.read_bytes().replace(b"a", b"b", 1))
    assert why(tmp_path, sealed()) == "no_trust"


# Time and memory.


@pytest.mark.parametrize("back_s", [1, 599, 3600, 400 * DAY_S])
def test_with_the_clock_set_back_nothing_comes_again(folder, back_s):
    assert why(folder, sealed()) == ""
    later = command(job="job-2", issued_s=NOW_S + 3600, expires_s=NOW_S + 4200)
    assert why(folder, sealed(later), now_s=NOW_S + 3601, job="job-2") == ""
    for raw, job in ((sealed(), "job-1"), (sealed(later), "job-2")):
        assert why(folder, raw, now_s=NOW_S + 3601 - back_s, job=job) in {"used", "expired"}


def test_with_the_clock_set_back_what_was_held_back_is_over_by_the_signed_times(folder):
    kept_back = sealed(command(job="old"))
    newer = command(job="job-2", issued_s=NOW_S + DAY_S, expires_s=NOW_S + DAY_S + 600)
    assert why(folder, sealed(newer), now_s=NOW_S + DAY_S, job="job-2") == ""
    assert why(folder, kept_back, now_s=NOW_S + 5, job="old") == "expired"


def test_the_configurations_signed_times_count_too(folder):
    assert why(folder, sealed(), now_s=NOW_S + 5, floor_s=NOW_S + 700) == "expired"


def test_a_clock_that_ran_ahead_and_came_back_does_not_free_what_was_used(folder):
    assert why(folder, sealed()) == ""
    ahead = command(job="job-2", issued_s=NOW_S + 9 * DAY_S, expires_s=NOW_S + 9 * DAY_S + 600)
    assert why(folder, sealed(ahead), now_s=NOW_S + 9 * DAY_S, job="job-2") == ""
    assert why(folder, sealed()) in {"used", "expired"}


def test_a_disk_that_went_back_in_time_cannot_bring_back_what_is_over(folder):
    assert why(folder, sealed()) == ""
    (folder / USED).unlink()
    assert why(folder, sealed(), now_s=NOW_S + 600) == "expired"


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"jobs": 3}', b"\x00" * 64])
def test_where_what_was_used_cannot_be_read_nothing_signed_till_now_is_carried_out(folder, damage):
    assert why(folder, sealed()) == ""
    (folder / USED).write_bytes(damage)
    assert why(folder, sealed()) == "used"
    assert why(folder, sealed(command(job="job-2")), job="job-2") == "used"
    fresh = command(job="job-3", issued_s=NOW_S + 700, expires_s=NOW_S + 1300)
    assert why(folder, sealed(fresh), now_s=NOW_S + 700, job="job-3") == ""


def test_a_full_disk_carries_nothing_out(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(commands_judging, "write_private", full)
    with pytest.raises(OSError, match="No space"):
        take(sealed(), ASKED, folder / USED, commands_judging.Place(folder / "identity"))


def test_the_memory_of_used_jobs_is_bounded(folder):
    used = Used(jobs={f"j-{at}": NOW_S + 600 for at in range(64)})
    with pytest.raises(CommandRefused, match="busy"):
        judge(sealed(), ASKED, trust(), used)
    _, kept = judge(sealed(), ASKED, trust(), Used(jobs=dict.fromkeys(map(str, range(64)), NOW_S)))
    assert list(kept.jobs) == ["job-1"]


# A thousand of them, and through the whole door.


def mutated(raw: bytes, rng: random.Random) -> bytes:
    """One envelope, damaged somewhere: a byte, a field of the payload, a signature, a cut."""
    kind = rng.randrange(5)
    if kind == 0:
        at = rng.randrange(len(raw))
        return raw[:at] + bytes([raw[at] ^ (1 << rng.randrange(8))]) + raw[at + 1 :]
    if kind == 1:
        return raw[: rng.randrange(len(raw))]
    envelope = json.loads(raw)
    if kind == 2:
        inner = json.loads(b64decode(envelope["payload"]))
        name = rng.choice(sorted(inner))
        inner[name] = rng.choice([inner[name] * 2, "shut_down", "restart_agent", 1, None, "job-7"])
        envelope["payload"] = b64encode(json.dumps(inner).encode()).decode()
    elif kind == 3:
        envelope["signatures"] *= rng.randrange(40)
        envelope["signatures"] += [{"keyid": "0" * 64, "sig": "AAAA"}] * rng.randrange(3)
        if envelope["signatures"]:
            envelope["signatures"][0]["sig"] = b64encode(rng.randbytes(70)).decode()
    else:
        envelope[rng.choice(["payload", "payloadType", "signatures", "extra"])] = rng.choice(
            ["", [], {}, 0, "x", envelope["payload"] + "AA=="]
        )
    return json.dumps(envelope).encode()


def test_of_a_thousand_mutated_commands_none_is_carried_out(folder):
    rng = random.Random(20260101)
    good = [
        sealed(command(what))
        for what in (What.READ_INVENTORY, What.RESTART_AGENT, What.SHUT_DOWN, What.DIAGNOSTICS)
    ]
    carried_out = 0
    for _ in range(1000):
        original = rng.choice(good)
        raw = mutated(original, rng)
        if raw == original:
            continue
        try:
            found, _ = judge(raw, ASKED, trust(), Used())
        except CommandRefused:
            continue
        # Base64 has bits that say nothing: such bytes are the same command, and used with it.
        same = json.loads(b64decode(json.loads(original)["payload"]))
        carried_out += json.loads(payload(found)) != same
        with pytest.raises(CommandRefused, match="used"):
            judge(raw, ASKED, trust(), Used(jobs={"job-1": NOW_S + 600}))
    assert carried_out == 0


def test_through_the_whole_door_only_the_one_good_command_is_carried_out(tmp_path):
    device = Device(tmp_path)
    attacks = [
        sealed(key=STRANGER),
        sealed(key=OTHER_KEY),
        sealed(command(device="s1-pc-2")),
        as_signed(said(what="run_shell")),
        sealed()[:-20],
    ]
    for number, raw in enumerate(attacks):
        device.take(raw, f"attack-{number}")
        device.judged()
    device.take(sealed(), "job-1", retained=True)
    device.judged()
    assert device.machine.did == []
    assert set(device.states) == {"refused"}
    assert device.answers[-1].reason == "retained"


def test_a_retained_copy_does_not_stand_in_the_way_of_what_is_being_done(tmp_path):
    device = Device(tmp_path)
    device.run(command(What.SHUT_DOWN))
    device.take(sealed(command(What.SHUT_DOWN)), "job-1", retained=True)
    device.step()
    assert device.states == ["running"]
    assert device.room.leaving is not None


@pytest.mark.parametrize("job", ["", "../x", "a/b", "A", "+", "#", "x" * 40])
def test_a_topic_that_names_no_job_is_not_even_looked_at(tmp_path, job):
    device = Device(tmp_path)
    device.take(sealed(), job)
    device.judged()
    assert device.sent == []
    assert device.machine.did == []
