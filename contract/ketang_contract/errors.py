"""Errors, named for what the caller can do about them."""


class KetangError(Exception):
    """Base of every error this project raises on purpose."""


class Refused(KetangError):
    """The input can never be accepted; ``reason`` is one of the closed wire reasons.

    Caller: answer ``refused``, keep a copy in the dead letters, go on.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class NotYet(KetangError):
    """The input comes from a newer release. Caller: do not answer, raise an alarm, go on."""


class TooLarge(KetangError):
    """The record or batch is over a cap. Caller: make it smaller; it was not stored."""


class BadInput(KetangError):
    """A person's input is wrong: what, where, and what to do, in one line."""
