"""Devices that connect to a real broker and answer what comes down, all in this process.

Each tries a configuration once, takes a moment for it, and tells; what it knows it tells again, and
now and then it says how it stands, as an agent does with its records.
"""

import os
import random
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from ketang_center.enrolment.settings import AuthorityFiles
from ketang_center.registry.database import Registry
from ketang_center.registry.values import Data, Device, Kind, Placement, Service, ServiceState
from ketang_contract import layers, topics
from ketang_contract.records import to_line
from ketang_contract.state import ConfigState, Death
from ketang_provisioning.certificates import Authority, certificate_pem
from ketang_provisioning.keys import make_ec, private_pem
from tests.configs import PATH
from tests.regions import SCHOOLS, Region
from tests.rollouts import FakeDevice, read_bundle

PATIENCE_S = 120


class Authorities:
    """Makes identities that the region's broker accepts."""

    def __init__(self, region: Region, folder: Path) -> None:
        center = region.center_folder
        files = AuthorityFiles(
            center / "clients-ca.pem", center / "clients-ca.key", center / "clients-ca.passphrase"
        )
        phrase = files.passphrase_file.read_bytes().strip()
        self._authority = Authority.load(files.certificate, files.key, phrase)
        self._folder, self._servers = folder, center / "servers-ca.pem"
        folder.mkdir(parents=True, exist_ok=True)

    def context(self, name: str) -> ssl.SSLContext:
        key, now = make_ec(), datetime.now(UTC)
        made = self._authority.issue_client(
            name, key.public_key(), now=now, lasts=timedelta(days=1)
        )
        pair = self._folder / f"{name}.pem"
        pair.write_bytes(private_pem(key, None) + certificate_pem(made))
        context = ssl.create_default_context(cafile=str(self._servers))
        context.load_cert_chain(pair)
        return context


class Fleet:
    """``with Fleet(region, folder, names) as fleet``: connected, and answering.

    ``trial_s``: how long each takes to try something, from and to. ``most_at_once``: how many had
    something at hand at one moment, at most.
    """

    def __init__(
        self,
        region: Region,
        folder: Path,
        names: list[str],
        trial_s: tuple[float, float] = (0.1, 0.4),
        answer: Callable[[str], ConfigState | None] = lambda name: ConfigState.COMMITTED,
    ) -> None:
        self.devices = {name: _Device(self, name) for name in names}
        self.region, self._trial_s, self.answer = region, trial_s, answer
        self._authorities = Authorities(region, folder)
        self.lock = threading.RLock()
        self.at_hand: set[str] = set()
        self.most_at_once = 0
        self._stopping = threading.Event()
        self._chance = random.Random(7)

    def __enter__(self) -> Self:
        for one in self.devices.values():
            one.connect(self._authorities.context(one.name))
        threading.Thread(target=self._speak, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for one in self.devices.values():
            one.client.disconnect()
            one.client.loop_stop()

    def began(self, name: str) -> float:
        with self.lock:
            self.at_hand.add(name)
            self.most_at_once = max(self.most_at_once, len(self.at_hand))
            return self._chance.uniform(*self._trial_s)

    def ended(self, name: str) -> None:
        with self.lock:
            self.at_hand.discard(name)

    def _speak(self) -> None:
        while not self._stopping.wait(1.0):
            for one in self.devices.values():
                if one.client.is_connected() and one.client.socket():
                    one.tell()

    def tried(self) -> Counter:
        """Count, over all devices, how often each tried each configuration at each attempt."""
        return Counter(times for one in self.devices.values() for times in one.fake.tried.values())

    def attempts(self) -> set[int]:
        return {attempt for one in self.devices.values() for _, attempt in one.fake.tried}

    def runs(self) -> set[str | None]:
        return {one.fake.report.running for one in self.devices.values()}


class _Device:
    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet, self.name, self.fake = fleet, name, FakeDevice(name)
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=True)
        self._lock = threading.RLock()

    def connect(self, context: ssl.SSLContext) -> None:
        client, region = self.client, self.fleet.region
        client.tls_set_context(context)
        self._begin_session()
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.reconnect_delay_set(1, 2)
        client.connect_async(region.host, region.broker_port, 30)
        client.loop_start()

    def lose_line(self) -> None:
        """Be gone without a word, and do not come back."""
        line = self.client.socket()
        self.client.loop_stop()
        if line is not None:  # below TLS, which would say good-bye
            with socket.socket(fileno=os.dup(line.fileno())) as plain:
                plain.shutdown(socket.SHUT_RDWR)

    def find_line(self) -> None:
        """Come back as one that was switched off: what was at hand is begun anew."""
        with self._lock:
            self.fake.report = replace(self.fake.report, desired=None, state=ConfigState.FACTORY)
        self._begin_session()
        self.client.reconnect()
        self.client.loop_start()

    def _begin_session(self) -> None:
        self.fake.session = time.time_ns() // 10**6
        will = to_line(Death(session=self.fake.session))
        self.client.will_set(self._topic(topics.DEATH), will, qos=1)

    def tell(self) -> None:
        with self._lock:
            self.client.publish(self._topic(topics.REPORTED), to_line(self.fake.reported()), qos=1)

    def _topic(self, channel: str) -> str:
        return topics.of(self.name, channel)

    def _on_connect(self, client, *_) -> None:
        client.subscribe(self._topic(topics.DESIRED), qos=1)
        birth = to_line(self.fake.birth())
        client.publish(self._topic(topics.BIRTH), birth, qos=1, retain=True)
        self.tell()

    def _on_message(self, _c, _u, message) -> None:
        desired = layers.read_desired(message.payload)
        name, _ = read_bundle(desired)
        with self._lock:
            self.fake.take_trust(desired)
            report = self.fake.report
            known = report.desired == name and report.attempt >= desired.attempt
            if known:
                self.tell()
                return
            wait_s = self.fleet.began(self.name)
            self.fake.report = replace(
                report, state=ConfigState.TRIAL, desired=name, attempt=desired.attempt
            )
            self.tell()
        threading.Timer(wait_s, self._decide, (message.payload, report)).start()

    def _decide(self, raw: bytes, before) -> None:
        with self._lock:
            self.fake.answer = self.fleet.answer(self.name)
            if self.fake.answer is None:  # it is at it for ever
                return
            self.fake.report = before
            self.fake.take(raw)
            # First: once it is told, the centre may send to the next one.
            self.fleet.ended(self.name)
            self.tell()


def path_of(at):
    school = SCHOOLS[at % len(SCHOOLS)]
    return (*PATH[:3], ("school", school), ("room", f"{school}-r1"))


def register(region, names):
    with Registry(region.data_dir / "registry.db") as registry:
        registry.load(
            Data(
                devices=tuple(
                    Device(id=name, kind=(Kind.OPS_PC, Kind.IFP)[at % 2], name=name)
                    for at, name in enumerate(names)
                ),
                placements=tuple(
                    Placement(device=name, room=path_of(at)[-1][1], from_ms=1)
                    for at, name in enumerate(names)
                ),
                services=tuple(
                    Service(device=name, state=ServiceState.IN_SERVICE, from_ms=1) for name in names
                ),
            )
        )


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
