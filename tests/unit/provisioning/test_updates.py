from datetime import UTC, datetime, timedelta

import pytest
from tuf.api.metadata import Metadata

from ketang_contract.errors import BadInput
from ketang_contract.updates import Kind, Target, is_served, model
from ketang_provisioning import updates, updates_online
from ketang_provisioning.keys import make_ed25519
from ketang_provisioning.updates import Release

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
DAY = timedelta(days=1)


class Made:
    def __init__(self, folder):
        self.folder = folder / "offline"
        self.center = folder / "center"
        self.root, self.targets = make_ed25519(), make_ed25519()
        self.online = updates_online.OnlineKeys(make_ed25519(), make_ed25519())
        public = {
            "snapshot": self.online.snapshot.public_key(),
            "timestamp": self.online.timestamp.public_key(),
        }
        updates.create(self.folder, self.root, self.targets, public, NOW)

    def publish(self, *releases, **more):
        return updates.publish(self.folder, self.targets, NOW, releases=releases, **more)

    def take(self):
        return updates_online.take(self.folder, self.center)

    def refresh(self, now=NOW):
        return updates_online.refresh(self.center, self.online, now)

    def timestamp(self):
        return Metadata.from_file(str(self.center / "metadata" / "timestamp.json")).signed


def one(version="1.0.0", content=b"weights"):
    return Release(model("mtcnn", version), content)


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path)


def test_roles_hold_for_as_long_as_each_is_meant_to(made):
    made.publish(one())
    made.take()
    made.refresh()
    root = updates.roots(made.folder)[-1].signed
    snapshot = Metadata.from_file(str(updates.versions(made.center, "snapshot")[-1])).signed
    lasts = [
        (each.expires - NOW).days
        for each in (root, updates.listing(made.folder).signed, snapshot, made.timestamp())
    ]
    assert lasts == [365, 90, 7, 1]
    assert root.consistent_snapshot


def test_a_repository_is_made_once_and_a_run_that_died_is_done_again(made):
    with pytest.raises(BadInput, match="holds a repository already"):
        updates.create(made.folder, made.root, made.targets, {}, NOW)
    (made.folder / "metadata" / "1.root.json").unlink()
    public = {
        "snapshot": made.online.snapshot.public_key(),
        "timestamp": made.online.timestamp.public_key(),
    }
    updates.create(made.folder, made.root, made.targets, public, NOW)
    assert len(updates.roots(made.folder)) == 1


def test_one_version_stands_for_one_content(made):
    assert made.publish(one()) == 2
    assert made.publish(one()) == 3
    with pytest.raises(BadInput, match="a version of its own"):
        made.publish(one(content=b"other"))


def test_what_is_withdrawn_is_listed_no_more(made):
    made.publish(one(), one("1.1.0"))
    made.publish(withdrawn=["model/mtcnn/1.0.0.zip"])
    assert [
        target.version for target, _ in updates.described(updates.listing(made.folder).signed)
    ] == ["1.1.0"]
    with pytest.raises(BadInput, match="is not listed"):
        made.publish(withdrawn=["model/mtcnn/1.0.0.zip"])


def test_an_agent_release_keeps_its_wheels_name(made):
    wheel = "ketang-0.2.0-py3-none-any.whl"
    made.publish(
        Release(Target(kind=Kind.AGENT, name="ketang", version="0.2.0", file=wheel), b"PK")
    )
    (path,) = made.folder.glob("targets/agent/ketang/*")
    assert path.name.partition(".")[2] == wheel
    assert is_served(str(path.relative_to(made.folder)))


@pytest.mark.parametrize(
    "said",
    [
        {"version": ".."},
        {"version": "1/2"},
        {"name": "Mtcnn"},
        {"file": "../x"},
        {"min_agent": "1.x"},
        {"digest": "abc"},
    ],
)
def test_a_target_has_names_that_are_files_or_is_none(said):
    with pytest.raises(ValueError, match="not a target's names"):
        Target(**{"kind": Kind.MODEL, "name": "mtcnn", "version": "1", "file": "1.zip"} | said)


def test_the_online_roles_are_signed_again_only_when_it_is_time(made):
    made.publish(one())
    made.take()
    assert made.refresh()
    assert not made.refresh(NOW + timedelta(hours=5))
    first = made.timestamp().version
    assert made.refresh(NOW + timedelta(hours=7))
    assert made.timestamp().version > first
    snapshots = len(updates.versions(made.center, "snapshot"))
    made.refresh(NOW + DAY)
    assert len(updates.versions(made.center, "snapshot")) == snapshots
    made.refresh(NOW + 2 * DAY)
    assert len(updates.versions(made.center, "snapshot")) == snapshots + 1


def test_a_centre_whose_clock_stood_wrong_signs_again_when_it_is_right(made):
    made.publish(one())
    made.take()
    made.refresh(NOW + 400 * DAY)
    assert made.refresh(NOW)
    assert made.timestamp().expires == NOW + DAY


