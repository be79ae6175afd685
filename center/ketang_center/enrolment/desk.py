"""The enrolment desk: applications and renewals in, certificates or reasons out.

One lock around each decision. Everything that is decided is in the audit log, and what was turned
away in the security log too; the certificate is durable before it is handed out.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ketang_center.access.audit import Audit
from ketang_center.access.throttle import Bucket, Throttle
from ketang_center.enrolment.book import APPROVED, Book
from ketang_center.enrolment.judging import Again, Ask, Facts, Grant, Turn, judge
from ketang_center.enrolment.nonces import Nonces
from ketang_center.enrolment.signing_requests import certified_key, possessed_key
from ketang_center.enrolment.values import Asset, Certificate, Code, Reason, Waiting
from ketang_center.registry.values import Kind
from ketang_center.security import SecurityLog
from ketang_contract import serials, validate
from ketang_contract.enrolment import (
    RENEWAL_TYPE,
    Application,
    Issued,
    Renewal,
    Turned,
    binding,
)
from ketang_contract.errors import BadInput, Refused
from ketang_contract.signatures import claimed_signers, open_sealed
from ketang_provisioning import codes
from ketang_provisioning.certificates import Authority
from ketang_provisioning.keys import key_id

LASTS = timedelta(days=90)
ALONE_MS = 90 * 86_400_000
"""How long after its expiry a certificate still renews without a person."""
_WAIT_S = 30
"""How often a device asks again that waits for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How this centre lets devices in."""

    center_id: str
    broker_host: str
    broker_port: int
    always_ask: bool = False
    per_s: float = 20.0
    lasts: timedelta = LASTS


Posted = Callable[[Asset, int], None]
"""Tells the register that an asset went to work: ``(asset, now_ms)``. Asked twice, does it once."""


class Desk:
    """Any thread. ``now_ms`` is the centre's clock, UTC milliseconds."""

    def __init__(
        self,
        book: Book,
        authority: Authority,
        code_key: bytes,
        rules: Rules,
        *,
        posted: Posted,
        audit: Audit,
        security: SecurityLog,
        now_ms: Callable[[], int],
    ) -> None:
        self._book, self._authority, self._code_key = book, authority, code_key
        self._rules, self._posted = rules, posted
        self._audit, self._security, self._now_ms = audit, security, now_ms
        self._nonces = Nonces(code_key)
        self._guesses = Throttle()
        self._rate = Bucket(rules.per_s, max(1.0, rules.per_s))
        self._lock = threading.Lock()

    def nonce(self) -> str:
        """Return a nonce for one request."""
        return self._nonces.make(self._now_ms() // 1000)

    def enrol(self, body: bytes, source: str) -> Issued | Turned:
        """Decide on an application (JSON); never raises on what a stranger sends."""
        with self._lock:
            now_ms = self._now_ms()
            try:
                asked = validate.body(Application, body)
                self._check_nonce(asked.nonce)
            except Refused as why:
                return self._turned(_reason(why), "", source, str(why), now_ms)
            wait = self._held_up(source, now_ms)
            if wait is not None:
                return wait
            bound = binding(asked.nonce, asked.code, asked.serial)
            try:
                key = possessed_key(asked.csr, bound)
            except Refused as why:
                self._failed(source, now_ms)
                return self._turned(_reason(why), "", source, str(why), now_ms)
            return self._decide(asked, key, source, now_ms)

    def renew(self, sealed: bytes, source: str) -> Issued | Turned:
        """Decide on a renewal (DSSE, sealed with the old key)."""
        with self._lock:
            now_ms = self._now_ms()
            device = ""
            try:
                asked, old = self._opened(sealed)
                device = old.device
                self._check_nonce(asked.nonce)
                wait = self._held_up(source, now_ms)
                if wait is not None:
                    return wait
                key = possessed_key(asked.csr, binding(asked.nonce, old.key_id))
            except Refused as why:
                return self._turned(_reason(why), device, source, str(why), now_ms)
            return self._renewed(old, key, source, now_ms)

    # Applications.

    def _decide(
        self, asked: Application, key: ec.EllipticCurvePublicKey, source: str, now_ms: int
    ) -> Issued | Turned:
        book, name, serial = self._book, key_id(key), serials.normalise(asked.serial)
        with book.transaction():
            code = self._code(asked.code)
            facts = self._facts(code, serial, name, now_ms)
            verdict = judge(facts, always_ask=self._rules.always_ask)
            if isinstance(verdict, Turn):
                if verdict.guessed:
                    self._failed(source, now_ms)
                who = code.id if code else ""
                return self._turned(verdict.reason, who, source, serial, now_ms)
            if isinstance(verdict, Ask):
                return self._asked(
                    Waiting(
                        no=0,
                        key_id=name,
                        school=verdict.code.school,
                        code_id=verdict.code.id,
                        serial=serial,
                        asset=asked.asset,
                        source=source,
                        reason=verdict.reason,
                        asked_ms=now_ms,
                        device=verdict.device,
                    ),
                    now_ms,
                )
            made = self._granted(verdict, key, name, now_ms)
        self._guesses.succeeded(source)
        return self._sent_to_work(made, source, now_ms)

    def _granted(
        self, verdict: Grant | Again, key: ec.EllipticCurvePublicKey, name: str, now_ms: int
    ) -> Certificate:
        """Certify, claim and count in the open transaction; asked again, give what was given."""
        if isinstance(verdict, Again):
            return verdict.certificate
        asset, code, book = verdict.asset, verdict.code, self._book
        made = self._certify(asset.device, key, name, now_ms)
        book.use_code(code.id)
        book.claim(asset, now_ms)
        book.served(name)
        self._note(f"code:{code.id}", "enrol", f"{made.device} {made.serial}", now_ms, code.school)
        return made

    def _sent_to_work(self, made: Certificate, source: str, now_ms: int) -> Issued | Turned:
        asset = self._book.asset_of(made.device)
        if asset is None:
            return self._turned(Reason.REVOKED, made.device, source, "its asset is gone", now_ms)
        self._posted(asset, now_ms)
        return self._issued(made, asset.kind)

    def _facts(self, code: Code | None, serial: str, name: str, now_ms: int) -> Facts:
        book = self._book
        held, waiting = book.certificates_of_key(name), book.waiting_key(name)
        holder = book.asset_of(held[0].device) if held else None
        doubtful = serials.is_doubtful(serial)
        matching = [] if doubtful else book.assets_with_serial(serial)
        chosen = book.asset_of(waiting.device) if waiting and waiting.verdict == APPROVED else None
        concerned = {one.device for one in matching} | {one.device for one in held}
        return Facts(
            now_ms=now_ms,
            code=code,
            held=held,
            held_school=holder.school if holder else "",
            matching=matching,
            doubtful=doubtful,
            barred=frozenset(one for one in concerned if book.is_barred(one)),
            waiting=waiting,
            chosen=chosen,
        )

    def _code(self, text: str) -> Code | None:
        try:
            return self._book.code(codes.fingerprint(codes.normalise(text), self._code_key))
        except BadInput:
            return None

    def _asked(self, one: Waiting, now_ms: int) -> Turned:
        """Put a request before a person; asked again by a device that waits, it is one request."""
        known = self._book.waiting_key(one.key_id)
        if self._book.wait(one) is None:
            return self._turned(Reason.QUEUE_FULL, one.code_id, one.source, one.serial, now_ms)
        if known is None:
            self._note(
                f"code:{one.code_id}",
                "enrol_asked",
                f"{one.serial} {one.reason}",
                now_ms,
                one.school,
            )
            self._security.note(now_ms, f"enrol_{one.reason}", one.code_id, one.source, one.serial)
        return Turned(reason=one.reason.value, retry_after_s=_WAIT_S)

    # Renewals.

    def _opened(self, sealed: bytes) -> tuple[Renewal, Certificate]:
        signers = claimed_signers(sealed, RENEWAL_TYPE)
        held = self._book.certificates_of_key(signers[0]) if len(signers) == 1 else []
        if not held:
            raise Refused("unknown_certificate", "not signed with the key of one that is known")
        payload = open_sealed(sealed, RENEWAL_TYPE, [certified_key(held[0].pem)])
        return validate.body(Renewal, payload), held[0]

    def _renewed(
        self, old: Certificate, key: ec.EllipticCurvePublicKey, source: str, now_ms: int
    ) -> Issued | Turned:
        book, name, device = self._book, key_id(key), old.device
        with book.transaction():
            asset = book.asset_of(device)
            held = book.certificates_of_key(name)
            if old.revoked_ms is not None or book.is_barred(device) or asset is None:
                return self._turned(Reason.REVOKED, device, source, old.serial, now_ms)
            mine = bool(held) and held[0].device == device and held[0].revoked_ms is None
            if mine and name != old.key_id:
                return self._issued(held[0], asset.kind)
            if held:
                return self._turned(Reason.KEY_IN_USE, device, source, old.serial, now_ms)
            waiting = book.waiting_key(name)
            approved = waiting is not None and waiting.verdict == APPROVED
            if now_ms > old.until_ms + ALONE_MS and not approved:
                return self._asked(
                    Waiting(
                        no=0,
                        key_id=name,
                        school=asset.school,
                        code_id="",
                        serial=asset.serial,
                        asset=asset.asset,
                        source=source,
                        reason=Reason.EXPIRED_TOO_LONG,
                        asked_ms=now_ms,
                        device=device,
                    ),
                    now_ms,
                )
            made = self._certify(device, key, name, now_ms)
            book.served(name)
        self._note(device, "renew", f"{device} {made.serial}", now_ms, asset.school)
        return self._issued(made, asset.kind)

    # What both need.

    def _held_up(self, source: str, now_ms: int) -> Turned | None:
        """Turn away who is locked out, and who comes faster than this centre takes devices in.

        Asked only for a request that is whole and fresh: noise must not use up the schools' turn,
        nor lock out the address that a school shares.
        """
        locked_s = self._guesses.locked_s(source, now_ms / 1000)
        if locked_s > 0:
            self._security.note(now_ms, "enrol_locked", "", source)
            return Turned(reason=Reason.LOCKED.value, retry_after_s=int(locked_s) + 1)
        wait_s = self._rate.take(now_ms / 1000)
        if wait_s > 0:
            self._security.note(now_ms, "enrol_too_many", "", source)
            return Turned(reason=Reason.TOO_MANY.value, retry_after_s=int(wait_s) + 1)
        return None

    def _check_nonce(self, nonce: str) -> None:
        if not self._nonces.holds(nonce, self._now_ms() // 1000):
            raise Refused("bad_nonce", "not ours, or too old")

    def _certify(
        self, device: str, key: ec.EllipticCurvePublicKey, name: str, now_ms: int
    ) -> Certificate:
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        made = self._authority.issue_client(device, key, now=now, lasts=self._rules.lasts)
        kept = Certificate(
            serial=f"{made.serial_number:x}",
            device=device,
            key_id=name,
            pem=made.public_bytes(serialization.Encoding.PEM).decode(),
            from_ms=_ms(made.not_valid_before_utc),
            until_ms=_ms(made.not_valid_after_utc),
        )
        self._book.add_certificate(kept)
        return kept

    def _issued(self, made: Certificate, kind: Kind) -> Issued:
        rules = self._rules
        return Issued(
            device=made.device,
            certificate=made.pem,
            center_id=rules.center_id,
            broker_host=rules.broker_host,
            broker_port=rules.broker_port,
            profile=kind.value,
        )

    def _turned(self, reason: Reason, who: str, source: str, detail: str, now_ms: int) -> Turned:
        """Say no. The audit log names codes and devices; a stranger could fill it with noise."""
        self._security.note(now_ms, f"enrol_{reason}", who, source, detail)
        if who:
            self._note(who, "enrol_refused", f"{reason} {detail}"[:200], now_ms)
        return Turned(reason=reason.value)

    def _failed(self, source: str, now_ms: int) -> None:
        if self._guesses.failed(source, now_ms / 1000):
            self._security.note(now_ms, "enrol_locked", "", source)
            self._note(source, "enrol_locked_out", "too many wrong codes", now_ms)

    def _note(self, who: str, action: str, subject: str, now_ms: int, unit: str = "") -> None:
        self._audit.note(now_ms, who, action, subject, unit)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _reason(why: Refused) -> Reason:
    return Reason(why.reason) if why.reason in set(Reason) else Reason.BAD_REQUEST
