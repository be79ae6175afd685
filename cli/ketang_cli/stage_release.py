"""The demo's first release: where its devices stand, and one thing that all of them are told.

It is signed when the region is made, for only then are the passphrases known; both files lie in
``first`` of the region's folder. The office takes them once the centre runs, as it would from a
person, and the devices judge them as any others.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ketang_center.rollouts.office import open_office
from ketang_center.settings import Settings
from ketang_cli import fiction
from ketang_contract import releases, trust
from ketang_contract.config import Apply, Config, Level
from ketang_contract.errors import BadInput
from ketang_contract.layers import Placement, Step
from ketang_contract.state import ConfigState
from ketang_contract.trust import Purpose, Trust
from ketang_provisioning import placing, signing
from ketang_provisioning.keys import load_private

FOLDER = "first"
NAME = "first-release"
_PLACED, _RELEASE = "placed.jsonl", "release.json"
_SAYS = Config(upload_kbps=2048, apply=Apply.NOW)
"""Nothing is collected more by it, and simulated devices can carry it out, too."""
_KEYS = ("config-1", "config-2")
_WHO = "demo"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the first release has come. ``own``: on this machine; empty: it gave no word yet."""

    own: str
    committed: int
    devices: int

    @property
    def is_in_force(self) -> bool:
        """Whether this machine's agent runs it."""
        return self.own == ConfigState.COMMITTED.value


def sign(region: Path, passphrases: Mapping[str, str], now: datetime) -> None:
    """Sign both, with the keys of the region's two holders.

    Args:
        region: its folder, as it was made just now.
        passphrases: of its keys, by the keys' names.
        now: when they are signed.
    """
    now_s = int(now.timestamp())
    believed = trust.read_accepted((region / "center" / "trust.json").read_bytes())
    keys = [_key(region / "offline" / f"{name}.key", passphrases[name]) for name in _KEYS]
    at = signing.place([fiction.PLACES[0].id])
    pair = signing.compose(_SAYS, at, signing.Before(), believed, now_s=now_s, name=NAME)
    release = signing.sign_layer(pair, keys, at, believed, now_s)
    placed = placing.sign_placements(_placements(believed, now_s), keys, believed, now_s)
    folder = region / FOLDER
    folder.mkdir(mode=0o700)
    (folder / _PLACED).write_bytes(b"".join(one.envelope + b"\n" for one in placed))
    (folder / _RELEASE).write_bytes(releases.write(release))


def is_signed(region: Path) -> bool:
    """Tell whether a region has its first release."""
    return (region / FOLDER / _RELEASE).is_file()


def send(region: Path, settings: Settings) -> bool:
    """Hand both to the centre's office and begin; False where an earlier run has done so.

    Raises:
        BadInput: the office does not take it.
    """
    folder = region / FOLDER
    with open_office(settings) as office:
        if any(one.release == NAME for one in office.look.rollouts()):
            return False
        office.take_placements((folder / _PLACED).read_bytes().splitlines(), _WHO)
        office.admit((folder / _RELEASE).read_bytes(), _WHO)
        office.begin(NAME, _WHO)
    return True


def progress(settings: Settings) -> Progress:
    """Tell how far it has come, by what the devices said last."""
    with open_office(settings) as office:
        names = (fiction.OWN, *(one.id for one in fiction.simulated()))
        said = [office.look.console_state(name) for name in names]
    committed = [one for one in said if one and one.state is ConfigState.COMMITTED]
    return Progress(said[0].state.value if said[0] else "", len(committed), len(said))


def _key(path: Path, passphrase: str) -> Ed25519PrivateKey:
    key = load_private(path, passphrase.encode())
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput(f"{path}: not an Ed25519 key")
    return key


def _placements(believed: Trust, now_s: int) -> Iterator[Placement]:
    """Say of each device of the story where it stands, from the region down."""
    data = fiction.registry_data(since_ms=0)
    units = {one.id: one for one in data.units}
    for placed in data.placements:
        above, name = [], placed.room
        while name:
            above.append(units[name])
            name = units[name].parent or ""
        yield Placement(
            device=placed.device,
            key_epoch=believed.epoch_of(Purpose.CONFIG, ()),
            version=now_s,
            path=tuple(Step(level=Level(one.level), unit=one.id) for one in reversed(above)),
            issued_s=now_s,
            expires_s=now_s + signing.LASTS_S,
        )
