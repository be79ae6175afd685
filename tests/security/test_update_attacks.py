"""Nobody feeds a device an update: TUF's own list of attacks, at our repository and our client.

After python-tuf's conformance tests and section 1.5.2 of the specification. The service is the real
one over HTTPS, with the region's own keys; each attacker has what the test says, and no more. What
a device fetched before is untouched by every one of them.
"""

import shutil
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from tuf.api.metadata import Metadata, TargetFile

from ketang_agent.enrol.talking import Stranger, Unreachable
from ketang_agent.remote.updates_https import Timing
from ketang_agent.remote.updates_root import UpdateRefused
from ketang_contract.errors import BadInput
from ketang_contract.trust import Purpose, RevokedKey, TrustedKey
from ketang_contract.updates import model
from ketang_provisioning import updates, updates_online
from ketang_provisioning.keys import key_id, make_ed25519, public_pem
from tests.regions import Region
from tests.security.depots import CONTENT, NOW, TARGET, Depot, lying, other_online_keys, serving

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def region(tmp_path_factory):
    made = Region(tmp_path_factory.mktemp("updates"), now=NOW - DAY)
    with serving(made):
        yield made


@pytest.fixture
def depot(region, tmp_path):
    return Depot(region, tmp_path)


def refused(depot, reason, **how):
    """What was fetched before stands, and this is refused for this reason."""
    before = sorted((one.name, one.read_bytes()) for one in whole_files(depot))
    with pytest.raises(UpdateRefused) as caught:
        depot.fetch(**how)
    assert caught.value.reason == reason, str(caught.value)
    assert sorted((one.name, one.read_bytes()) for one in whole_files(depot)) == before


def whole_files(depot):
    return [one for one in (depot.device / "targets").glob("*") if one.suffix != ".part"]


def named_also(trust, key):
    """The trust document with one more key for updates."""
    public = key.public_key()
    added = TrustedKey(
        key_id(public), public_pem(public), Purpose.UPDATES, "", "new", 0, 4_000_000_000
    )
    return replace(trust, version=trust.version + 1, keys=(*trust.keys, added))


def revoked(trust, key):
    gone = RevokedKey(key_id(key.public_key()), 0, "burnt")
    return replace(trust, version=trust.version + 1, revoked=(*trust.revoked, gone))


def test_what_was_published_arrives_whole_and_is_not_fetched_twice(depot):
    fetched = depot.fetch()
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.target == model("mtcnn", "1.0.0")
    shutil.rmtree(depot.center / "targets")
    assert depot.fetch().path == fetched.path


# Rollback, of each role


def test_an_older_timestamp_is_not_taken_though_it_is_still_good(depot):
    old = depot.metadata("timestamp.json").read_bytes()
    depot.publish("1.1.0", b"newer", now=NOW + HOUR)
    depot.fetch(now=NOW + HOUR)
    depot.metadata("timestamp.json").write_bytes(old)
    refused(depot, "rolled_back", now=NOW + HOUR)


def test_an_older_snapshot_is_not_taken_under_a_newer_timestamp(depot):
    old = depot.latest("snapshot")
    depot.publish("1.1.0", b"newer", now=NOW + HOUR)
    depot.fetch(now=NOW + HOUR)
    depot.confirm(old, now=NOW + HOUR)
    refused(depot, "rolled_back", now=NOW + HOUR)


def test_an_older_list_of_targets_is_not_taken_under_a_newer_snapshot(depot):
    old = depot.latest("targets")
    depot.publish("1.1.0", b"newer", now=NOW + HOUR)
    depot.fetch(now=NOW + HOUR)

    def name_the_old_one(snapshot):
        snapshot.version += 1
        snapshot.meta["targets.json"] = updates_online._meta(old)

    latest = depot.latest("snapshot")
    name = f"{int(latest.name.split('.')[0]) + 1}.snapshot.json"
    depot.resign(latest, [depot.online.snapshot], name_the_old_one, name=name)
    depot.confirm(latest.with_name(name), now=NOW + HOUR)
    refused(depot, "rolled_back", now=NOW + HOUR)


