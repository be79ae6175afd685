"""``ketang provision status``: what ends when, and whether somebody has to act."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from ketang_cli.main import main
from ketang_provisioning import expiry, region, region_files
from ketang_provisioning.certificates import make_authority
from ketang_provisioning.keys import make_ec

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
PLAN = region.Plan(region_name="A", center_hosts=("c.example",), broker_hosts=("b.example",))


def made(folder, now=NOW):
    files = region.make(PLAN, region.new_passphrases(), now=now)
    files[region_files.READ_ME] = b"-"
    region_files.put(folder, files, announce=lambda: None)
    return folder


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    return made(tmp_path_factory.mktemp("status") / "region")


def status(folder, capsys, *more):
    code = main(["provision", "status", str(folder), *more])
    return code, capsys.readouterr().out


def test_it_tells_every_certificate_key_list_and_the_document_once(fresh, capsys):
    code, said = status(fresh, capsys, "--json", "--lang", "en")
    items = json.loads(said)["items"]
    assert code == 0
    assert [one["kind"] for one in items].count("key") == 6
    assert sorted((one["kind"], one["name"]) for one in items if one["kind"] != "key") == [
        ("clients_ca", "A clients CA"),
        ("crl", "0"),
        ("own", "center_ingest"),
        ("server", "broker"),
        ("server", "center"),
        ("servers_ca", "A servers CA"),
        ("trust", "1"),
    ]
    assert {one["kind"] for one in items if one["renews_itself"]} == {"crl", "own"}
    document = next(one for one in items if one["kind"] == "trust")
    assert document["files"] == ["center/trust.json", "installer/trust.json", "offline/trust.json"]
    assert document["days_left"] in {728, 729, 730}
    assert all(one["do"] and one["due"] <= one["ends"] for one in items)


def test_every_machine_can_ask_about_its_own_folder(fresh, capsys):
    code, said = status(fresh / "broker", capsys, "--lang", "en")
    assert code == 0
    assert "server certificate of broker" in said
    assert "renews" not in said
    assert "ketang provision server-certificate --name broker --host b.example" in said
    assert "systemctl restart ketang-broker" in said
    code, said = status(fresh / "broker", capsys, "--lang", "zh")
    assert "服务器证书" in said


def test_thirty_days_before_a_persons_duty_it_exits_with_1(tmp_path, capsys):
    assert status(made(tmp_path / "good", NOW - 366 * DAY) / "center", capsys)[0] == 0
    code, said = status(
        made(tmp_path / "late", NOW - 368 * DAY) / "center", capsys, "--json", "--lang", "en"
    )
    pressing = {one["name"] for one in json.loads(said)["items"] if one["pressing"]}
    assert (code, pressing) == (1, {"center"})


def test_a_list_that_should_have_renewed_itself_exits_with_1_a_week_before(tmp_path, capsys):
    assert status(made(tmp_path / "good", NOW - 22 * DAY) / "broker", capsys)[0] == 0
    assert status(made(tmp_path / "late", NOW - 24 * DAY) / "broker", capsys)[0] == 1


def test_what_has_ended_has_negative_days(tmp_path):
    found = expiry.survey(made(tmp_path / "old", NOW - 400 * DAY) / "broker", print)
    assert [one.days_left(NOW) < 0 for one in found if one.renewal == "server"] == [True]


def test_a_folder_with_nothing_that_ends_is_a_mistake(tmp_path, capsys):
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "a.pem").write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----")
    (tmp_path / "a.crl").write_text("-----BEGIN X509 CRL-----\nno\n-----END X509 CRL-----")
    (tmp_path / "big.pem").write_bytes(bytes(1 << 17))
    assert status(tmp_path, capsys)[0] == 2
    assert status(tmp_path / "missing", capsys)[0] == 2


def lists(days, count=1):
    """One file of lists, each of an authority of its own, that last so many days."""
    serials = [(one, NOW) for one in range(1, count + 1)]
    made_by = (
        make_authority(f"A {at}", make_ec(), "clients", now=NOW, lasts=900 * DAY)
        for at in range(len(days))
    )
    return b"".join(
        one.revocation_list(serials, now=NOW, lasts=last * DAY, number=1)
        for one, last in zip(made_by, days, strict=True)
    )


def test_of_a_file_with_two_lists_the_first_to_end_counts(tmp_path):
    (tmp_path / "a.crl").write_bytes(lists([30, 3]))
    (found,) = expiry.survey(tmp_path, print)
    assert (found.name, found.days_left(NOW)) == ("2", 2)


def test_a_list_of_many_revoked_is_read_whole(tmp_path):
    raw = lists([9], count=3000)
    assert len(raw) > 64 << 10
    (tmp_path / "a.crl").write_bytes(raw)
    (found,) = expiry.survey(tmp_path, print)
    assert (found.name, found.days_left(NOW)) == ("3000", 8)


def test_a_file_that_cannot_be_read_is_one_line_and_the_rest_is_told(tmp_path, capsys):
    (tmp_path / "a.crl").write_bytes(lists([30]))
    (tmp_path / "bad.pem").symlink_to("/proc/self/mem")
    assert main(["provision", "status", str(tmp_path), "--lang", "en"]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "bad.pem: cannot be read" in said.err
    assert "revocation list" in said.out


def test_the_centres_own_certificate_renews_itself_only_if_the_settings_say_so(tmp_path, capsys):
    center = made(tmp_path / "region") / "center"
    assert "renews itself" in status(center, capsys, "--lang", "en")[1]
    settings = center / "center.toml"
    text = settings.read_text().replace('\nkey = "center_ingest.pem"', '\nkey = "other.key"', 1)
    settings.write_text(text)
    said = status(center, capsys, "--lang", "en")[1]
    assert "renews itself" not in said
    assert "client-certificate --name center_ingest" in said
