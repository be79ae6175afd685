"""Is the broker as tight as its configuration says? Tried from outside, proved by delivery.

SUBACK and PUBACK are granted to what is forbidden, so nothing is believed but what arrives. After
each forbidden thing a message goes over every allowed path; what was sent before it and has not
arrived by then was kept back.

It is done on a broker that runs: the probes have ids of their own (``probe-…``), certificates of an
hour, and the centre's part is played by ``center_check``. The takeover of a centre is tried on
``center_check`` too, never on ``center_ingest``: both are names of services, and this one disturbs
nobody when it is taken over. A probe's batches are sent on ``up/check``, which the
centre dead-letters.
"""

import secrets
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ketang_contract import topics
from ketang_contract.ids import shard_of
from ketang_provisioning import brokers
from ketang_provisioning.broker_probe import Papers, Probe, Will
from ketang_provisioning.broker_scene import DN, GRACE_S, UP, Place, Scene, Silent
from ketang_provisioning.certificates import Authority, load_certificate

REVOKED_WITHIN_S = 5.0
_ALL_UP, _ALL_DN = "kt/v1/+/+/up/#", "kt/v1/+/+/dn/#"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried.

    Attributes:
        held: None if it could not be tried.
        seen: what happened.
        todo: what to do, where it did not hold.
    """

    name: str
    held: bool | None
    seen: str
    todo: str = ""


def run(place: Place, authority: Authority, only: Collection[str] | None = None) -> list[Finding]:
    """Try everything; a broker that runs is not disturbed. Some fifteen seconds.

    Args:
        place: the broker.
        authority: of the clients, to make the probes' certificates.
        only: names of findings; None: all. The allowed paths are always tried.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        papers = Papers(Path(folder), place.ca_file, authority)
        scene = Scene(place, papers, stack, _new_id(), _new_id(), _new_id())
        try:
            scene.open()
        except Silent as problem:
            return [Finding("allowed_paths", held=False, seen=str(problem), todo=_TODO_PATHS)]
        found = [Finding("allowed_paths", held=True, seen="delivered both ways")]
        wanted = [one for one in CHECKS if only is None or one.name in only]
        return found + [_judge(scene, one) for one in wanted]


@dataclass(frozen=True, slots=True)
class Held:
    """It held, and this was seen."""

    seen: str


@dataclass(frozen=True, slots=True)
class Check:
    """``attempt`` returns what went wrong; an empty text if it held; None if it was not tried."""

    name: str
    attempt: Callable[[Scene], str | Held | None]
    held: str
    todo: str


def _judge(scene: Scene, check: Check) -> Finding:
    try:
        wrong = check.attempt(scene)
    except Silent as problem:
        wrong = str(problem)
    if wrong is None:
        return Finding(check.name, held=None, seen="not tried", todo=_TODO_UNTRIED[check.name])
    if isinstance(wrong, Held) or not wrong:
        return Finding(check.name, held=True, seen=wrong.seen if wrong else check.held)
    return Finding(check.name, held=False, seen=wrong, todo=check.todo)


def _let_in(probe: Probe) -> str:
    return "was taken in" if probe.entered else ""


def _no_certificate(scene: Scene) -> str:
    address, ca_file = scene.place.address, scene.place.ca_file
    with Probe(address, ca_file, None, scene.c) as probe:
        return _let_in(probe)


def _foreign(scene: Scene) -> str:
    return _let_in(scene.enter(scene.c, scene.papers.foreign(scene.c)))


def _expired(scene: Scene) -> str:
    return _let_in(scene.enter(scene.c, scene.papers.expired(scene.c)))


def _server(scene: Scene) -> str | None:
    server = scene.place.server
    return None if server is None else _let_in(scene.enter(scene.c, server))


