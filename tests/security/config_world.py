"""A region's configuration keys in memory, what they sign, and a device that judges it.

Nothing here is checked, so that a test may sign what no tool would. ``Device`` judges through
``judging.verdict``, as the judging child does, and keeps what it holds through ``trial`` and
``state_file``, as the supervisor does.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ketang_agent.clock import Instant
from ketang_agent.remote import state_file, trial
from ketang_agent.remote.judging import Asked, verdict
from ketang_agent.remote.machine import Look, Machine, Phase, Works, factory
from ketang_contract import signatures
from ketang_contract.config import Config, Level
from ketang_contract.layers import (
    LAYER_TYPE,
    PLACEMENT_TYPE,
    Desired,
    Layer,
    LayerAt,
    Placement,
    Step,
    payload,
    write_desired,
)
from ketang_contract.records import TimeQuality, to_json
from ketang_contract.trust import Purpose, RevokedKey, RootKey, Trust, TrustedKey
from ketang_profiles.configured import as_config
from ketang_profiles.profile import shipped
from ketang_provisioning.keys import key_id, make_ed25519, public_pem

NOW_S = 1_800_000_000
DAY_S = 86_400
DEVICE = "s1-pc-1"
AT_S1 = ("lan", "lan-shi", "lan-xian", "s1", "s1-r1")
AT_S2 = ("lan", "lan-shi", "lan-xian", "s2", "s2-r1")
LEVELS = {
    **dict(zip(AT_S1, Level, strict=False)),
    **dict(zip(AT_S2, Level, strict=False)),
    DEVICE: Level.DEVICE,
    "s2-pc-1": Level.DEVICE,
}
BASE = as_config(shipped("ops_pc"))
KEYS = {
    # name of the key: scope, holder
    "one": ("", "Wang"),
    "two": ("", "Zhao"),
    "one-again": ("", "Wang"),
    "city": ("lan-shi", "Qian"),
    "s1": ("s1", "Sun"),
    "s1-too": ("s1", "Sun"),
    "s2": ("s2", "Zhou"),
}
BOTH = ("one", "two")
PRIVATE = {name: make_ed25519() for name in (*KEYS, "filing", "stranger", "root")}


def trusted(name: str, **changes) -> TrustedKey:
    """A key as a trust document names it: in force for years before and after ``NOW_S``."""
    public = PRIVATE[name].public_key()
    scope, holder = KEYS.get(name, ("", "He"))
    key = TrustedKey(
        key_id=key_id(public),
        public=public_pem(public),
        purpose=Purpose.FILING if name == "filing" else Purpose.CONFIG,
        scope=scope,
        holder=holder,
        from_s=NOW_S - 1000 * DAY_S,
        until_s=NOW_S + 2000 * DAY_S,
    )
    return replace(key, **changes)


def trust(*, revoked: Iterable[str] = (), version=1, **changes) -> Trust:
    """The document in force; ``changes`` by the key's name, ``one={"epoch": 2}``."""
    root = PRIVATE["root"].public_key()
    named = {name.replace("-", "_"): name for name in (*KEYS, "filing")}
    return Trust(
        version=version,
        issued_s=NOW_S - 500 * DAY_S,
        expires_s=NOW_S + 3000 * DAY_S,
        threshold=1,
        roots=(RootKey(key_id(root), public_pem(root), "root"),),
        keys=tuple(trusted(name, **changes.get(said, {})) for said, name in named.items()),
        revoked=tuple(RevokedKey(trusted(one).key_id, NOW_S, "lost") for one in revoked),
    )


TRUST = trust()


def layer_of(target: str, content: Config, version: int = 1, **changes) -> Layer:
    """A layer that nobody has signed yet."""
    said = {
        "target": target,
        "level": LEVELS[target],
        "key_epoch": 1,
        "version": version,
        "release": "r",
        "content": content,
        "issued_s": NOW_S - DAY_S,
        "expires_s": NOW_S + 30 * DAY_S,
    }
    return Layer(**{**said, **changes})


