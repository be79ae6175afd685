"""The region that a release is rolled out in: keys, a thousand placed devices, signed documents.

Its devices did not enrol, which is another benchmark: their certificates are made at once.
"""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ketang_bench.enroll_region import HOST, EnrollRegion
from ketang_center.registry.database import Registry
from ketang_center.registry.values import (
    Data,
    Device,
    Kind,
    Level,
    Placement,
    Service,
    ServiceState,
    Unit,
)
from ketang_cli.local_broker import Program
from ketang_contract import config as configs
from ketang_contract import layers, signatures
from ketang_contract.config import Config
from ketang_contract.layers import LAYER_TYPE, PLACEMENT_TYPE, Layer, Step
from ketang_contract.releases import Release, write
from ketang_provisioning.certificates import Authority, certificate_pem
from ketang_provisioning.keys import load_private, make_ec, private_pem
from ketang_provisioning.region import new_passphrases

SCHOOLS, ROOMS = 20, 5
RELEASE = "bench-release-1"
_KINDS = (Kind.OPS_PC, Kind.TEACHER_PC, Kind.LAB_PC, Kind.CLASS_BOARD)
_DAY_S = 86_400


class RolloutRegion(EnrollRegion):
    """A folder with all of it; ``folder / devices / ID`` is a device's own."""

    def __init__(self, folder: Path, program: Program, devices: int) -> None:
        self.passphrases = new_passphrases()
        super().__init__(folder, program, devices, per_s=1000, passphrases=self.passphrases)
        self.device_folders = folder / "devices"

    def prepare_rollout(self, center_id: str) -> None:
        """Register, certify and place every device."""
        now_s = int(datetime.now(UTC).timestamp())
        with Registry(self.data_dir / "registry.db") as registry:
            registry.load(_region_of(self.devices, (now_s - _DAY_S) * 1000))
        authority = Authority.load(
            self.center / "clients-ca.pem",
            self.center / "clients-ca.key",
            (self.center / "clients-ca.passphrase").read_bytes().strip(),
        )
        for number in range(self.devices):
            self._device(number, authority, center_id)

    def _device(self, number: int, authority: Authority, center_id: str) -> None:
        name, key = device_name(number), make_ec()
        folder = self.device_folders / name
        folder.mkdir(mode=0o700, parents=True)
        certificate = authority.issue_client(
            name, key.public_key(), now=datetime.now(UTC), lasts=timedelta(days=1)
        )
        (folder / "identity.pem").write_bytes(private_pem(key, None) + certificate_pem(certificate))
        shutil.copy(self.center / "servers-ca.pem", folder / "servers-ca.pem")
        shutil.copy(self.center / "trust.json", folder / "trust.json")
        said = {
            "device": name,
            "center_id": center_id,
            "profile": str(_kind(number)),
            "data_dir": "data",
            "broker_host": HOST,
            "broker_port": self.broker.port,
            "ca": "servers-ca.pem",
            "certificate": "identity.pem",
            "key": "identity.pem",
            "local_port": 0,
        }
        lines = (f"{key} = {json.dumps(value)}\n" for key, value in said.items())
        (folder / "agent.toml").write_text("".join(lines), "utf-8")

    def placements(self) -> list[bytes]:
        """Sign where each device stands."""
        key = load_private(
            self.folder / "offline" / "config-1.key", self.passphrases["config-1"].encode()
        )
        now_s = int(datetime.now(UTC).timestamp())
        return [
            signatures.seal(
                layers.payload(
                    layers.Placement(
                        device=device_name(number),
                        key_epoch=1,
                        version=1,
                        path=_path(number),
                        issued_s=now_s,
                        expires_s=now_s + _DAY_S,
                    )
                ),
                PLACEMENT_TYPE,
                [key],
            )
            for number in range(self.devices)
        ]

    def release(self, content: Config) -> bytes:
        """Sign what the whole region is told, and its undo."""
        keys = [
            load_private(self.folder / "offline" / f"{name}.key", self.passphrases[name].encode())
            for name in ("config-1", "config-2")
        ]
        now_s = int(datetime.now(UTC).timestamp())
        layer = Layer(
            target="bench",
            level=configs.Level.REGION,
            key_epoch=1,
            version=1,
            release=RELEASE,
            content=content,
            issued_s=now_s,
            expires_s=now_s + _DAY_S,
        )
        undo = replace(layer, version=2, content=Config(), undoes=1)
        both = (signatures.seal(layers.payload(one), LAYER_TYPE, keys) for one in (layer, undo))
        return write(Release(*both))


def device_name(number: int) -> str:
    """Name a device."""
    return f"bench-device-{number}"


def _kind(number: int) -> Kind:
    return _KINDS[number % len(_KINDS)]


def _school(number: int) -> str:
    return f"bench-school-{number % SCHOOLS}"


def _room(number: int) -> str:
    return f"{_school(number)}-{number // SCHOOLS % ROOMS}"


def _path(number: int) -> tuple[Step, ...]:
    units = ("bench", "bench-city", "bench-county", _school(number), _room(number))
    return tuple(
        Step(level=level, unit=unit) for level, unit in zip(configs.Level, units, strict=False)
    )


def _region_of(devices: int, since_ms: int) -> Data:
    """Put the devices of all kinds into the rooms of all schools, in service."""
    units = [
        Unit(id="bench", level=Level.REGION, name_zh="基准", name_en="Benchmark"),
        Unit(id="bench-city", level=Level.CITY, parent="bench", name_zh="市", name_en="City"),
        Unit(
            id="bench-county",
            level=Level.COUNTY,
            parent="bench-city",
            name_zh="县",
            name_en="County",
        ),
    ]
    for school in range(SCHOOLS):
        name = f"bench-school-{school}"
        units.append(
            Unit(id=name, level=Level.SCHOOL, parent="bench-county", name_zh=name, name_en=name)
        )
        units += [
            Unit(id=f"{name}-{room}", level=Level.ROOM, parent=name, name_zh="班", name_en="Class")
            for room in range(ROOMS)
        ]
    named = [(number, device_name(number)) for number in range(devices)]
    return Data(
        units=tuple(units),
        devices=tuple(
            Device(id=name, kind=_kind(number), name=name, shared=True) for number, name in named
        ),
        placements=tuple(
            Placement(device=name, room=_room(number), from_ms=since_ms) for number, name in named
        ),
        services=tuple(
            Service(device=name, state=ServiceState.IN_SERVICE, from_ms=since_ms)
            for _, name in named
        ),
    )