def test_a_root_that_is_hidden_again_is_remembered(depot):
    key = make_ed25519()
    updates.rotate(
        depot.offline, [depot.root], NOW, replaced={"targets": key.public_key()}, targets_key=key
    )
    depot.carry()
    depot.fetch()
    first = depot.metadata("1.root.json").read_bytes()
    for path in (depot.metadata("2.root.json"), depot.latest("targets")):
        path.unlink()
    assert depot.metadata("1.root.json").read_bytes() == first
    updates_online.refresh(depot.center, depot.online, NOW + HOUR)
    with pytest.raises(UpdateRefused):
        depot.fetch(now=NOW + HOUR)


@pytest.mark.parametrize("version", [1, 3])
def test_a_root_of_another_number_than_its_name_is_not_taken(depot, version):
    depot.fetch()

    def renumber(root):
        root.version = version

    path = depot.metadata("1.root.json")
    depot.resign(path, [depot.root], renumber, name="2.root.json")
    refused(depot, "rolled_back")


# Freeze: what has expired is nothing any more


@pytest.mark.parametrize(
    ("role", "after"), [("timestamp", 2), ("snapshot", 8), ("targets", 91), ("root", 366)]
)
def test_what_has_expired_is_not_taken_whichever_role_it_is(depot, role, after):
    depot.fetch()
    later = NOW + after * DAY
    if role != "timestamp":  # an attacker with the online keys confirms it for ever
        updates_online.refresh(depot.center, depot.online, later)
        if role == "snapshot":
            path = depot.latest("snapshot")

            def age(snapshot):
                snapshot.expires = NOW + DAY

            depot.resign(path, [depot.online.snapshot], age)
            depot.confirm(path, now=later)
    refused(depot, "expired", now=later)


def test_a_clock_that_was_set_back_makes_nothing_fresh_again(depot):
    old = depot.metadata("timestamp.json").read_bytes()
    updates_online.refresh(depot.center, depot.online, NOW + 3 * DAY)
    depot.fetch(now=NOW + 3 * DAY)
    held = depot.device / "metadata" / "timestamp.json"
    # The signed times that the device saw are its floor, whatever its clock says.
    refused_at = NOW + 2 * DAY - HOUR

    def expire(timestamp):
        timestamp.version += 1
        timestamp.expires = refused_at

    depot.resign(depot.metadata("timestamp.json"), [depot.online.timestamp], expire)
    refused(depot, "expired", now=NOW - 30 * DAY)
    held.unlink()
    depot.metadata("timestamp.json").write_bytes(old)
    # Nothing seen, but the trust document has a time, and so has what the caller keeps.
    refused(depot, "expired", now=max(NOW, NOW + 3 * DAY))
    late = replace(depot.trust, issued_s=int((NOW + 3 * DAY).timestamp()))
    refused(depot, "expired", now=NOW, trust=late)


def test_a_device_whose_clock_stands_at_nothing_still_gets_its_updates(depot):
    assert depot.fetch(now=NOW - 20_000 * DAY).path.read_bytes() == CONTENT


# Fast-forward


def test_devices_come_back_from_numbers_a_thief_ran_up_once_the_keys_were_replaced(depot):
    depot.fetch()

    def run_up(snapshot):
        snapshot.version = 2_147_483_000
        snapshot.meta["targets.json"].version = 2_147_483_000
        snapshot.meta["targets.json"].hashes = snapshot.meta["targets.json"].length = None

    path = depot.latest("snapshot")
    depot.resign(path, [depot.online.snapshot], run_up, name="2147483000.snapshot.json")
    depot.confirm(path.with_name("2147483000.snapshot.json"), version=2_147_483_000)
    with pytest.raises((UpdateRefused, Unreachable)):
        depot.fetch()
    keys = other_online_keys()
    named = {"snapshot": keys.snapshot.public_key(), "timestamp": keys.timestamp.public_key()}
    updates.rotate(depot.offline, [depot.root], NOW, replaced=named)
    for one in depot.center.glob("metadata/2147483000.*"):
        one.unlink()
    depot.metadata("timestamp.json").unlink()
    depot.carry(keys=keys)
    assert depot.fetch().path.read_bytes() == CONTENT


