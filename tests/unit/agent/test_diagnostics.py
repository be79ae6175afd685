"""The diagnostics archive: what is in it, and above all what can never be."""

import json
import logging
import re
import socket
import zipfile
from pathlib import Path

import pytest
from tests.unit.agent.test_local_page import STATUS

from ketang_agent import diagnostics
from ketang_agent.collectors.network import BrokerLink
from ketang_agent.doctor import Check, Verdict
from ketang_agent.log_tail import AREAS, HIDDEN, LogTail, phrase
from ketang_agent.remote.commands_probe import prober
from ketang_agent.settings import OccupancySettings, Settings
from ketang_agent.status import to_json
from ketang_agent.uplink.client import Broker
from ketang_contract.commands import MAX_ARCHIVE_BYTES
from ketang_contract.records import EventName, Family, Fault

MARKERS = (
    "zhangsan",
    "张三",
    "TEACHER-PC-07",
    "/home/" + "zhangsan/桌面",
    "C:\\Users\\zhangsan",
    "192.168.7.31",
    "fd00:7::31",
    "aa:bb:cc:dd:ee:ff",
    "Class-3-WiFi",
    "五年级期中试卷.docx - WPS",
    "https://example.org/secret",
    "138" + "00138000",
)


def settings(folder, marker="") -> Settings:
    return Settings(
        device="s1-pc-1",
        center_id="c-1",
        profile="ifp",
        data_dir=folder,
        broker=Broker(
            host=marker or "192.168.7.31",
            port=8883,
            ca_file=folder / "ca",
            certificate_file=folder / "certificate",
            key_file=folder / "zhangsan.key",
        ),
        contact="张三 13800138000",
        occupancy=OccupancySettings(source=f"rtsp://{marker or 'x'}/stream"),
    )


def planted(folder, marker):
    """Every source of an archive with a marker wherever a text could come from outside."""
    status = to_json(STATUS) | {"contact": marker, "user": marker}
    status["uplink"] |= {"broker": f"{marker}:8883", "ssid": marker}
    status["spool"] |= {"trouble": f"unable to open {marker}", "path": marker}
    status["collectors"] = [
        {"name": "host", "interval_s": 60, "result": "failing", "why": f"[Errno 13] {marker}"}
    ]
    (folder / "remote").mkdir(exist_ok=True)
    machine = {"in_force": {"occupancy_s": 10}, "running": "0" * 64, "held": {"x": marker}}
    (folder / "remote" / "remote.json").write_text(
        json.dumps({"sum": "", "machine": machine | {"candidate": marker, "new": marker}})
    )
    checks = [Check("disk", Verdict.WRONG, f"{marker}: Permission denied", f"see {marker}")]
    return diagnostics.Sources(
        settings=settings(folder, marker), status=status, checks=checks, log=logged(marker)
    )


def logged(marker):
    """Lines of the log, with a marker in every place a value or a careless message has."""
    tail, log = LogTail(), logging.getLogger("ketang.planted")
    log.addHandler(tail)
    log.propagate = False
    try:
        for line in (
            "broker.lost why=%s",
            "local_page.open url=%s",
            "switch.stopped uid=%s",
            "spool.evicted records=%s",
            "spool.log grip=%s before=free",
            "config.refused hash=%.12s why=%s",
            "%s fault=%s",
            "user.came name=%s",
        ):
            log.warning(line, *[marker] * line.count("%"))
        log.warning(marker)
        log.warning("broker.lost why=" + marker)  # noqa: G003  (what a careless line looks like)
        log.warning(f"{marker}.x why=x")  # noqa: G004
        log.warning("%(name)s", {"name": marker})
        log.warning({"name": marker})
        try:
            Path("/nowhere", marker).read_bytes()
        except OSError:
            log.exception("spool.failed why=%s", marker)
        logging.getLogger(f"ketang.planted.{marker}").warning("x.y")
    finally:
        log.removeHandler(tail)
    return tail.lines()