def placement_of(
    path: Iterable[str] = AT_S1, least: Iterable[LayerAt] = (), version: int = 1, **changes
) -> Placement:
    """A placement that nobody has signed yet."""
    said = {
        "device": DEVICE,
        "key_epoch": 1,
        "version": version,
        "path": tuple(Step(level=at, unit=unit) for at, unit in zip(Level, path, strict=False)),
        "least": tuple(least),
        "issued_s": NOW_S - DAY_S,
        "expires_s": NOW_S + 30 * DAY_S,
    }
    return Placement(**{**said, **changes})


def seal(document: Layer | Placement, *keys: str, kind: str = "") -> bytes:
    """Sign a document with keys by name."""
    kind = kind or (LAYER_TYPE if isinstance(document, Layer) else PLACEMENT_TYPE)
    return signatures.seal(payload(document), kind, [PRIVATE[one] for one in keys])


def layer(target: str, content: Config, *keys: str, **changes) -> bytes:
    """Sign what a unit or device is told."""
    return seal(layer_of(target, content, **changes), *keys)


def placement(*keys: str, **changes) -> bytes:
    """Sign where the device stands; by one key of the region unless told."""
    return seal(placement_of(**changes), *(keys or ("one",)))


def bundle(placed: bytes, *layers: bytes, attempt: int = 0, **more) -> bytes:
    """Write what ``dn/desired`` carries."""
    return write_desired(Desired(placement=placed, layers=layers, attempt=attempt, **more))


def at(target: str, version: int, key_epoch: int = 1) -> LayerAt:
    return LayerAt(target=target, key_epoch=key_epoch, version=version)


_GOOD = Look(connected=True, session=0, acknowledged=True, sampled=True, moment=True)


@dataclass
class Device:
    """One device: what it holds, and what it says of what it is brought."""

    trust: Trust = TRUST
    now_s: int = NOW_S
    base: Config = BASE
    machine: Machine = field(default_factory=lambda: factory(BASE))
    boottime_ms: int = 0
    session: int = 1
    boot_id: str = "boot-1"
    synced: bool = True
    """Somebody disciplines its clock."""

    def judge(self, raw: bytes) -> dict:
        """Say what the judging child writes of a bundle; nothing changes."""
        asked = Asked(
            device=DEVICE,
            agent_version="1.0.0",
            now_s=self.now_s,
            base=to_json(self.base),
            in_force=to_json(self.machine.in_force),
            held=json.loads(json.dumps(self.machine.held)),
            synced=self.synced,
        )
        said = {**verdict(raw, asked, self.trust), "trust_version": self.trust.version}
        return json.loads(json.dumps(said))

    def bring(self, raw: bytes) -> str:
        """Judge a bundle and take the verdict in; the reason why not, or nothing."""
        said = self.judge(raw)
        self.machine = trial.take(self.machine, state_file.verdict_of(said))
        return said["reason"]

    def passes(self) -> None:
        """Let what waits pass its trial."""
        for _ in range(2):
            self.session += 1
            self.step(replace(_GOOD, session=self.session))

    def fails(self) -> None:
        """Let what waits fail in its trial."""
        for _ in range(2):
            self.step(replace(_GOOD, session=self.session, model=Works.NO))

    def step(self, look: Look, ms: int = 1000) -> None:
        self.boottime_ms += ms
        if self.synced:
            self.machine = trial.know_time(self.machine, self.now_s)
        self.machine = trial.step(self.machine, look, self.now)

    @property
    def now(self) -> Instant:
        quality = TimeQuality.SYNCED if self.synced else TimeQuality.FREE
        return Instant(self.now_s * 1000, self.boottime_ms, self.boot_id, quality)

    def starts_anew(self, folder: Path) -> None:
        """Be started again from what is on disk."""
        state_file.write(folder, self.machine)
        self.machine = trial.begin(state_file.read(folder, self.base), self.now)

    def obeys(self, raw: bytes) -> "Device":
        """Accept and commit a bundle."""
        assert self.bring(raw) == ""
        self.passes()
        assert self.machine.candidate is None
        assert self.machine.running == self.machine.desired
        return self

    @property
    def phase(self) -> Phase | None:
        return self.machine.candidate.phase if self.machine.candidate else None