# Mix and match


def test_a_snapshot_of_the_same_number_and_another_content_is_not_taken(depot):
    path = depot.latest("snapshot")

    def change(snapshot):
        snapshot.expires += timedelta(seconds=1)

    depot.resign(path, [depot.online.snapshot], change)
    refused(depot, "wrong_content")


def test_a_list_of_the_same_number_and_another_content_is_not_taken(depot):
    path = depot.latest("targets")

    def change(listed):
        listed.targets[TARGET].hashes["sha256"] = "0" * 64

    depot.resign(path, [depot.targets], change)
    refused(depot, "wrong_content")


def test_a_new_timestamp_does_not_carry_a_list_that_was_never_in_this_snapshot(depot):
    other = depot.latest("targets").read_bytes()
    depot.publish("1.1.0", b"newer")
    depot.latest("targets").write_bytes(other)
    refused(depot, "wrong_content")


# Endless data


@pytest.mark.parametrize("name", ["1.root.json", "timestamp.json", "{snapshot}", "{targets}"])
def test_metadata_without_an_end_is_cut_off_at_its_cap(depot, region, name):
    wanted = name.format(
        snapshot=depot.latest("snapshot").name, targets=depot.latest("targets").name
    )
    sent = []

    def pour(handler, content):
        if not handler.path.endswith(f"/{wanted}"):
            return handler.whole(content)
        handler.send_response(200)
        handler.send_header("Content-Length", str(1 << 40))
        handler.end_headers()
        try:
            while len(sent) < 10_000:
                handler.wfile.write(b" " * 65_536)
                sent.append(65_536)
        except OSError:
            return None

    with lying(region, pour) as url:
        refused(depot, "too_large", url=url)
    assert sum(sent) < 16 << 20


def test_an_answer_that_does_not_say_its_length_is_none(depot, region):
    def answer(handler, content):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(content)

    with lying(region, answer) as url, pytest.raises(Unreachable, match="without a length"):
        depot.fetch(url=url)


def test_a_target_without_an_end_is_read_up_to_its_length_and_no_further(depot, region):
    sent = []

    def pour(handler, content):
        asked = handler.headers["Range"]
        if asked is None:
            return handler.whole(content)
        begin, _, end = asked.removeprefix("bytes=").partition("-")
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {begin}-{end}/{len(content)}")
        handler.end_headers()
        try:
            while len(sent) < 10_000:
                handler.wfile.write(b"\0" * 65_536)
                sent.append(65_536)
        except OSError:
            return None

    with lying(region, pour) as url:
        refused(depot, "wrong_content", url=url)
    assert sum(sent) < 16 << 20
    assert not list(depot.device.rglob("*.part"))


def test_a_centre_that_only_drips_is_given_up_and_what_came_is_kept(depot, region):
    def drip(handler, content):
        asked = handler.headers["Range"]
        if asked is None:
            return handler.whole(content)
        begin, _, end = asked.removeprefix("bytes=").partition("-")
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {begin}-{end}/{len(content)}")
        handler.send_header("Content-Length", str(int(end) - int(begin) + 1))
        handler.end_headers()
        try:
            for one in range(int(begin), int(begin) + 1000):
                time.sleep(0.05)
                handler.wfile.write(content[one : one + 1])
        except OSError:
            return None

    began_s = time.monotonic()
    with lying(region, drip) as url, pytest.raises(Unreachable, match="are kept"):
        depot.fetch(url=url, timing=Timing(sleep=lambda _: None, request_s=0.5))
    assert time.monotonic() - began_s < 30
    (part,) = depot.device.rglob("*.part")
    assert CONTENT.startswith(part.read_bytes())
    assert part.stat().st_size > 5
    assert depot.fetch().path.read_bytes() == CONTENT