def _revoked(scene: Scene) -> str | Held | None:
    revoke = scene.place.revoke
    if revoke is None:
        return None
    identity = scene.papers.good(scene.c)
    revoke(load_certificate(identity.certificate_file).serial_number)
    began = time.monotonic()
    while (took_s := time.monotonic() - began) <= REVOKED_WITHIN_S:
        probe = scene.enter(scene.c, identity)
        if not probe.entered:
            return Held(f"was refused {took_s:.1f} s after it was revoked")
        probe.leave()  # NATS turns away who keeps replacing his own connection
        scene.center.listen(GRACE_S)
    return f"was still taken in {REVOKED_WITHIN_S:.0f} s after it was revoked"


def _publish(target: str, channel: str, *, retain: bool = False) -> Callable[[Scene], str]:
    def attempt(scene: Scene) -> str:
        return scene.spoken(scene.other, topics.of(getattr(scene, target), channel), retain=retain)

    return attempt


def _subscribe(make: Callable[[Scene], Sequence[str]]) -> Callable[[Scene], str]:
    def attempt(scene: Scene) -> str:
        return scene.overheard([scene.enter(_new_id(), filters=[one]) for one in make(scene)])

    return attempt


def _own_will(scene: Scene) -> str:
    return "" if _die(scene, scene.c, retain=False) else "was not delivered"


def _other_will(scene: Scene) -> str:
    if not any([_die(scene, scene.a, retain=False), _die(scene, scene.a, retain=True)]):
        return ""
    scene.device.say(topics.of(scene.a, UP), b"", retain=True)
    return f"{topics.of(scene.a, UP)} was delivered"


def _die(scene: Scene, target: str, *, retain: bool) -> bool:
    """Let a client die whose will is on a topic; tell whether it is delivered."""
    last = secrets.token_bytes(8)
    name = scene.c if target == scene.c else _new_id()
    dying = scene.enter(name, will=Will(topics.of(target, UP), last, retain))
    dying.die()
    if target == scene.c:
        return scene.center.heard(last)
    scene.fence()
    return scene.center.heard(last, GRACE_S)


def _takeover(scene: Scene, wanted: str) -> str:
    victims = (scene.center, scene.device)
    thief = scene.enter(
        scene.c,
        client_id=wanted,
        filters=[topics.of(scene.a, "dn/#"), topics.of(scene.a, "up/#")],
    )
    for one in victims:
        one.listen(GRACE_S)
    if not all(one.alive for one in victims):
        return f"{wanted} was thrown out"
    heard = scene.overheard([thief])
    thief.leave()
    return heard


def _takeover_center(scene: Scene) -> str:
    wrong = _takeover(scene, brokers.CHECK)
    if not scene.center.alive:
        scene.center.enter()
    return wrong


def _takeover_device(scene: Scene) -> str:
    wrong = _takeover(scene, scene.a)
    if not scene.device.alive:
        scene.device.enter()
    return wrong


def _strange_ids(scene: Scene) -> str:
    spies = [
        scene.enter(_new_id(), client_id=one, filters=[_ALL_DN, _ALL_UP])
        for one in ("+", "#", "a/b", " ", "*", ">")
    ]
    return scene.overheard(spies)


def _nobodies(names: Sequence[str]) -> Callable[[Scene], str]:
    def attempt(scene: Scene) -> str:
        filters = [_ALL_DN, _ALL_UP, topics.of(scene.a, "dn/#")]
        spies = [scene.enter(one, scene.papers.odd(one), filters=filters) for one in names]
        said = (
            scene.spoken(spy, topics.of(scene.a, UP), topics.of(scene.a, DN))
            for spy in spies
            if spy.alive
        )
        return scene.overheard(spies) or next((one for one in said if one), "")

    return attempt


def _wrong_shard(scene: Scene) -> Held:
    """Nothing to hold: mosquitto delivers it, and the centre dead-letters what is not hash(id)."""
    delivered = scene.spoken(scene.other, wrong_shard(scene.b))
    return Held("was delivered: left to the centre, which refuses it" if delivered else _KEPT)


