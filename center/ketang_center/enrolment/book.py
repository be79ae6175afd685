"""The enrolment book: who may come in, who is in, and who was thrown out.

Invariants:
- A bar is for ever: no function here takes one back, and a replay only adds some. So is the
  withdrawal of a filing or a camera grant, which stands here too, for its way off the machine.
- A use of a code, the claim of an asset and the certificate are one transaction.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from ketang_center.enrolment.rows import Rows
from ketang_center.enrolment.values import Asset, Certificate, Code, Revocation, Waiting, Withdrawal
from ketang_contract.errors import BadInput

MOST_WAITING, MOST_OF_SCHOOL = 20_000, 500
_SPARE = 10
"""Requests that may wait on a code besides twice its uses: wrong serials, second tries."""
_FORGOTTEN_MS = 30 * 86_400_000
APPROVED, REFUSED = "approved", "refused"


class Book:
    """``with Book(path) as book``. Any thread; several processes."""

    def __init__(self, path: Path) -> None:
        self.rows = Rows(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.rows.close()

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing, durable when it ends; joins the one that this thread has open."""
        return self.rows.transaction()

    # Assets.

    def add_assets(self, assets: Sequence[Asset]) -> None:
        """Register assets, or change unclaimed ones; a claimed one stays as it is.

        Raises:
            BadInput: a device id is taken by another asset.
        """
        with self.transaction():
            for one in assets:
                known = self.asset(one.school, one.asset)
                if known is None or known.claimed_ms is None:
                    self.replace_asset(one)

    def replace_asset(self, asset: Asset) -> None:
        """Write an asset anew: claimed, freed, or under its next device id.

        Raises:
            BadInput: the device id is taken by another asset.
        """
        try:
            self.rows.put(asset)
        except sqlite3.IntegrityError:
            raise BadInput(
                f"{asset.school} {asset.asset}: device id {asset.device} is taken"
            ) from None

    def claim(self, asset: Asset, now_ms: int) -> None:
        """An asset went to work under its device id, in the transaction of its certificate."""
        self.rows.put(replace(asset, claimed_ms=now_ms))

    def asset(self, school: str, asset: str) -> Asset | None:
        """Return one asset."""
        found = self.rows.read(Asset, "WHERE school = ? AND asset = ?", school, asset)
        return found[0] if found else None

    def assets(self, school: str | None = None) -> list[Asset]:
        """Return a school's assets, or all."""
        if school is None:
            return self.rows.read(Asset, "ORDER BY school, asset")
        return self.rows.read(Asset, "WHERE school = ? ORDER BY asset", school)

    def assets_with_serial(self, serial: str) -> list[Asset]:
        """Return every asset registered with a serial number."""
        return self.rows.read(Asset, "WHERE serial = ?", serial)

    def asset_of(self, device: str) -> Asset | None:
        """Return the asset that carries a device id now."""
        found = self.rows.read(Asset, "WHERE device = ?", device)
        return found[0] if found else None

    # Codes.

    def add_code(self, code: Code) -> None:
        """Keep a new code.

        Raises:
            BadInput: one with this name exists; make another.
        """
        if not self.rows.add(code):
            raise BadInput(f"code {code.id} exists already: make another")

    def code(self, fingerprint: bytes) -> Code | None:
        """Return the code with this HMAC."""
        found = self.rows.read(Code, "WHERE fingerprint = ?", fingerprint.hex())
        return found[0] if found else None

    def code_named(self, code_id: str) -> Code | None:
        """Return the code with this short name."""
        found = self.rows.read(Code, "WHERE id = ?", code_id)
        return found[0] if found else None

    def codes(self, school: str | None = None) -> list[Code]:
        """Return a school's codes, or all, the newest first."""
        if school is None:
            return self.rows.read(Code, "ORDER BY made_ms DESC, id")
        return self.rows.read(Code, "WHERE school = ? ORDER BY made_ms DESC, id", school)

    def withdraw_code(self, code_id: str) -> bool:
        """Make a code useless; False where there is none of this name."""
        with self.transaction():
            found = self.code_named(code_id)
            if found:
                self.rows.put(replace(found, withdrawn=True))
            return found is not None

    def use_code(self, code_id: str) -> None:
        """Count a use, in the transaction of the claim."""
        with self.transaction():
            found = self.code_named(code_id)
            if found:
                self.rows.put(replace(found, used=found.used + 1))

    # Certificates.

    def add_certificate(self, certificate: Certificate) -> None:
        """Keep a certificate before it is handed out."""
        self.rows.put(certificate)

    def certificate(self, serial: str) -> Certificate | None:
        """Return a certificate by its number."""
        found = self.rows.read(Certificate, "WHERE serial = ?", serial)
        return found[0] if found else None

    def certificates_of_key(self, key_id: str) -> list[Certificate]:
        """Return what was issued to a key, the latest first."""
        return self.rows.read(Certificate, "WHERE key_id = ? ORDER BY until_ms DESC", key_id)

    def certificates_of(self, device: str) -> list[Certificate]:
        """Return a device's certificates, the latest first."""
        return self.rows.read(Certificate, "WHERE device = ? ORDER BY until_ms DESC", device)

    def successors_of(self, key_id: str) -> list[Certificate]:
        """Return the certificates that a key asked for as its next."""
        return self.rows.read(Certificate, "WHERE parent = ? ORDER BY from_ms, serial", key_id)

    # Revocation.

    def revoke(self, device: str, *, at_ms: int, why: str, by: str) -> bool:
        """Bar a device for ever and revoke its certificates; False when it was barred before."""
        with self.transaction():
            for one in self.certificates_of(device):
                if one.revoked_ms is None:
                    self.rows.put(replace(one, revoked_ms=at_ms))
            return self.rows.add(Revocation(device=device, at_ms=at_ms, why=why, by=by))

    def is_barred(self, device: str) -> bool:
        """Tell whether a device was thrown out."""
        return bool(self.rows.read(Revocation, "WHERE device = ?", device))

    def revocations(self) -> list[Revocation]:
        """Return every device that was thrown out, the latest first."""
        return self.rows.read(Revocation, "ORDER BY at_ms DESC, device")

    def revoked_certificates(self, now_ms: int) -> list[Certificate]:
        """Return revoked certificates that have not expired: what a revocation list has to name."""
        return self.rows.read(
            Certificate, "WHERE revoked_ms IS NOT NULL AND until_ms > ? ORDER BY serial", now_ms
        )

    # Filings and camera grants that were taken back.

    def keep_withdrawn(self, one: Withdrawal) -> bool:
        """Note for ever that a filing or camera grant was taken back; False when it was before."""
        return self.rows.add(one)

    def is_withdrawn(self, key: str) -> bool:
        """Tell whether what has this key was taken back once."""
        return bool(self.rows.number("SELECT count(*) FROM withdrawn WHERE key = ?", key))

    def withdrawals(self) -> dict[str, Withdrawal]:
        """Return all that was taken back, by key."""
        return {one.key: one for one in self.rows.read(Withdrawal, "ORDER BY at_ms, key")}

    # Those who wait for a person.

    def wait(self, one: Waiting) -> Waiting | None:
        """Put a request into the queue, or refresh it; None when its share of the queue is full.

        A code has a share, and so has a school: nobody can fill the region's queue with one code.
        Whoever has not asked for a month is forgotten, decided or not.
        """
        with self.transaction():
            stale_ms = one.asked_ms - _FORGOTTEN_MS
            self.rows.run("DELETE FROM waiting WHERE asked_ms < ?", stale_ms)
            known = self.waiting_key(one.key_id)
            if known is None and not self._room_for(one):
                return None
            kept = replace(one, no=known.no if known else self.rows.next_number("waiting"))
            self.rows.put(kept)
            return kept

    def _room_for(self, one: Waiting) -> bool:
        rows = self.rows
        all_of_them = rows.number("SELECT count(*) FROM waiting")
        school = rows.number("SELECT count(*) FROM waiting WHERE school = ?", one.school)
        code = rows.number("SELECT count(*) FROM waiting WHERE code_id = ?", one.code_id)
        found = self.code_named(one.code_id)
        share = 2 * found.uses + _SPARE if found else MOST_OF_SCHOOL
        return all_of_them < MOST_WAITING and school < MOST_OF_SCHOOL and code < share

    def waiting_key(self, key_id: str) -> Waiting | None:
        """Return the request of a key."""
        found = self.rows.read(Waiting, "WHERE key_id = ?", key_id)
        return found[0] if found else None

    def waiting_no(self, no: int) -> Waiting | None:
        """Return a request by its number."""
        found = self.rows.read(Waiting, "WHERE no = ?", no)
        return found[0] if found else None

    def waiting(self) -> list[Waiting]:
        """Return who waits, longest first."""
        return self.rows.read(Waiting, "WHERE verdict = '' ORDER BY no")

    def settle(self, no: int, verdict: str, device: str = "") -> None:
        """Note a person's verdict on a request, and the device id that was meant.

        Where it came from is forgotten: source addresses live in the security log alone.
        """
        with self.transaction():
            found = self.waiting_no(no)
            if found:
                self.rows.put(replace(found, verdict=verdict, device=device, source=""))

    def served(self, key_id: str) -> None:
        """Take a request off the queue: it has its certificate."""
        self.rows.run("DELETE FROM waiting WHERE key_id = ?", key_id)
