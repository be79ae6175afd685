"""The enrolment desk: applications and renewals in, certificates or reasons out.

One lock around each decision. What is granted is in the audit log, and what was turned away in the
security log, each time; of a refusal the audit log hears once a day for each code or device. The
certificate is durable before it is handed out.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ketang_center.access.audit import Audit
from ketang_center.enrolment.book import APPROVED, Book
from ketang_center.enrolment.judging import (
    Again,
    Ask,
    Facts,
    Grant,
    RenewalFacts,
    Turn,
    judge,
    judge_renewal,
)
from ketang_center.enrolment.nonces import Nonces
from ketang_center.enrolment.pacing import Pace
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

log = logging.getLogger("ketang.enrolment")

LASTS = timedelta(days=90)
_DAY_MS, _HOUR_S = 86_400_000, 3600
_FOR_A_PERSON = frozenset({Reason.EXPIRED_TOO_LONG, Reason.SUPERSEDED})
_WRONG_CODE = frozenset(
    {Reason.UNKNOWN_CODE, Reason.CODE_EXPIRED, Reason.CODE_USED_UP, Reason.CODE_WITHDRAWN}
)
"""Counted against the source: who tries one of these has read it somewhere, or guesses."""
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
    """Any thread. ``now_ms``: the centre's clock, UTC milliseconds; ``monotonic_s``: for paces."""

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
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._book, self._authority, self._code_key = book, authority, code_key
        self._rules, self._posted = rules, posted
        self._audit, self._security, self._now_ms = audit, security, now_ms
        self._nonces = Nonces(code_key)
        self._pace = Pace(rules.per_s, monotonic_s)
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
            locked_s = self._pace.locked_s(source)
            if locked_s > 0:
                return self._later(Reason.LOCKED, source, locked_s, now_ms)
            try:
                key = possessed_key(asked.csr, binding(asked.nonce, asked.code, asked.serial))
            except Refused as why:
                self._failed(source, now_ms)
                return self._turned(_reason(why), "", source, str(why), now_ms)
            wait_s = self._pace.wait_s("enrol", key_id(key))
            if wait_s > 0:
                return self._later(Reason.TOO_MANY, source, wait_s, now_ms)
            try:
                return self._decide(asked, key, source, now_ms)
            except BadInput as problem:
                return self._unavailable(problem)

    def renew(self, sealed: bytes, source: str) -> Issued | Turned:
        """Decide on a renewal (DSSE, sealed with the old key)."""
        with self._lock:
            now_ms = self._now_ms()
            device = ""
            try:
                asked, old = self._opened(sealed)
                device = old.device
                self._check_nonce(asked.nonce)
                wait_s = self._pace.wait_s("renew", old.key_id)
                if wait_s > 0:
                    return self._later(Reason.TOO_MANY, source, wait_s, now_ms)
                key = possessed_key(asked.csr, binding(asked.nonce, old.key_id))
                return self._renewed(old, key, source, now_ms)
            except Refused as why:
                return self._turned(_reason(why), device, source, str(why), now_ms)
            except BadInput as problem:
                return self._unavailable(problem)

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
                if verdict.reason in _WRONG_CODE:
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
        self._pace.succeeded(source)
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
        concerned |= {chosen.device} if chosen else set()
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
            verdict = judge_renewal(self._renewal_facts(old, name, now_ms))
            if isinstance(verdict, Reason):
                return self._not_renewed(verdict, old, name, source, now_ms)
            if verdict is None:
                made = self._certify(device, key, name, now_ms, parent=old.key_id)
                book.served(name)
                self._note(device, "renew", f"{device} {made.serial}", now_ms)
            else:
                made = verdict.certificate
        return self._sent_to_work(made, source, now_ms)

    def _renewal_facts(self, old: Certificate, name: str, now_ms: int) -> RenewalFacts:
        book, waiting = self._book, self._book.waiting_key(name)
        successors = book.successors_of(old.key_id)
        mine = book.certificates_of(old.device)
        return RenewalFacts(
            now_ms=now_ms,
            old=old,
            out=book.is_barred(old.device) or book.asset_of(old.device) is None,
            held=book.certificates_of_key(name),
            successors=successors,
            moved_on=any(book.successors_of(one.key_id) for one in successors),
            of_late=sum(now_ms - one.from_ms < _DAY_MS for one in mine),
            verdict=waiting.verdict if waiting else "",
        )

    def _not_renewed(
        self, reason: Reason, old: Certificate, name: str, source: str, now_ms: int
    ) -> Turned:
        if reason is Reason.TOO_MANY:
            return self._later(reason, source, _HOUR_S, now_ms)
        asset = self._book.asset_of(old.device)
        if reason not in _FOR_A_PERSON or asset is None:
            return self._turned(reason, old.device, source, old.serial, now_ms)
        return self._asked(
            Waiting(
                no=0,
                key_id=name,
                school=asset.school,
                code_id="",
                serial=asset.serial,
                asset=asset.asset,
                source=source,
                reason=reason,
                asked_ms=now_ms,
                device=old.device,
            ),
            now_ms,
        )

    # What both need.

    def _later(self, reason: Reason, source: str, wait_s: float, now_ms: int) -> Turned:
        self._security.note(now_ms, f"enrol_{reason}", "", source)
        return Turned(reason=reason.value, retry_after_s=int(wait_s) + 1)

    def _unavailable(self, problem: BadInput) -> Turned:
        log.error("enrolment.unavailable why=%s", problem)
        return Turned(reason=Reason.UNAVAILABLE.value, retry_after_s=_HOUR_S)

    def _check_nonce(self, nonce: str) -> None:
        if not self._nonces.holds(nonce, self._now_ms() // 1000):
            raise Refused("bad_nonce", "not ours, or too old")

    def _certify(
        self,
        device: str,
        key: ec.EllipticCurvePublicKey,
        name: str,
        now_ms: int,
        parent: str = "",
    ) -> Certificate:
        if self._book.is_barred(device):
            raise BadInput(f"{device}: is barred; nothing may certify it")
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        made = self._authority.issue_client(device, key, now=now, lasts=self._rules.lasts)
        kept = Certificate(
            serial=f"{made.serial_number:x}",
            device=device,
            key_id=name,
            pem=made.public_bytes(serialization.Encoding.PEM).decode(),
            from_ms=_ms(made.not_valid_before_utc),
            until_ms=_ms(made.not_valid_after_utc),
            parent=parent,
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
        """Say no. The audit log gets the first of a kind in a day: a stranger could fill it."""
        self._security.note(now_ms, f"enrol_{reason}", who, source, detail)
        if who and self._pace.is_news(who, reason):
            self._note(who, "enrol_refused", f"{reason} {detail}"[:200], now_ms)
        return Turned(reason=reason.value)

    def _failed(self, source: str, now_ms: int) -> None:
        if self._pace.failed(source):
            self._security.note(now_ms, "enrol_locked", "", source)
            self._note("enrolment", "enrol_locked_out", "a source, for its wrong codes", now_ms)

    def _note(self, who: str, action: str, subject: str, now_ms: int, unit: str = "") -> None:
        self._audit.note(now_ms, who, action, subject, unit)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _reason(why: Refused) -> Reason:
    return Reason(why.reason) if why.reason in set(Reason) else Reason.BAD_REQUEST