def wrong_shard(device: str) -> str:
    """A topic of a device under a shard that is not its own."""
    shard = f"{int(shard_of(device), 16) ^ 1:02x}"
    return f"{topics.ROOT}/{shard}/{device}/{UP}"


def _oversized(scene: Scene) -> str:
    large = b"x" * (brokers.MOST_BYTES + 1)
    scene.other.say(topics.of(scene.b, UP), large)
    scene.other.wait(lambda: not scene.other.alive)
    if scene.other.alive:
        return f"{len(large)} bytes were taken"
    scene.other = scene.enter(scene.b, filters=[topics.of(scene.b, "dn/#")])
    scene.fence()
    return "was delivered" if large in scene.center.payloads() else ""


def _new_id() -> str:
    return f"probe-{secrets.token_hex(6)}"


_OUT, _KEPT = "was refused", "was not delivered"
_ACL = "make the configuration anew: ketang broker config; the ACL gives too much"
_TODO_PATHS = (
    "is the broker up, does its certificate name this host, does its ACL name center_check?"
)
_TODO_UNTRIED = {
    "server_certificate": "run it where a server's certificate is: [enrolment] certificate",
    "revoked_certificate": "run it where the broker's revocation list is: [enrolment] crl or --crl",
}
_TODO_AUTHORITY = "require_certificate true (mosquitto), verify true (NATS), the clients' CA alone"
_TODO_NAME = "use_identity_as_username and use_username_as_clientid true; NATS: run the doorkeeper"

CHECKS: tuple[Check, ...] = (
    Check("no_certificate", _no_certificate, _OUT, _TODO_AUTHORITY),
    Check("foreign_certificate", _foreign, _OUT, _TODO_AUTHORITY),
    Check("expired_certificate", _expired, _OUT, _TODO_AUTHORITY),
    Check("server_certificate", _server, _OUT, _TODO_AUTHORITY),
    Check(
        "revoked_certificate",
        _revoked,
        _OUT,
        "start the broker by ketang broker run, which keeps its revocation list current",
    ),
    Check("publish_other_up", _publish("a", UP), _KEPT, _ACL),
    Check("publish_other_up_retained", _publish("a", UP, retain=True), _KEPT, _ACL),
    Check("publish_other_dn", _publish("a", DN), _KEPT, _ACL),
    Check("publish_own_dn", _publish("b", DN), _KEPT, _ACL),
    Check(
        "subscribe_other_dn", _subscribe(lambda at: [topics.of(at.a, "dn/#"), _ALL_DN]), _KEPT, _ACL
    ),
    Check(
        "subscribe_other_up", _subscribe(lambda at: [topics.of(at.a, "up/#"), _ALL_UP]), _KEPT, _ACL
    ),
    Check("subscribe_everything", _subscribe(lambda _: ["#", "+/#", "kt/#"]), _KEPT, _ACL),
    Check("subscribe_internals", _subscribe(lambda _: ["$SYS/#", "$MQTT/#", "$JS/#"]), _KEPT, _ACL),
    Check(
        "subscribe_shared",
        _subscribe(lambda at: [f"$share/g/{_ALL_DN}", f"$share/g/{topics.of(at.a, 'up/#')}"]),
        _KEPT,
        _ACL,
    ),
    Check("will_own", _own_will, "was delivered", _ACL),
    Check("will_other", _other_will, _KEPT, _ACL),
    Check("takeover_device", _takeover_device, "the owner stayed", _TODO_NAME),
    Check("takeover_center", _takeover_center, "the owner stayed", _TODO_NAME),
    Check("strange_client_ids", _strange_ids, "reached nothing", _TODO_NAME),
    Check("strange_names", _nobodies(["+", "#", "probe.a", "*", ">"]), "reached nothing", _ACL),
    Check("unknown_service", _nobodies(["center_other"]), "reached nothing", _ACL),
    Check("wrong_shard", _wrong_shard, "", ""),
    Check("oversized", _oversized, "cost its sender the connection, and nobody else", "limits"),
)
