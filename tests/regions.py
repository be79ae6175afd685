"""A whole region in a temporary folder: its keys as ``provision init`` makes them, schools, codes.

``Region(folder)`` writes files only; ``center()`` and a ``LocalBroker`` run over them.
"""

import json
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ketang_center.enrolment.book import Book
from ketang_center.enrolment.values import Asset, Code
from ketang_center.registry.database import Registry
from ketang_center.registry.values import Data, Kind, Level, Unit
from ketang_cli.local_broker import REFUSALS, LocalBroker, free_port
from ketang_contract.kit import Kit
from ketang_provisioning import codes, kits, region, region_files
from ketang_provisioning.ca import Identity
from ketang_provisioning.keys import load_private

KETANG = [sys.executable, "-m", "ketang_cli.main"]
DAY_MS = 86_400_000
SCHOOLS = ("s1", "s2")
UNITS = (
    Unit(id="lan", level=Level.REGION, name_zh="岚川", name_en="Lanchuan"),
    Unit(id="lan-shi", level=Level.CITY, parent="lan", name_zh="云溪市", name_en="Yunxi"),
    Unit(id="lan-xian", level=Level.COUNTY, parent="lan-shi", name_zh="青禾县", name_en="Qinghe"),
    *(
        Unit(id=one, level=Level.SCHOOL, parent="lan-xian", name_zh=f"{one} 校", name_en=one)
        for one in SCHOOLS
    ),
    *(
        Unit(id=f"{one}-r1", level=Level.ROOM, parent=one, name_zh="一班", name_en="Class 1")
        for one in SCHOOLS
    ),
)


def now_ms() -> int:
    return time.time_ns() // 10**6


class Region:
    def __init__(self, folder: Path, *, host: str = "127.0.0.1", now=None) -> None:
        self.folder, self.host = folder / "region", host
        plan = region.Plan(
            region_name="Lanchuan",
            center_hosts=(host, "localhost"),
            broker_hosts=(host, "localhost"),
        )
        self.passphrases = region.new_passphrases()
        files = region.make(plan, self.passphrases, now=now or datetime.now(UTC))
        region_files.put(self.folder, files | {"READ-ME.txt": b"read me"}, announce=lambda: None)
        self.center_folder = self.folder / "center"
        self.data_dir = self.center_folder / "data"
        self.data_dir.mkdir(mode=0o700)
        self.fingerprint = (self.folder / "installer" / "root.fingerprint").read_text().strip()
        self.code_key = codes.read_key(self.center_folder / "code.key")
        both = self.folder / "both-ca.pem"
        both.write_bytes(
            (self.center_folder / "servers-ca.pem").read_bytes()
            + (self.center_folder / "clients-ca.pem").read_bytes()
        )
        self.broker_identity = Identity(
            both, self.folder / "broker" / "broker.pem", self.folder / "broker" / "broker.key"
        )
        self.enrol_port, self.web_port, self.broker_port = (free_port(host) for _ in range(3))
        with Registry(self.data_dir / "registry.db") as registry:
            registry.load(Data(units=UNITS))

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.enrol_port}"

    def broker(self, program=None, **more) -> LocalBroker:
        return LocalBroker(
            self.folder / "running-broker",
            self.broker_identity,
            program=program,
            port=self.broker_port,
            host=self.host,
            crl_file=self.crl,
            **more,
        )

    @property
    def crl(self) -> Path:
        """Where the centre writes the revocation list and the broker reads it."""
        return self.folder / "broker" / "clients.crl"

    def settings(self, *, offsite: Path | None = None, **enrolment) -> Path:
        """Write the centre's settings with this machine's free ports."""
        made = (self.center_folder / "center.toml").read_text("utf-8")
        top, _, table = made.partition("[enrolment]")
        said = {
            "web_host": self.host,
            "web_port": self.web_port,
            "broker_port": self.broker_port,
            "broker_refusals": str(self.folder / "running-broker" / REFUSALS),
            **({"offsite": str(offsite)} if offsite else {}),
        }
        told = {
            "host": self.host,
            "port": self.enrol_port,
            "url": self.url,
            "broker_port": self.broker_port,
            "crl": str(self.crl),
            **enrolment,
        }
        file = self.center_folder / "center-test.toml"
        file.write_text(f"{_changed(top, said)}\n[enrolment]\n{_changed(table, told)}", "utf-8")
        return file

    def register(self, count: int, school: str = "s1", kind: Kind = Kind.OPS_PC) -> list[Asset]:
        """Pre-register assets of a school, ``SN-school-0001`` and on."""
        assets = [
            Asset(
                device=f"{school}-pc-{no}",
                school=school,
                asset=f"A{no}",
                room=f"{school}-r1",
                kind=kind,
                serial=f"SN-{school.upper()}-{no:04}",
            )
            for no in range(1, count + 1)
        ]
        with Book(self.data_dir / "enrolment.db") as book:
            book.add_assets(assets)
        return assets

    def code(self, school: str = "s1", uses: int = 200, *, days: float = 7, text: str = "") -> str:
        text = text or codes.new_code()
        found = codes.fingerprint(text, self.code_key)
        with Book(self.data_dir / "enrolment.db") as book:
            book.add_code(
                Code(
                    id=codes.code_id(found),
                    fingerprint=found,
                    school=school,
                    uses=uses,
                    used=0,
                    expires_ms=now_ms() + int(days * DAY_MS),
                    made_ms=now_ms(),
                    made_by="test",
                )
            )
        return text

    def kit(self, target: Path, code: str, school: str = "s1", *, days: float = 7) -> Path:
        now_s = now_ms() // 1000
        kit = Kit(
            url=self.url,
            code=code,
            school=school,
            made_s=now_s,
            expires_s=now_s + int(days * 86_400),
        )
        key = load_private(self.center_folder / "kit.key", None)
        kits.write_kit(target, kit, key, (self.center_folder / "trust.json").read_bytes())
        return target

    def device_folder(self, folder: Path) -> Path:
        """Make what an installer leaves: the fingerprint, and nothing else."""
        folder.mkdir(mode=0o700, parents=True)
        shutil.copy(self.folder / "installer" / "root.fingerprint", folder)
        return folder

    @contextmanager
    def center(self, **settings):
        """Run ``ketang center serve`` until it enrols; ended in order."""
        file = self.settings(**settings)
        log = (self.folder / "center.log").open("ab")
        process = subprocess.Popen(
            [*KETANG, "center", "serve", "--settings", str(file)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            _wait_for_port(self.host, self.enrol_port, process)
            yield process
        finally:
            log.close()
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=60)

    def log(self) -> str:
        return (self.folder / "center.log").read_text("utf-8", "replace")


def enroll(folder: Path, *words: str, timeout: float = 60):
    """Run ``ketang enroll`` as a technician would; the process with all it said."""
    return subprocess.run(
        [*KETANG, "enroll", "--dir", str(folder), *words],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def _changed(text: str, values: dict) -> str:
    lines = [line for line in text.splitlines() if line.partition(" = ")[0] not in values]
    return (
        "\n".join([*lines, *(f"{key} = {json.dumps(one)}" for key, one in values.items())]) + "\n"
    )


def _wait_for_port(host: str, port: int, process) -> None:
    import socket

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the centre ended with {process.returncode}")
        try:
            socket.create_connection((host, port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the centre does not enrol")
