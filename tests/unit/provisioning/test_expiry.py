"""``ketang provision status``: what ends when, and whether somebody has to act."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from ketang_cli.main import main
from ketang_provisioning import expiry, region, region_files

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
        ("server", "broker"),
        ("server", "center"),
        ("servers_ca", "A servers CA"),
        ("service", "center_ingest"),
        ("trust", "1"),
    ]
    assert {one["kind"] for one in items if one["renews_itself"]} == {"crl"}
    document = next(one for one in items if one["kind"] == "trust")
    assert document["files"] == ["center/trust.json", "installer/trust.json", "offline/trust.json"]
    assert document["days_left"] in {728, 729, 730}
    assert all(one["do"] and one["due"] <= one["ends"] for one in items)


def test_every_machine_can_ask_about_its_own_folder(fresh, capsys):
    code, said = status(fresh / "broker", capsys, "--lang", "en")
    assert code == 0
    assert "server certificate of broker" in said
    assert "renews" not in said
    assert "ketang provision server-certificate" in said
    code, said = status(fresh / "broker", capsys, "--lang", "zh")
    assert "服务器证书" in said


def test_thirty_days_before_a_persons_duty_it_exits_with_1(tmp_path, capsys):
    assert status(made(tmp_path / "good", NOW - 366 * DAY) / "center", capsys)[0] == 0
    code, said = status(
        made(tmp_path / "late", NOW - 368 * DAY) / "center", capsys, "--json", "--lang", "en"
    )
    pressing = {one["name"] for one in json.loads(said)["items"] if one["pressing"]}
    assert (code, pressing) == (1, {"center", "center_ingest"})


def test_a_list_that_should_have_renewed_itself_exits_with_1_a_week_before(tmp_path, capsys):
    assert status(made(tmp_path / "good", NOW - 22 * DAY) / "broker", capsys)[0] == 0
    assert status(made(tmp_path / "late", NOW - 24 * DAY) / "broker", capsys)[0] == 1


def test_what_has_ended_has_negative_days(tmp_path):
    found = expiry.survey(made(tmp_path / "old", NOW - 400 * DAY) / "broker")
    assert [one.days_left(NOW) < 0 for one in found if one.renewal == "server"] == [True]


def test_a_folder_with_nothing_that_ends_is_a_mistake(tmp_path, capsys):
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "a.pem").write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----")
    (tmp_path / "a.crl").write_text("-----BEGIN X509 CRL-----\nno\n-----END X509 CRL-----")
    (tmp_path / "big.pem").write_bytes(bytes(1 << 17))
    assert status(tmp_path, capsys)[0] == 2
    assert status(tmp_path / "missing", capsys)[0] == 2