@pytest.mark.parametrize("marker", MARKERS)
def test_nothing_of_a_person_or_a_place_ever_gets_into_an_archive(tmp_path, marker):
    diagnostics.write(planted(tmp_path, marker), tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        texts = {one: archive.read(one).decode() for one in archive.namelist()}
    for name, text in texts.items():
        for one in (marker, "zhangsan" if "zhangsan" in marker else marker):
            assert one.lower() not in text.lower(), (name, one)
    assert len(texts) == 8


def test_an_archive_says_what_helps(tmp_path):
    sources = planted(tmp_path, "zhangsan")
    made = diagnostics.files(sources)
    assert json.loads(made["versions.json"])["agent"]
    assert json.loads(made["status.json"])["uplink"]["connected"] is True
    assert json.loads(made["spool.json"])["lanes"][0]["pending"] == 7
    assert json.loads(made["config.json"]) == {
        "in_force": {"occupancy_s": 10},
        "running": "0" * 64,
    }
    assert json.loads(made["doctor.json"]) == [
        {"name": "disk", "verdict": "wrong", "found": "Permission denied"}
    ]
    assert json.loads(made["settings.json"])["broker_named_by"] == "name"
    assert "exception=FileNotFoundError" in made["log.txt"]
    assert made["README.txt"].count(".json") == 6


def test_a_device_without_a_configuration_or_a_running_agent_still_has_an_archive(tmp_path):
    sources = diagnostics.Sources(settings=settings(tmp_path), status=None, checks=[])
    diagnostics.write(sources, tmp_path / "deep" / "out.zip")
    made = diagnostics.read(tmp_path / "deep" / "out.zip")
    assert json.loads(made["config.json"]) is None
    assert json.loads(made["settings.json"])["broker_named_by"] == "ipv4"


def test_a_log_keeps_what_is_ours_word_for_word():
    tail, log = LogTail(), logging.getLogger("ketang.spool")
    log.addHandler(tail)
    try:
        log.warning("spool.evicted records=%d", 12)
        log.warning("spool.dropping why=memory_full bound=%d", 500)
        log.warning("broker.lost why=%s", OSError(111, "Connection refused"))
        log.warning("command.refused job=%s reason=%s", "j-1", "expired")
        log.warning("config.%s hash=%.12s why=%s", "committed", "0" * 64, "-")
        log.warning("%s fault=%s", EventName.FAULT_RAISED, Fault.DISK_LOW)
        log.warning("config.%s", "zhangsan")
    finally:
        log.removeHandler(tail)
    said = [line.partition("ketang.spool ")[2] for line in tail.lines()]
    assert said == [
        "spool.evicted records=12",
        "spool.dropping why=memory_full bound=500",
        "broker.lost why=[Connection refused]",
        f"command.refused job={HIDDEN} reason=expired",
        f"config.committed hash={HIDDEN} why={HIDDEN}",
        "fault_raised fault=disk_low",
        f"config.{HIDDEN}",
    ]


def test_every_area_the_agent_logs_of_is_known():
    sources = Path(diagnostics.__file__).parent.rglob("*.py")
    texts = "".join(one.read_text("utf-8") for one in sources)
    said = re.findall(r"log\.(?:debug|info|warning|error|exception)\(\s*\"([a-z_]+)\.", texts)
    assert set(said) <= AREAS


def test_a_log_is_bounded_and_an_archive_never_larger_than_it_may_be(tmp_path):
    tail, log = LogTail(), logging.getLogger("ketang.much")
    log.addHandler(tail)
    log.propagate = False
    for at in range(1000):
        log.warning("x.y records=%d", at)
    log.removeHandler(tail)
    assert len(tail.lines()) == 400
    noise = [f"{at * 2654435761 % 2**64:016x}" * 8 for at in range(40_000)]
    sources = diagnostics.Sources(
        settings=settings(tmp_path), status=None, checks=[], log=[*noise, "last"]
    )
    diagnostics.write(sources, tmp_path / "out.zip")
    assert (tmp_path / "out.zip").stat().st_size <= MAX_ARCHIVE_BYTES
    assert diagnostics.read(tmp_path / "out.zip")["log.txt"].endswith("last\n")


def test_the_systems_own_phrase_is_all_that_is_kept_of_a_failure():
    assert phrase("[Errno 28] No space left on device: '/x/zhangsan'") == "No space left on device"
    assert phrase("zhangsan") == ""


def test_only_the_newest_archives_stay(tmp_path):
    for at in range(5):
        (tmp_path / f"diagnostics-{at}.zip").write_bytes(b"x")
    (tmp_path / "remote.json").write_bytes(b"x")
    diagnostics.forget_old(tmp_path)
    assert len(list(tmp_path.glob("*.zip"))) == 3
    assert (tmp_path / "remote.json").exists()


def test_what_is_no_archive_is_said_to_be_none(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"no")
    with pytest.raises(OSError, match="not an archive"):
        diagnostics.read(tmp_path / "x.zip")


def test_the_supervisors_maker_writes_it_on_a_thread_and_says_when_it_could_not(tmp_path):
    bundle = diagnostics.maker(settings(tmp_path), lambda: to_json(STATUS), lambda: ["a line"])
    question = bundle(tmp_path / "remote" / "diagnostics-j.zip")
    question.start()
    question.wait(60)
    assert question.latest == ""
    assert diagnostics.read(tmp_path / "remote" / "diagnostics-j.zip")["log.txt"] == "a line\n"
    (tmp_path / "file").write_bytes(b"")
    question = bundle(tmp_path / "file" / "x.zip")
    question.start()
    question.wait(60)
    assert question.latest == "failed"


def test_the_command_writes_one_without_a_running_agent(tmp_path, capsys):
    from ketang_cli.main import main

    (tmp_path / "agent.toml").write_text(
        'device = "s1-pc-1"\ncenter_id = "c-1"\nprofile = "ifp"\ndata_dir = "data"\n'
        'broker_host = "broker"\nca = "a"\ncertificate = "b"\nkey = "c"\nlocal_port = 0\n'
    )
    out = tmp_path / "made.zip"
    words = ["--settings", str(tmp_path / "agent.toml"), "--out", str(out)]
    assert main(["agent", "diagnostics", *words]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert json.loads(diagnostics.read(out)["status.json"]) is None
    assert main(["agent", "diagnostics", *words[:-1], str(tmp_path / "agent.toml" / "x")]) == 2


def test_a_probe_tells_how_far_it_came(free_port):
    link = BrokerLink(Family.V4, 4)
    with socket.create_server(("127.0.0.1", 0)) as ear:
        probe = prober("127.0.0.1", ear.getsockname()[1], lambda: link)
        probe.start()
        probe.wait(30)
    assert (probe.latest.family, probe.latest.rtt_ms) == (Family.V4, 4)
    assert probe.latest.dns_ms is not None
    assert probe.latest.connect_ms is not None
    probe = prober("127.0.0.1", free_port, BrokerLink)
    probe.start()
    probe.wait(30)
    assert probe.latest.dns_ms is not None
    assert probe.latest.connect_ms is None