def test_headers_that_drip_end_as_well(depot, region):
    def drip(handler, _):
        try:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            for _ in range(600):
                time.sleep(0.05)
                handler.wfile.write(b"x")
        except OSError:
            return

    began_s = time.monotonic()
    with lying(region, drip) as url, pytest.raises(Unreachable):
        depot.fetch(url=url, timing=Timing(sleep=lambda _: None, request_s=0.5))
    assert time.monotonic() - began_s < 15


# Wrong content


@pytest.mark.parametrize(
    "damage",
    [
        lambda it: it[:-1] + bytes([it[-1] ^ 1]),
        lambda it: bytes(len(it)),
        lambda it: it + b"more",
        lambda it: it[:100],
    ],
)
def test_a_target_of_another_content_or_length_is_never_given_its_name(depot, damage):
    (path,) = depot.center.glob("targets/model/mtcnn/*.zip")
    path.write_bytes(damage(CONTENT))
    with pytest.raises((UpdateRefused, Unreachable)):
        depot.fetch()
    assert whole_files(depot) == []
    path.write_bytes(CONTENT)
    assert depot.fetch().path.read_bytes() == CONTENT


def test_a_whole_file_that_the_disk_changed_is_fetched_again(depot):
    fetched = depot.fetch()
    fetched.path.write_bytes(b"x" + CONTENT[1:])
    assert depot.fetch().path.read_bytes() == CONTENT


# Arbitrary software


def test_what_is_not_listed_is_not_fetched(depot):
    stray = depot.center / "targets" / "model" / "mtcnn" / f"{'a' * 64}.9.9.9.zip"
    stray.write_bytes(b"evil")
    refused(depot, "no_target", target="model/mtcnn/9.9.9.zip")


@pytest.mark.parametrize("who", ["a stranger", "the centre's snapshot key", "a configuration key"])
def test_a_list_signed_by_any_other_key_is_not_taken(depot, who):
    keys = {
        "a stranger": make_ed25519(),
        "the centre's snapshot key": depot.online.snapshot,
        "a configuration key": depot._key("offline/config-1.key", "config-1"),
    }

    def add(listed):
        listed.version += 1
        listed.targets["model/evil/1.zip"] = TargetFile.from_data("model/evil/1.zip", b"evil")

    latest = depot.latest("targets")
    name = f"{int(latest.name.split('.')[0]) + 1}.targets.json"
    depot.resign(latest, [keys[who]], add, name=name)
    with pytest.raises(BadInput, match="not signed by the targets key"):
        updates_online.refresh(depot.center, depot.online, NOW)
    with pytest.raises(UpdateRefused):
        depot.fetch("model/evil/1.zip")
    # And where a thief of the centre names it all the same:
    meta = updates_online._meta(latest.with_name(name))
    snapshot = depot.latest("snapshot")

    def name_it(said):
        said.version += 1
        said.meta["targets.json"] = meta

    made = f"{int(snapshot.name.split('.')[0]) + 1}.snapshot.json"
    depot.resign(snapshot, [depot.online.snapshot], name_it, name=made)
    depot.confirm(snapshot.with_name(made))
    refused(depot, "forged", target="model/evil/1.zip")


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_an_online_role_signed_by_any_other_key_is_not_taken(depot, role):
    stranger = make_ed25519()
    if role == "snapshot":
        path = depot.latest("snapshot")
        depot.resign(path, [stranger], lambda _: None)
        depot.confirm(path)
    else:
        depot.resign(depot.metadata("timestamp.json"), [stranger], lambda _: None)
    refused(depot, "forged")


