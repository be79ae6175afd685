"""Asking one device for something at once: signed, sent, answered, or given up in time.

The centre's command key is on line, and signs nothing else. Every command is for one device and one
job; a list of devices becomes as many commands. What an operator asked for while the centre was
down is not sent hours later: it has to be asked again.

A command that nobody answered is sent again, the same bytes, until its ten minutes are over. The
device carries a job out once, however often it comes.
"""

import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ketang_center.access.audit import Audit
from ketang_center.access.policy import Action, Actor, require
from ketang_center.command_jobs import OPEN, Job, Jobs, JobState
from ketang_center.registry.tree import Tree
from ketang_contract import topics, validate
from ketang_contract.commands import (
    COMMAND_TYPE,
    COUNTDOWN_LEAST_S,
    COUNTDOWN_MOST_S,
    LASTS_MOST_S,
    Answer,
    Command,
    State,
    What,
    check_archive,
    payload,
    split_answer,
)
from ketang_contract.errors import BadInput, Refused
from ketang_contract.ids import new_store_id
from ketang_contract.records import to_line
from ketang_contract.signatures import PrivateKey, seal
from ketang_provisioning.keys import load_private, write_private

log = logging.getLogger("ketang.commanding")

FOLDER, KEY, FILE = "diagnostics", "command.key", "commands.db"
COUNTDOWN_S = 120
TELL_OF_USE = frozenset({"cancelled", "in_use"})
"""Why a device stayed on that tells whether somebody used it: the school's own (PRIVACY rule 7)."""
MOST_DEVICES = 2_000
"""One request may name; an idle list of a county fits."""
_A_ROUND = 20
"""Commands sent in one round of a second: a county that is switched off at night, in minutes."""
_AGAIN_MS = 20_000
_GRACE_MS = 60_000
_ARCHIVE_DAYS_MS = 30 * 24 * 3_600_000
_FORGET_EVERY_MS = 3_600_000
_RANK = {state: rank for rank, state in enumerate(OPEN)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked of each of some devices: ``units`` names the school of each.

    ``by`` is who asks, as people in the room read it, and the audit log too unless that has
    another name for him (``logged_as``). ``logged_with`` stands behind each entry there.
    """

    what: What
    by: str
    units: dict[str, str]
    countdown_s: int | None = None
    logged_as: str = ""
    logged_with: str = ""


def ask(jobs: Jobs, audit: Audit, wish: Wish, now_ms: int) -> list[Job]:
    """Ask for something; the running centre sends it within a second.

    Every device's is in the audit log before it can be sent.

    Returns:
        a job for each device, in the order of ``units``.

    Raises:
        BadInput: no such countdown, too many devices, or one was asked too often; nobody is asked.
    """
    if not 1 <= len(wish.units) <= MOST_DEVICES:
        raise BadInput(f"{len(wish.units)} devices; accepted: 1 to {MOST_DEVICES}")
    countdown_s, request = _countdown_s(wish), new_store_id()
    made = [
        Job(
            job=new_store_id(),
            device=device,
            what=wish.what,
            who=wish.by,
            unit=unit,
            countdown_s=countdown_s,
            asked_ms=now_ms,
            state=JobState.ASKED,
            changed_ms=now_ms,
            request=request,
        )
        for device, unit in wish.units.items()
    ]
    for job in made:
        _command(job, now_ms)  # what could not be sent is not kept
    who, more = wish.logged_as or wish.by, wish.logged_with
    subjects = [(f"{one.device} {one.what} {one.job} {more}".rstrip(), one.unit) for one in made]
    jobs.add(made, lambda: audit.note_all(now_ms, who, "command_asked", subjects))
    return made


def ask_as(
    actor: Actor, tree: Tree, jobs: Jobs, audit: Audit, wish: Wish, now_ms: int
) -> list[Job]:
    """Ask in the name of an account, which must be an operator's on every device's unit.

    Raises:
        OutOfScope: it is not, of one at least; nobody is asked.
        BadInput: as ``ask``.
    """
    for unit in wish.units.values():
        require(actor, Action.CONFIGURE, tree, unit)
    return ask(jobs, audit, replace(wish, by=actor.name), now_ms)


class Commanding:
    """The running centre's: a duty sends, ingest brings answers. Two threads.

    Args:
        jobs: the file.
        audit: the log.
        key: the command key.
        folder: where archives are kept.
        say: publishes: topic, bytes; QoS 1, not retained.
    """

    def __init__(
        self,
        jobs: Jobs,
        audit: Audit,
        key: PrivateKey,
        folder: Path,
        say: Callable[[str, bytes], None],
    ) -> None:
        self._jobs, self._audit, self._key = jobs, audit, key
        self._folder, self._say = folder / FOLDER, say
        self._forgot_ms = 0
        self._lock = threading.Lock()

    def keep(self, now_ms: int) -> None:
        """Send what is asked, send again what nobody answered, and end what is over."""
        with self._lock:
            self._keep(now_ms)

    def _keep(self, now_ms: int) -> None:
        for job in self._jobs.open_jobs(JobState.ASKED)[:_A_ROUND]:
            self._send(job, now_ms)
        for job in self._jobs.open_jobs():
            if job.state is JobState.ASKED:
                continue
            if now_ms > job.expires_ms + _GRACE_MS + (job.countdown_s or 0) * 1000:
                self._end(job, JobState.EXPIRED, "no_answer", now_ms)
            elif job.state is JobState.SENT and _is_due_again(job, now_ms):
                self._publish(replace(job, said_ms=now_ms))
        if now_ms - self._forgot_ms >= _FORGET_EVERY_MS:
            self._forgot_ms = now_ms
            self._jobs.forget(now_ms)
            self._forget_archives(now_ms)

    def answered(self, device: str, job: str, raw: bytes, now_ms: int) -> None:
        """Take in what a device says of a job; what comes late or twice changes nothing.

        Args:
            device: as the broker knows it.
            job: from the topic.
            raw: the answer's line, and the archive behind it.
            now_ms: UTC.

        Raises:
            Refused: not an answer, about a job this device was not given, or not its archive.
        """
        line, archive = split_answer(raw)
        answer = validate.document(Answer, line)
        with self._lock:
            self._take(device, job, answer, archive, now_ms)

    def _take(self, device: str, job: str, answer: Answer, archive: bytes, now_ms: int) -> None:
        held = self._jobs.get(job)
        if held is None or held.device != device or answer.job != job:
            raise Refused("bad_document", "an answer to what this device was not asked")
        check_archive(answer, archive)
        if archive and held.what is not What.DIAGNOSTICS:
            raise Refused("bad_document", "an archive nobody asked for")
        state = JobState(answer.state.value)
        result = to_line(answer.result).decode() if answer.result is not None else held.result
        # Of a countdown it may be told later that a desktop shows it.
        is_more = state is held.state is JobState.RUNNING and result != held.result
        if held.is_over or not (is_more or _RANK.get(state, len(_RANK)) > _RANK[held.state]):
            return
        sent_twice = answer.state is State.REFUSED and answer.reason == "used"
        if sent_twice and held.state is not JobState.SENT:
            return  # what the first one led to is known
        if archive:
            self._keep_archive(job, archive)
        changed = replace(held, reason=answer.reason, result=result)
        if state in OPEN:
            self._jobs.put(replace(changed, state=state, changed_ms=now_ms))
        else:
            self._end(changed, state, answer.reason, now_ms)

    def _send(self, job: Job, now_ms: int) -> None:
        if now_ms - job.asked_ms > LASTS_MOST_S * 1000:
            self._end(job, JobState.EXPIRED, "not_sent", now_ms)
            return
        command = _command(job, now_ms)
        sent = replace(
            job,
            state=JobState.SENT,
            envelope=seal(payload(command), COMMAND_TYPE, [self._key]),
            expires_ms=command.expires_s * 1000,
            said_ms=now_ms,
            changed_ms=now_ms,
        )
        self._publish(sent)

    def _publish(self, job: Job) -> None:
        """Keep that it is sent, then send it: a crash in between is mended by sending again."""
        self._jobs.put(job)
        if job.envelope is not None:
            self._say(topics.of(job.device, f"{topics.COMMAND}/{job.job}"), job.envelope)

    def _end(self, job: Job, state: JobState, reason: str, now_ms: int) -> None:
        told = "" if job.what is What.SHUT_DOWN and reason in TELL_OF_USE else reason
        what = f"{job.device} {job.what} {job.job} {state.value} {told}".strip()
        self._audit.note(now_ms, f"device:{job.device}", "command_ended", what, job.unit)
        self._jobs.put(replace(job, state=state, reason=reason, changed_ms=now_ms))

    def _keep_archive(self, job: str, archive: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self._folder / f"{job}.zip", archive)

    def _forget_archives(self, now_ms: int) -> None:
        if not self._folder.exists():
            return
        for one in self._folder.iterdir():
            if one.stat().st_mtime * 1000 < now_ms - _ARCHIVE_DAYS_MS:
                one.unlink(missing_ok=True)


def commanding_of(
    kit_key: Path, data_dir: Path, jobs: Jobs, audit: Audit, say: Callable[[str, bytes], None]
) -> Commanding | None:
    """Make the running centre's part; None where this centre has no command key.

    Args:
        kit_key: the other online key, as the settings name it: the command key lies beside it.
        data_dir: the centre's.
        jobs: the file.
        audit: the log.
        say: publishes to a device.

    Raises:
        BadInput: the key cannot be read.
    """
    key = kit_key.with_name(KEY)
    if not has_key(kit_key):
        log.warning("command.no_key file=%s devices cannot be asked for anything", key)
        return None
    return Commanding(jobs, audit, load_private(key, None), data_dir, say)


def has_key(kit_key: Path) -> bool:
    """Tell whether this centre can ask devices; its command key lies beside the other one."""
    return kit_key.with_name(KEY).exists()


def archive_of(data_dir: Path, job: str) -> Path:
    """Say where a job's archive is, if it has one."""
    return data_dir / FOLDER / f"{job}.zip"


def result_of(job: Job) -> dict[str, object]:
    """Return what a device answered, as JSON's own types; empty where nothing."""
    said = json.loads(job.result) if job.result else {}
    return said if isinstance(said, dict) else {}


def units_of(
    devices: Sequence[str], school_of: Callable[[str], str], barred: Callable[[str], bool]
) -> dict[str, str]:
    """Return the school of each device that is to be asked.

    Raises:
        BadInput: one is not known here, or was thrown out.
    """
    found = {}
    for device in devices:
        unit = school_of(device)
        if not unit or barred(device):
            raise BadInput(f"{device}: no device of this name is at work here")
        found[device] = unit
    return found


def _is_due_again(job: Job, now_ms: int) -> bool:
    return now_ms < job.expires_ms and now_ms - job.said_ms >= _AGAIN_MS


def _countdown_s(wish: Wish) -> int | None:
    if wish.what is not What.SHUT_DOWN:
        if wish.countdown_s is not None:
            raise BadInput("a countdown belongs to a shutdown, and to nothing else")
        return None
    seconds = COUNTDOWN_S if wish.countdown_s is None else wish.countdown_s
    if not COUNTDOWN_LEAST_S <= seconds <= COUNTDOWN_MOST_S:
        raise BadInput(
            f"a countdown of {seconds} s; accepted: {COUNTDOWN_LEAST_S} to {COUNTDOWN_MOST_S}"
        )
    return seconds


def _command(job: Job, now_ms: int) -> Command:
    """Make the command of a job.

    Raises:
        BadInput: the device or who asks has no name that a command can carry.
    """
    command = Command(
        device=job.device,
        job=job.job,
        what=job.what,
        who=job.who,
        issued_s=now_ms // 1000,
        expires_s=now_ms // 1000 + LASTS_MOST_S,
        countdown_s=job.countdown_s,
    )
    try:
        validate.signed(Command, payload(command))
    except Refused as why:
        raise BadInput(
            f"{job.device}: cannot be asked by {job.who!r}, which no device would show: {why}"
        ) from None
    return command
