"""What became of a command, in words: one state for a person, and the device's reason. Pure."""

from collections import Counter
from collections.abc import Iterable

from ketang_center.command_jobs import Job, JobState
from ketang_center.web.text import Words
from ketang_contract.commands import What

ORDER = ("done", "running", "waiting_consent", "waiting", "stays_on", "cancelled", "trouble")
"""In which a request's devices are counted: what was meant first, what needs a look last."""
_WAITING = frozenset({JobState.ASKED, JobState.SENT, JobState.RECEIVED})
_TROUBLE = frozenset({JobState.REFUSED, JobState.EXPIRED, JobState.FAILED})
_MARKS = {
    "done": "m-committed",
    "running": "m-trial",
    "waiting_consent": "m-trial",
    "waiting": "m-pending",
    "stays_on": "ro-cancelled",
    "cancelled": "ro-cancelled",
    "trouble": "m-failed",
}


def kind(job: Job) -> str:
    """Return under which of ``ORDER`` a job is counted."""
    if job.state in _WAITING:
        return "waiting"
    if job.state in _TROUBLE:
        return "trouble"
    if job.state is JobState.CANCELLED and job.what is What.SHUT_DOWN:
        return "stays_on"
    return job.state.value


def counts(found: Iterable[Job]) -> list[tuple[str, int]]:
    """Count a request's devices, in ``ORDER``, without those that are none."""
    tally = Counter(kind(one) for one in found)
    return [(name, tally[name]) for name in ORDER if tally[name]]


def mark(name: str) -> str:
    """Return the class of the sign that stands before a state."""
    return _MARKS[name]


def state(job: Job, t: Words) -> str:
    """Say how far a job has come."""
    if job.what is What.SHUT_DOWN:
        own = t.by_key.get(f"shutdown_state.{job.state.value}")
        if own is not None:
            return own
    return t(f"command_state.{job.state.value}")


def reason(job: Job, t: Words) -> str:
    """Say why, and what to do about it; a reason that is new here is shown as it is."""
    if not job.reason:
        return ""
    return t.by_key.get(f"command_reason.{job.reason}", job.reason)
