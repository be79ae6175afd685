"""The demo's region: its keys as ``provision init`` makes them, its devices in the enrolment book.

Made once and kept with the demo's data, so that a second run finds its devices enrolled, as a real
centre would. Nobody writes its passphrases down: what is locked with them stays locked, so the
demo's first release is signed here as well.
"""

import shutil
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from ketang_center.enrolment.book import Book
from ketang_center.enrolment.values import Asset, Certificate, Code
from ketang_center.registry.values import Kind
from ketang_center.rollouts.office import BOOK
from ketang_cli import fiction, stage_release
from ketang_contract.errors import BadInput
from ketang_contract.kit import show_code
from ketang_provisioning import brokers, certificates, codes, keys, region, region_files
from ketang_provisioning.ca import Identity

OWN_SERIAL = "DEMO-7C41-0001"
_LASTS = timedelta(days=90)
_STALE = timedelta(days=60)
_SPARE = 6
"""Registered at the first school and never enrolled, so that its page has something to do."""
_HOSTS = ("127.0.0.1", "::1", "localhost")
_DAY_MS = 86_400_000


class StageRegion:
    """``prepare`` before anything starts."""

    def __init__(self, folder: Path, center_data: Path) -> None:
        self.folder, self._center_data = folder, center_data
        self.center = folder / "center"
        self.identities = folder / "devices"

    def prepare(self, now: datetime) -> bool:
        """Make the region unless a fresh one is there; true when it was made."""
        if self._is_fresh(now):
            return False
        self._forget()
        plan = region.Plan(region_name="Demo", center_hosts=_HOSTS, broker_hosts=_HOSTS)
        passphrases = region.new_passphrases()
        files = region.make(plan, passphrases, now=now)
        region_files.put(self.folder, files, announce=lambda: None)
        stage_release.sign(self.folder, passphrases, now)
        both = (self.center / "servers-ca.pem").read_bytes()
        (self.folder / "ca.pem").write_bytes(both + (self.center / "clients-ca.pem").read_bytes())
        self.identities.mkdir(mode=0o700)
        for name in (self.folder / "ca.pem", self.center / "trust.json"):
            shutil.copy(name, self.identities)
        self.own.mkdir(mode=0o700)
        shutil.copy(self.folder / "installer" / "root.fingerprint", self.own)
        with Book(self._center_data / "enrolment.db") as book:
            self._enrol_simulated(book, now)
            book.add_assets(_registered())
        return True

    @property
    def broker_identity(self) -> Identity:
        """The broker's server certificate, and authorities for both ends."""
        broker = self.folder / "broker"
        return Identity(self.folder / "ca.pem", broker / "broker.pem", broker / "broker.key")

    @property
    def service_identity(self) -> Identity:
        """The centre's certificate at the broker."""
        pair = self.center / "center_ingest.pem"
        return Identity(self.center / "servers-ca.pem", pair, pair)

    @property
    def own(self) -> Path:
        """Where this machine keeps its identity."""
        return self.folder / "this-machine"

    @property
    def crl(self) -> Path:
        """Where the centre writes the revocation list and the broker reads it."""
        return self.folder / "broker" / brokers.REVOKED

    def make_code(self, now: datetime) -> str:
        """Make a code for one device of the first school, good for a day."""
        text = codes.new_code()
        made = codes.fingerprint(text, codes.read_key(self.center / "code.key"))
        now_ms = int(now.timestamp() * 1000)
        with Book(self._center_data / "enrolment.db") as book:
            book.add_code(
                Code(
                    id=codes.code_id(made),
                    fingerprint=made,
                    school=fiction.SCHOOLS[0].id,
                    uses=1,
                    used=0,
                    expires_ms=now_ms + _DAY_MS,
                    made_ms=now_ms,
                    made_by="demo",
                )
            )
        return show_code(text)

    def _forget(self) -> None:
        """Remove what an earlier region signed, and what devices and centre hold of it."""
        home = self.folder.parent
        files = (*self._center_data.glob(f"{BOOK}*"), self._center_data / "enrolment.db")
        for stale in (self.folder, *home.glob("agent/*/remote"), *home.glob("devices/*/remote")):
            shutil.rmtree(stale, ignore_errors=True)
        for one in files:
            one.unlink(missing_ok=True)

    def _is_fresh(self, now: datetime) -> bool:
        try:
            held = certificates.load_certificate(self.folder / "broker" / "broker.pem")
        except BadInput:
            return False
        return (
            now - held.not_valid_before_utc < _STALE
            and (self._center_data / "enrolment.db").is_file()
            and (self.identities / "ca.pem").is_file()
            and stage_release.is_signed(self.folder)
        )

    def _enrol_simulated(self, book: Book, now: datetime) -> None:
        """Give the thirty their identities at once: their enrolment is weeks ago in the story."""
        authority = certificates.Authority.load(
            self.center / "clients-ca.pem",
            self.center / "clients-ca.key",
            (self.center / "clients-ca.passphrase").read_bytes().strip(),
        )
        now_ms = int(now.timestamp() * 1000)
        with book.transaction():
            for no, one in enumerate(fiction.simulated(), start=1):
                key = keys.make_ec()
                made = authority.issue_client(one.id, key.public_key(), now=now, lasts=_LASTS)
                keys.save_private(self.identities / f"{one.id}.key", key, None)
                (self.identities / f"{one.id}.pem").write_bytes(certificates.certificate_pem(made))
                asset = _asset(one.id, one.school, f"SIM-{no:03}", one.room, one.kind)
                book.replace_asset(asset)
                book.claim(asset, now_ms)
                book.add_certificate(_kept(made, one.id, keys.key_id(key.public_key())))


def _kept(made: x509.Certificate, device: str, key_id: str) -> Certificate:
    return Certificate(
        serial=f"{made.serial_number:x}",
        device=device,
        key_id=key_id,
        pem=certificates.certificate_pem(made).decode(),
        from_ms=int(made.not_valid_before_utc.timestamp() * 1000),
        until_ms=int(made.not_valid_after_utc.timestamp() * 1000),
    )


def _registered() -> list[Asset]:
    school = fiction.SCHOOLS[0].id
    room = fiction.room_of(school, 1)
    own = _asset(fiction.OWN, school, "DEMO-001", room, Kind.OPS_PC, OWN_SERIAL)
    spare = [
        _asset(
            f"{school}-spare-{no}", school, f"DEMO-{no:03}", room, Kind.IFP, f"DEMO-7C41-{no:04}"
        )
        for no in range(2, 2 + _SPARE)
    ]
    return [own, *spare]


def _asset(device: str, school: str, number: str, room: str, kind: Kind, serial: str = "") -> Asset:
    return Asset(device=device, school=school, asset=number, room=room, kind=kind, serial=serial)
