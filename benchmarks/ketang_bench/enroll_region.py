"""The region that two hundred devices enrol in: keys as ``provision init`` makes them, one kit."""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from ketang_center.enrolment.book import Book
from ketang_center.enrolment.values import Asset, Code
from ketang_center.registry.database import Registry
from ketang_center.registry.values import Data, Level, Unit
from ketang_center.registry.values import Kind as DeviceKind
from ketang_cli.local_broker import LocalBroker, Program, free_port
from ketang_provisioning import brokers, codes, kits, region, region_files
from ketang_provisioning.ca import Identity
from ketang_provisioning.keys import load_private

HOST = "127.0.0.1"
SCHOOL = "bench-school"
_DAYS = 7
_DAY_S = 86_400
_UNITS = (
    Unit(id="bench", level=Level.REGION, name_zh="基准", name_en="Benchmark"),
    Unit(id="bench-city", level=Level.CITY, parent="bench", name_zh="市", name_en="City"),
    Unit(
        id="bench-county", level=Level.COUNTY, parent="bench-city", name_zh="县", name_en="County"
    ),
    Unit(id=SCHOOL, level=Level.SCHOOL, parent="bench-county", name_zh="校", name_en="School"),
    Unit(id="bench-room", level=Level.ROOM, parent=SCHOOL, name_zh="一班", name_en="Class 1"),
)


class EnrollRegion:
    """One folder with keys, registered devices, a kit, and the centre's settings."""

    def __init__(
        self,
        folder: Path,
        program: Program,
        devices: int,
        per_s: int,
        passphrases: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.devices, self.per_s = folder / "region", devices, per_s
        plan = region.Plan(region_name="Bench", center_hosts=(HOST,), broker_hosts=(HOST,))
        files = region.make(plan, passphrases or region.new_passphrases(), now=datetime.now(UTC))
        region_files.put(self.folder, files, announce=lambda: None)
        self.center = self.folder / "center"
        self.data_dir = self.center / "data"
        self.data_dir.mkdir(mode=0o700)
        self.crl = self.folder / "broker" / brokers.REVOKED
        self.broker = LocalBroker(
            folder / "running-broker", self.server_identity(), program=program, crl_file=self.crl
        )
        self.port = free_port()
        self.kit = folder / "kit"

    def server_identity(self) -> Identity:
        """The broker's certificate, and the authorities of both ends."""
        both = self.folder / "both-ca.pem"
        both.write_bytes(
            (self.center / "servers-ca.pem").read_bytes()
            + (self.center / "clients-ca.pem").read_bytes()
        )
        here = self.folder / "broker"
        return Identity(both, here / "broker.pem", here / "broker.key")

    def prepare(self) -> Path:
        """Register the devices, make code and kit; return the centre's settings file."""
        with Registry(self.data_dir / "registry.db") as registry:
            registry.load(Data(units=_UNITS))
        now_s, text = int(time.time()), codes.new_code()
        made = codes.fingerprint(text, codes.read_key(self.center / "code.key"))
        with Book(self.data_dir / "enrolment.db") as book:
            book.add_assets([_asset(number) for number in range(self.devices)])
            book.add_code(
                Code(
                    id=codes.code_id(made),
                    fingerprint=made,
                    school=SCHOOL,
                    uses=self.devices,
                    used=0,
                    expires_ms=(now_s + _DAYS * _DAY_S) * 1000,
                    made_ms=now_s * 1000,
                    made_by="bench",
                )
            )
        url = f"https://{HOST}:{self.port}"
        kit = kits.new_kit(
            url=url, code=text, school=SCHOOL, made_s=now_s, expires_s=now_s + _DAYS * _DAY_S
        )
        key = load_private(self.center / "kit.key", None)
        kits.write_kit(self.kit, kit, key, (self.center / "trust.json").read_bytes())
        return self._settings(url)

    def _settings(self, url: str) -> Path:
        top, _, table = (self.center / "center.toml").read_text("utf-8").partition("[enrolment]")
        port = self.broker.port
        said = _changed(top, {"web_port": 0, "broker_port": port})
        told: dict[str, str | int] = {
            "host": HOST,
            "port": self.port,
            "url": url,
            "broker_port": port,
            "per_s": self.per_s,
            "crl": str(self.crl.resolve()),
        }
        file = self.center / "center-bench.toml"
        file.write_text(f"{said}\n[enrolment]\n{_changed(table, told)}", "utf-8")
        return file


def serial(number: int) -> str:
    """Serial number of a device."""
    return f"SN-BENCH-{number:05}"


def _asset(number: int) -> Asset:
    return Asset(
        device=f"bench-pc-{number}",
        school=SCHOOL,
        asset=f"A{number}",
        room="bench-room",
        kind=DeviceKind.OPS_PC,
        serial=serial(number),
    )


def _changed(text: str, values: dict[str, str | int]) -> str:
    lines = [line for line in text.splitlines() if line.partition(" = ")[0] not in values]
    return (
        "\n".join([*lines, *(f"{key} = {json.dumps(one)}" for key, one in values.items())]) + "\n"
    )