@pytest.mark.parametrize(
    "custom",
    [
        None,
        {"kind": "model"},
        model("mtcnn", "2.0.0").custom(),
        model("mtcnn", "1.0.0").custom() | {"file": "../../../x"},
        model("mtcnn", "1.0.0").custom() | {"version": ".."},
        model("mtcnn", "1.0.0").custom() | {"kind": "shell"},
    ],
)
def test_a_target_that_says_something_else_of_itself_is_not_taken(depot, custom):
    def change(listed):
        listed.version += 1
        listed.targets[TARGET].unrecognized_fields = {"custom": custom} if custom else {}

    latest = depot.latest("targets")
    name = f"{int(latest.name.split('.')[0]) + 1}.targets.json"
    depot.resign(latest, [depot.targets], change, name=name)
    updates_online.refresh(depot.center, depot.online, NOW)
    refused(depot, "bad_target")


# Keys: rotation, revocation, the first root


def test_a_root_signed_by_the_old_key_and_the_new_one_is_followed(depot):
    depot.fetch()
    key = make_ed25519()
    public = {"root": key.public_key()}
    updates.rotate(depot.offline, [depot.root, key], NOW, replaced=public)
    depot.carry()
    trust = named_also(depot.trust, key)
    assert depot.fetch(trust=trust).path.read_bytes() == CONTENT
    # A device that joins later and knows the new key alone begins where that one rules.
    shutil.rmtree(depot.device)
    assert depot.fetch(trust=revoked(trust, depot.root)).path.read_bytes() == CONTENT


@pytest.mark.parametrize("signer", ["old", "new", "stranger"])
def test_a_root_signed_by_one_side_alone_is_not_followed(depot, signer):
    depot.fetch()
    new = make_ed25519()
    trust = named_also(depot.trust, new)

    def replace_key(root):
        root.version = 2
        root.revoke_key(key_id(depot.root.public_key()), "root")
        root.add_key(updates.tuf_key(new.public_key()), "root")

    keys = {"old": depot.root, "new": new, "stranger": make_ed25519()}
    depot.resign(depot.metadata("1.root.json"), [keys[signer]], replace_key, name="2.root.json")
    refused(depot, "forged", trust=trust)
    with pytest.raises(BadInput, match="not signed by the root key in force"):
        updates.rotate(depot.offline, [keys[signer]], NOW, replaced={"root": new.public_key()})


def test_a_root_key_that_the_trust_document_does_not_name_ends_the_walk(depot):
    key = make_ed25519()
    updates.rotate(depot.offline, [depot.root, key], NOW, replaced={"root": key.public_key()})
    depot.carry()
    refused(depot, "root_not_named")
    # Once a newer document names it, all is well again.
    assert depot.fetch(trust=named_also(depot.trust, key)).path.read_bytes() == CONTENT


def test_a_revoked_root_key_is_out_at_once_and_a_new_repository_of_its_place_is_believed(depot):
    depot.fetch()
    new = make_ed25519()
    trust = revoked(named_also(depot.trust, new), depot.root)
    refused(depot, "root_not_named", trust=trust)
    updates.rotate(depot.offline, [depot.root, new], NOW, replaced={"root": new.public_key()})
    depot.carry()
    assert depot.fetch(trust=trust).path.read_bytes() == CONTENT


def test_a_device_misled_by_a_stolen_root_key_comes_back_by_the_trust_document(depot):
    depot.fetch()
    thief = make_ed25519()

    def take_over(root):
        root.version = 2
        for role in ("targets", "snapshot", "timestamp"):
            root.revoke_key(root.roles[role].keyids[0], role)
            root.add_key(updates.tuf_key(thief.public_key()), role)

    depot.resign(depot.metadata("1.root.json"), [depot.root], take_over, name="2.root.json")
    with pytest.raises(UpdateRefused):
        depot.fetch()
    depot.metadata("2.root.json").unlink()
    new = make_ed25519()
    updates.rotate(depot.offline, [depot.root, new], NOW, replaced={"root": new.public_key()})
    depot.carry()
    trust = revoked(named_also(depot.trust, new), depot.root)
    assert depot.fetch(trust=trust).path.read_bytes() == CONTENT


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp"])
def test_a_key_that_was_replaced_signs_nothing_any_more(depot, role):
    depot.fetch()
    new = make_ed25519()
    updates.rotate(
        depot.offline,
        [depot.root],
        NOW,
        replaced={role: new.public_key()},
        targets_key=new if role == "targets" else None,
    )
    old = depot.online
    if role == "targets":
        depot.carry()
        assert depot.fetch().path.read_bytes() == CONTENT
        with pytest.raises(BadInput, match="not the one that root 2 names"):
            updates.publish(depot.offline, depot.targets, NOW)
        return
    with pytest.raises(BadInput, match="names another key"):
        depot.carry()
    refused(depot, "forged")
    depot.carry(keys=replace(old, **{role: new}))
    assert depot.fetch().path.read_bytes() == CONTENT