def test_a_centre_put_back_from_a_backup_does_not_repeat_its_numbers(made):
    made.publish(one())
    made.take()
    made.refresh(NOW)
    kept = {path: path.read_bytes() for path in made.center.rglob("*.json")}
    for days in range(1, 6):
        made.refresh(NOW + days * DAY)
    seen = made.timestamp().version
    for path in made.center.rglob("*.json"):
        path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)
    made.refresh(NOW + 5 * DAY + timedelta(minutes=1))
    assert made.timestamp().version > seen


def test_old_snapshots_go(made):
    made.publish(one())
    made.take()
    for days in range(0, 80, 2):
        made.refresh(NOW + days * DAY)
    assert len(updates.versions(made.center, "snapshot")) == 20


def test_a_list_on_its_way_does_not_stop_the_centre_from_confirming_the_one_before(made):
    made.publish(one())
    made.take()
    made.refresh()
    before = made.timestamp()
    made.publish(one("1.1.0", b"newer"))
    made.take()
    (path,) = made.center.glob("targets/model/mtcnn/*.1.1.0.zip")
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(BadInput, match="missing or damaged"):
        made.refresh(NOW + timedelta(hours=7))
    assert made.timestamp().version > before.version
    assert made.timestamp().snapshot_meta == before.snapshot_meta
    path.write_bytes(content)
    assert made.refresh(NOW + timedelta(hours=8))
    assert made.timestamp().snapshot_meta != before.snapshot_meta


def test_a_crash_between_snapshot_and_timestamp_is_mended(made):
    made.publish(one())
    made.take()
    made.refresh()
    latest = updates.versions(made.center, "snapshot")[-1]
    (made.center / "metadata" / "timestamp.json").unlink()
    assert made.refresh()
    assert made.timestamp().snapshot_meta == updates_online._meta(latest)


def test_the_centre_takes_nothing_older_or_damaged_or_of_another_repository(made, tmp_path):
    made.publish(one())
    assert made.take() == (1, 2)
    assert made.take() == (1, 2)
    old = updates.versions(made.folder, "targets")[-1]
    made.publish(one("1.1.0"))
    made.take()
    newest = updates.versions(made.folder, "targets")[-1]
    content = newest.read_bytes()
    newest.unlink()
    assert updates.versions(made.folder, "targets")[-1] == old
    with pytest.raises(BadInput, match="older than what is here"):
        made.take()
    newest.write_bytes(content)
    made.publish(one("1.2.0"))
    (path,) = made.folder.glob("targets/model/mtcnn/*.1.2.0.zip")
    path.write_bytes(b"damaged")
    with pytest.raises(BadInput, match="missing or damaged"):
        made.take()
    assert len(updates.versions(made.center, "targets")) == 3
    (tmp_path / "x").mkdir()
    other = Made(tmp_path / "x")
    with pytest.raises(BadInput, match="another repository"):
        updates_online.take(other.folder, made.center)


def test_only_the_roots_own_targets_key_publishes(made):
    with pytest.raises(BadInput, match="not the one that root 1 names for targets"):
        updates.publish(made.folder, made.root, NOW)


def test_a_replaced_targets_key_signs_the_list_at_once(made):
    made.publish(one())
    key = make_ed25519()
    with pytest.raises(BadInput, match="has to sign the list"):
        updates.rotate(made.folder, [made.root], NOW, replaced={"targets": key.public_key()})
    assert len(updates.roots(made.folder)) == 1
    replaced = {"targets": key.public_key()}
    updates.rotate(made.folder, [made.root], NOW, replaced=replaced, targets_key=key)
    assert "model/mtcnn/1.0.0.zip" in updates.listing(made.folder).signed.targets
    assert updates.publish(made.folder, key, NOW) == 4


def test_a_root_is_renewed_by_its_own_key(made):
    assert updates.rotate(made.folder, [made.root], NOW + 300 * DAY) == 2
    assert updates.roots(made.folder)[-1].signed.expires == NOW + 665 * DAY


def test_the_chain_of_roots_is_looked_at_every_time(made):
    updates.rotate(made.folder, [made.root], NOW)
    updates.rotate(made.folder, [made.root], NOW)
    (made.folder / "metadata" / "2.root.json").unlink()
    with pytest.raises(BadInput, match="does not follow"):
        updates.roots(made.folder)


def test_a_check_names_what_is_missing_and_what_has_expired(made):
    made.publish(one())
    assert all(fine for _, fine in updates.check(made.folder, NOW))
    assert [fine for _, fine in updates.check(made.folder, NOW + 91 * DAY)] == [True, False, True]
    next(made.folder.glob("targets/model/mtcnn/*")).unlink()
    assert [fine for _, fine in updates.check(made.folder, NOW)] == [True, True, False]


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff"])
def test_what_is_no_metadata_is_told_in_one_line(made, raw):
    (made.folder / "metadata" / "1.root.json").write_bytes(raw)
    with pytest.raises(BadInput, match="not TUF metadata"):
        updates.roots(made.folder)
