"""The stage of ``broker_check``: two devices and the centre's double, connected to a broker."""

import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ketang_contract import topics
from ketang_contract.errors import KetangError
from ketang_provisioning import brokers
from ketang_provisioning.broker_probe import Address, Papers, Probe, Will
from ketang_provisioning.ca import Identity

UP, DN = "up/check", "dn/check"
"""Channels that nothing else uses."""
GRACE_S = 0.25


@dataclass(frozen=True, slots=True)
class Place:
    """The broker, and what is needed to try everything.

    Attributes:
        ca_file: authorities of servers.
        server: a server's certificate, to be tried as a client's; None: not tried.
        revoke: puts a serial number on the broker's revocation list; None: not tried.
    """

    address: Address
    ca_file: Path
    server: Identity | None = None
    revoke: Callable[[int], None] | None = None


class Silent(KetangError):
    """A message on an allowed path did not arrive, so nothing can be proved."""


@dataclass(slots=True)
class Scene:
    """Two devices and the centre's double, connected; secrets that must not be overheard."""

    place: Place
    papers: Papers
    stack: ExitStack
    a: str
    b: str
    c: str
    device: Probe = field(init=False)
    other: Probe = field(init=False)
    center: Probe = field(init=False)

    def open(self) -> None:
        """Connect all three, and show that the allowed paths work.

        Raises:
            Silent: which does not.
        """
        self.center = self.enter(
            brokers.CHECK,
            filters=[f"kt/v1/+/{one}/{UP}" for one in (self.a, self.b, self.c)],
        )
        self.device = self.enter(self.a, filters=[topics.of(self.a, "dn/#")])
        self.other = self.enter(self.b, filters=[topics.of(self.b, "dn/#")])
        for probe, name in ((self.center, brokers.CHECK), (self.device, self.a)):
            if not probe.entered:
                raise Silent(f"{name} was not taken in: {probe.why}")
        self.fence()

    def enter(
        self,
        name: str,
        identity: Identity | None = None,
        *,
        client_id: str | None = None,
        filters: Sequence[str] = (),
        will: Will | None = None,
    ) -> Probe:
        """Try to come in; with a good certificate of that name unless another is given."""
        probe = Probe(
            self.place.address,
            self.place.ca_file,
            identity or self.papers.good(name),
            name if client_id is None else client_id,
            filters=filters,
            will=will,
        )
        self.stack.callback(probe.leave)
        probe.enter()
        return probe

    def fence(self) -> None:
        """Send one message over each allowed path: what went before came, or never will.

        Raises:
            Silent: one did not arrive.
        """
        for probe, name in ((self.device, self.a), (self.other, self.b)):
            mark = secrets.token_bytes(8)
            probe.say(topics.of(name, UP), mark)
            if not self.center.heard(mark):
                raise Silent(f"{name}/{UP} did not reach {brokers.CHECK}")
            self.center.say(topics.of(name, DN), mark)
            if not probe.heard(mark):
                raise Silent(f"{brokers.CHECK} did not reach {name}/{DN}")
        for probe in (self.center, self.device, self.other):
            probe.listen(GRACE_S / 3)

    def overheard(self, spies: Sequence[Probe]) -> str:
        """Say what spies get of a device's traffic, live and retained, or that they got nothing."""
        secret = secrets.token_bytes(8)
        self.device.say(topics.of(self.a, UP), secret, retain=True)
        self.center.say(topics.of(self.a, DN), secret)
        self.fence()
        self.device.say(topics.of(self.a, UP), b"", retain=True)
        leaks = []
        for spy in spies:
            spy.listen(GRACE_S / 2)
            leaks += [one.topic for one in spy.got]
        return f"{len(leaks)} messages of others came, e.g. {leaks[0]}" if leaks else ""

    def spoken(self, speaker: Probe, *said: str, retain: bool = False) -> str:
        """Say whether what one client says on some topics reaches anybody."""
        forged = secrets.token_bytes(8)
        for topic in said:
            speaker.say(topic, forged, retain=retain)
        self.fence()
        if retain:
            self.center.subscribe_again()
        heard = any(forged in one.payloads() for one in (self.center, self.device, self.other))
        if heard and retain:
            self.device.say(topics.of(self.a, UP), b"", retain=True)
        return f"what was said on {' or '.join(said)} was delivered" if heard else ""