def test_the_repository_of_another_region_is_not_believed(depot, tmp_path):
    stranger, targets = make_ed25519(), make_ed25519()
    named = {
        "snapshot": depot.online.snapshot.public_key(),
        "timestamp": depot.online.timestamp.public_key(),
    }
    other = tmp_path / "other"
    updates.create(other, stranger, targets, named, NOW)
    updates.publish(other, targets, NOW, releases=[updates.Release(model("mtcnn", "1.0.0"), b"x")])
    with pytest.raises(BadInput, match="another repository"):
        updates_online.take(other, depot.center)
    shutil.rmtree(depot.center)
    updates_online.take(other, depot.center)
    updates_online.refresh(depot.center, depot.online, NOW)
    refused(depot, "root_not_named")


@pytest.mark.parametrize("other", ["config-1", "filing", "tuf-targets"])
def test_no_other_key_of_the_region_can_be_the_first_roots(depot, other):
    words = {"tuf-targets": "updates-targets"}
    key = depot._key(f"offline/{other}.key", words.get(other, other))

    def replace_key(root):
        root.revoke_key(key_id(depot.root.public_key()), "root")
        root.add_key(updates.tuf_key(key.public_key()), "root")

    depot.resign(depot.metadata("1.root.json"), [key], replace_key)
    refused(depot, "root_not_named")


def test_a_first_root_that_its_own_key_has_not_signed_is_not_believed(depot):
    held = Metadata.from_bytes(depot.metadata("1.root.json").read_bytes())
    held.signatures.clear()
    depot.metadata("1.root.json").write_bytes(held.to_bytes())
    refused(depot, "root_not_named")


def test_a_school_key_for_updates_is_none_for_the_region(depot):
    mine = next(one for one in depot.trust.keys if one.purpose is Purpose.UPDATES)
    others = tuple(one for one in depot.trust.keys if one is not mine)
    refused(
        depot,
        "root_not_named",
        trust=replace(depot.trust, keys=(*others, replace(mine, scope="s1"))),
    )


# The line


def test_a_centre_of_another_authority_is_a_stranger(depot, tmp_path):
    depot.servers = (
        Region(tmp_path / "elsewhere").center_folder.joinpath("servers-ca.pem").read_text()
    )
    with pytest.raises(Stranger):
        depot.fetch()


@pytest.mark.parametrize("status", [301, 302, 307, 500, 206])
def test_no_redirect_is_followed_and_no_other_answer_taken(depot, region, status):
    def answer(handler, content):
        handler.whole(content, status, Location=f"{depot.url}{handler.path}")

    with lying(region, answer) as url, pytest.raises(Unreachable, match=f"status {status}"):
        depot.fetch(url=url)


def test_a_part_that_was_not_asked_for_is_not_taken(depot, region):
    def answer(handler, content):
        if handler.headers["Range"] is None:
            return handler.whole(content)
        return handler.whole(content[5:], 206, Content_Range=f"bytes 5-{len(content) - 1}/9")

    with lying(region, answer) as url, pytest.raises(Unreachable, match="another part"):
        depot.fetch(url=url)
    assert whole_files(depot) == []
