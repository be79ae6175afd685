"""Enrolment and renewal killed anywhere, and begun again: exactly one valid identity.

A child of this process does the very calls of ``ketang enroll`` and of the renewing child, and is
killed with SIGKILL, or loses its power: then what was not flushed to the disk is gone as well.
"""

import os
import pty
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509

from ketang_agent import settings
from ketang_agent.credentials import Credentials
from ketang_agent.enrol import enrolling, renewing, talking, verifier
from ketang_agent.enrol.files import Place, read_facts, write_facts
from ketang_agent.uplink.client import Connected, Connection
from ketang_center.access.audit import Audit
from ketang_center.enrolment.book import Book
from ketang_center.enrolment.office import Office, Why
from ketang_center.registry.database import Registry
from ketang_cli.local_broker import free_port
from ketang_contract import kit, topics
from ketang_contract.errors import BadInput, KetangError
from tests.regions import KETANG, Region, enroll, now_ms

PATIENCE_S = 60
STEPS = "trust", "key", "asked", "answer", "identity", "facts", "settings", "key gone", "done"
RENEWAL_STEPS = "key", "asked", "next", "done"
WHOLE = {
    "root.fingerprint",
    "trust.json",
    "servers-ca.pem",
    "identity.pem",
    "identity.json",
    "agent.toml",
    ".lock",
}
DEVICES = 600
EACH_CALL = [pytest.param(3, id="each third"), pytest.param(1, id="each", marks=pytest.mark.soak)]
"""Which calls to the disk a kill falls on; without power on others than with it."""


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def start(work):
    """Run ``work`` in a child; its process id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001  (it must not come back as a second pytest)
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def was_killed(child):
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, -signal.SIGKILL}, "the child failed; its trace is above"
    return status != 0


class Disk:
    """The child's files: at call number ``kill_at`` it is killed, with ``power`` out as well."""

    def __init__(self, kill_at, *, power):
        self.left, self.power = kill_at, power
        self.unflushed, self.unsaid = set(), []
        self.real = os.open, os.fsync, os.replace, os.unlink

    def seize(self):
        os.open, os.fsync, os.replace, os.unlink = (
            self.open,
            self.fsync,
            self.replace,
            self.unlink,
        )

    def step(self):
        self.left -= 1
        if self.left == 0:
            if self.power:
                self.forget()
            die()

    def forget(self):
        """Leave what a disk holds that wrote down only what it was told to."""
        for path in self.unflushed:
            if os.path.exists(path):  # noqa: PTH110
                os.truncate(path, 0)
        for path, before in reversed(self.unsaid):
            if before is None:
                self.real[3](path)
            else:
                Path(path).write_bytes(before)

    def open(self, path, flags, *more, **others):
        self.step()
        if flags & os.O_EXCL:
            self.unflushed.add(str(path))
        return self.real[0](path, flags, *more, **others)

    def fsync(self, handle):
        self.step()
        path = os.readlink(f"/proc/self/fd/{handle}")  # noqa: PTH115
        if os.path.isdir(path):  # noqa: PTH112
            self.unsaid.clear()
        self.unflushed.discard(path)
        self.real[1](handle)

    def replace(self, source, target):
        self.step()
        self.remember(target)
        if str(source) in self.unflushed:
            self.unflushed.add(str(target))
        self.real[2](source, target)

    def unlink(self, path, **more):
        self.step()
        if os.path.exists(path):  # noqa: PTH110
            self.remember(path)
        self.real[3](path, **more)

    def remember(self, path):
        there = os.path.exists(path)  # noqa: PTH110
        self.unsaid.append((str(path), Path(path).read_bytes() if there else None))


class Swallower:
    """Passes bytes on to the centre; of connection number ``of``, no answer comes back."""

    def __init__(self, host, port, of):
        self.listening = socket.create_server((host, 0))
        self.port = self.listening.getsockname()[1]
        self.target, self.of, self.seen = (host, port), of, 0

    @contextmanager
    def open(self):
        threading.Thread(target=self._accept, daemon=True).start()
        try:
            yield self
        finally:
            self.listening.shutdown(socket.SHUT_RDWR)
            self.listening.close()

    def _accept(self):
        while True:
            try:
                near, _ = self.listening.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self.target)
            except OSError:
                near.close()
                continue
            self.seen += 1
            threading.Thread(
                target=self._pass, args=(near, far, self.seen == self.of), daemon=True
            ).start()

    def _pass(self, near, far, swallow):
        hello_answered = threading.Event()
        asked = threading.Event()

        def back():
            while data := take(far):
                if not (swallow and asked.is_set()):
                    hello_answered.set()  # first: what comes next may be the whole request
                    near.sendall(data)
            hang_up(near)

        threading.Thread(target=back, daemon=True).start()
        while data := take(near):
            if hello_answered.is_set():
                asked.set()
            far.sendall(data)
        hang_up(far)


def hang_up(one):
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


def take(one):
    try:
        return one.recv(1 << 16)
    except OSError:
        return b""


class Scene:
    """A centre, a broker, and as many devices that have not enrolled yet as are asked for."""

    def __init__(self, folder):
        self.folder, self.region = folder, Region(folder)
        self.assets = iter(self.region.register(DEVICES))
        self.count = 0

    def device(self, uses=3):
        return Device(self, next(self.assets), self.region.code(uses=uses))

    def next_folder(self):
        self.count += 1
        return self.folder / f"device-{self.count}"

    def book(self):
        return Book(self.region.data_dir / "enrolment.db")


class Device:
    def __init__(self, scene, asset, code):
        self.scene, self.asset, self.code = scene, asset, code
        self.place = Place(scene.region.device_folder(scene.next_folder()))
        self.kit = scene.region.kit(self.place.folder.with_suffix(".kit"), code)

    def asking(self, url="", patience_s=20.0, *, again=False):
        by = kit.Line(url, self.code) if url else kit.open_kit(str(self.kit))
        root = enrolling.read_fingerprint(self.place, "")
        return enrolling.Asking(
            kit=by,
            fingerprint=root,
            serial=self.asset.serial,
            patience_s=patience_s,
            again=again,
        )

    def enrol(self, **more):
        return enrolling.enrol(self.place, self.asking(**more))

    def ketang_enroll(self, *more):
        words = "--kit", str(self.kit), "--serial", self.asset.serial
        return enroll(self.place.folder, *words, "--wait", "20", *more)

    def certificates(self):
        with self.scene.book() as book:
            return book.certificates_of(self.asset.device)

    def copy(self):
        """The same device's folder once more, as it stands."""
        made = object.__new__(Device)
        made.scene, made.asset, made.code, made.kit = self.scene, self.asset, self.code, self.kit
        made.place = Place(self.scene.next_folder())
        shutil.copytree(self.place.folder, made.place.folder)
        return made

    def credentials(self):
        return Credentials(settings.read(self.place.settings).broker)

    def connects(self, credentials):
        """Connect as the agent does, with what ``credentials`` shows next."""
        broker, heard = settings.read(self.place.settings).broker, threading.Event()
        will = topics.of(self.asset.device, topics.DEATH), b"{}"
        line = Connection(broker, credentials.context(), self.asset.device, will, heard.set)
        line.start()
        heard.wait(PATIENCE_S)
        happened = line.happenings()
        line.close()
        return isinstance(happened[0], Connected)

    def check_one_identity(self, *, given=1, connect=True):
        """One identity, its own key with it, nothing left over; ``given``: certificates so far."""
        known = self.certificates()
        assert len(known) == given
        assert all(one.revoked_ms is None for one in known)
        pair = self.place.identity.read_bytes()
        held = x509.load_pem_x509_certificate(pair)
        (ours,) = [one for one in known if one.serial == f"{held.serial_number:x}"]
        assert verifier.belongs(pair, ours.pem)
        facts = read_facts(self.place)
        assert (facts.from_s, facts.until_s) == (ours.from_ms // 1000, ours.until_ms // 1000)
        files = {one.name: one for one in self.place.folder.iterdir()}
        assert set(files) == WHOLE
        assert pair.count(b"PRIVATE KEY-----") == 2
        assert stat.S_IMODE(self.place.identity.stat().st_mode) == 0o600
        with self.scene.book() as book:
            (code,) = [one for one in book.codes() if one.fingerprint == self.fingerprint()]
            assert code.used == 1
        assert not connect or self.connects(self.credentials())

    def throw_out(self):
        """As stock: its asset is free, and enrols without a person under a new id."""
        data = self.scene.region.data_dir
        with self.scene.book() as book, Registry(data / "registry.db") as registry:
            audit = Audit(data / "audit.db")
            office = Office(book, registry, audit, now_ms)
            office.throw_out(self.asset.device, Why.STOCK, "operator")
            audit.close()

    def check_new_identity(self, old):
        """One identity under another id, in force at the centre, and nothing left of the old."""
        pair = self.place.identity.read_bytes()
        held = verifier.dates(pair)
        assert held.name != self.asset.device
        assert verifier.is_pair(pair)
        assert pair != old
        assert read_facts(self.place).device == held.name
        assert settings.read(self.place.settings).device == held.name
        assert {one.name for one in self.place.folder.iterdir()} == WHOLE
        with self.scene.book() as book:
            (known,) = book.certificates_of(held.name)
            assert known.revoked_ms is None

    def fingerprint(self):
        from ketang_provisioning import codes

        return codes.fingerprint(self.code, self.scene.region.code_key)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    made = Scene(tmp_path_factory.mktemp("kills"))
    with made.region.broker(), made.region.center(per_s=1000):
        yield made


@pytest.fixture(scope="module")
def enrolled(scene):
    device = scene.device()
    device.enrol()
    return device


@pytest.fixture
def renewing_device(scene):
    """A device of its own: the centre renews one but a few times a day."""
    device = scene.device()
    device.enrol()
    return device


@pytest.mark.parametrize("step", STEPS)
def test_an_enrolment_killed_at_a_step_goes_on_to_one_identity(scene, step):
    device = scene.device()
    child = start(
        lambda: enrolling.enrol(
            device.place, device.asking(), reached=lambda now: now == step and die()
        )
    )
    assert was_killed(child), f"no step is called {step}"
    again = device.ketang_enroll()
    assert again.returncode == 0, again.stderr
    device.check_one_identity()


@pytest.mark.parametrize("step", EACH_CALL)
@pytest.mark.parametrize("power", [False, True], ids=["killed", "power-cut"])
def test_an_enrolment_killed_at_any_call_to_the_disk_goes_on_to_one_identity(scene, power, step):
    at, killed = -min(power, step - 1), True
    while killed:
        at += step
        device, disk = scene.device(), Disk(at, power=power)

        def work(device=device, disk=disk):
            disk.seize()
            device.enrol()

        killed = was_killed(start(work))
        assert device.enrol() == device.asset.device
        device.check_one_identity(connect=power and at % 5 == 0)
    assert at > 40, "fewer calls than there are files: the fault is not where the calls are"


def test_an_answer_that_never_arrives_is_given_again(scene):
    device, region = scene.device(), scene.region
    with Swallower(region.host, region.enrol_port, of=3).open() as between:
        child = start(lambda: device.enrol(url=f"https://{region.host}:{between.port}"))
        wait_for(device.certificates, "the centre never committed")
        assert not device.place.answer.exists()
        os.kill(child, signal.SIGKILL)
        assert was_killed(child)
    assert device.ketang_enroll().returncode == 0
    device.check_one_identity()


def test_a_centre_killed_after_its_commit_gives_the_same_again(tmp_path, monkeypatch):
    scene = Scene(tmp_path)
    region, device = scene.region, scene.device()
    monkeypatch.setattr(enrolling, "_AGAIN_S", 0.5)
    between = Swallower(region.host, region.enrol_port, of=3)
    with between.open():
        with region.center() as center:
            url = f"https://{region.host}:{between.port}"
            child = start(lambda: device.enrol(url=url, patience_s=120.0))
            wait_for(device.certificates, "the centre never committed")
            center.kill()
            center.wait()
        with region.broker(), region.center():
            assert not was_killed(child), "it asked again by itself"
            device.check_one_identity()


def test_two_enrolments_at_once_in_one_folder_make_one_identity(scene):
    device = scene.device()
    words = "--kit", str(device.kit), "--serial", device.asset.serial
    both = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "ketang_cli.main",
                "enroll",
                "--dir",
                str(device.place.folder),
                *words,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [one.communicate(timeout=60)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert all(device.asset.device in one for one in said)
    device.check_one_identity()


def test_two_devices_with_one_kit_at_once_are_two(scene):
    one, other = scene.device(), scene.device()
    other.code, other.kit = one.code, one.kit
    children = [start(one.enrol), start(other.enrol)]
    assert [was_killed(child) for child in children] == [False, False]
    with scene.book() as book:
        (code,) = [held for held in book.codes() if held.fingerprint == one.fingerprint()]
    assert code.used == 2
    assert one.place.identity.read_bytes() != other.place.identity.read_bytes()
    assert [len(device.certificates()) for device in (one, other)] == [1, 1]


def test_two_devices_with_one_serial_at_once_are_one_and_one_that_waits(scene):
    one, other = scene.device(), scene.device()
    other.code, other.kit, other.asset = one.code, one.kit, one.asset

    def work(device):
        try:
            device.enrol(patience_s=0.0)
        except enrolling.StillWaiting:
            die()

    children = [start(lambda: work(one)), start(lambda: work(other))]
    assert sorted([was_killed(child) for child in children]) == [False, True]
    assert len(one.certificates()) == 1


@pytest.mark.parametrize("name", sorted(WHOLE - {"identity.pem", "root.fingerprint"}))
def test_a_lost_file_is_put_back_by_enrolling_again(enrolled, name):
    device = enrolled.copy()
    before = device.place.identity.read_bytes()
    (device.place.folder / name).unlink()
    assert device.enrol() == device.asset.device
    assert device.place.identity.read_bytes() == before
    device.check_one_identity()


def test_a_lost_identity_has_to_be_approved_and_a_lost_fingerprint_is_told(enrolled):
    device = enrolled.copy()
    device.place.identity.unlink()
    with pytest.raises(enrolling.StillWaiting, match="has to approve"):
        device.enrol(patience_s=0.0)
    assert len(device.certificates()) == 1
    device = enrolled.copy()
    device.place.fingerprint.unlink()
    with pytest.raises(BadInput, match="comes with the installer"):
        device.enrol()


@pytest.mark.parametrize("step", STEPS)
def test_a_file_lost_in_the_midst_of_an_enrolment_never_makes_two_identities(scene, step):
    names, at = [""], 0
    while at < len(names):
        device = scene.device()
        assert was_killed(start(partial(enrol_until, device, step)))
        names = sorted(one.name for one in device.place.folder.iterdir())
        (device.place.folder / names[at]).unlink()
        line = refusal_of(device)
        if line:
            assert names[at] in {"root.fingerprint", "asking.key", "identity.pem"}, line
            assert "\n" not in line
        else:
            device.check_one_identity(connect=False)
        assert len(device.certificates()) <= 1
        at += 1


def enrol_until(device, step):
    enrolling.enrol(device.place, device.asking(), reached=lambda now: now == step and die())


def refusal_of(device):
    """Enrol; the line it was refused with, or nothing."""
    try:
        device.enrol(patience_s=0.0)
    except KetangError as why:
        return str(why)
    return ""


# Again: another identity for one that is there.


def thrown_out(scene):
    """A device that enrolled, was thrown out as stock, and may enrol under a new id."""
    device = scene.device()
    device.enrol()
    device.throw_out()
    return device


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("words", [(), ("--again",)], ids=["plain", "again"])
def test_an_again_killed_at_a_step_goes_on_to_one_new_identity(scene, step, words):
    device = thrown_out(scene)
    old = device.place.identity.read_bytes()
    child = start(
        lambda: enrolling.enrol(
            device.place,
            device.asking(again=True),
            reached=lambda now: now == step and die(),
        )
    )
    assert was_killed(child), f"no step is called {step}"
    answered = STEPS.index(step) > STEPS.index("answer")
    assert answered or device.place.identity.read_bytes() == old, "the old one, until then"
    if step == "done":  # begun once more, it would be a second again
        words = ()
    if step == "trust":  # nothing was begun
        words = ("--again",)
    done = device.ketang_enroll(*words)
    assert done.returncode == 0, done.stderr
    device.check_new_identity(old)


@pytest.mark.parametrize("step", EACH_CALL)
@pytest.mark.parametrize("power", [False, True], ids=["killed", "power-cut"])
def test_an_again_killed_at_any_call_to_the_disk_ends_with_one_identity(scene, power, step):
    at, killed = -min(power, step - 1), True
    while killed:
        at += step
        device, disk = thrown_out(scene), Disk(at, power=power)
        old = device.place.identity.read_bytes()

        def work(device=device, disk=disk):
            disk.seize()
            device.enrol(again=True)

        killed = was_killed(start(work))
        if device.place.identity.read_bytes() == old or device.place.answer.exists():
            device.enrol(again=True)
        else:
            device.enrol()
        device.check_new_identity(old)
    assert at > 20


def test_an_again_that_waits_for_a_person_goes_on_with_the_same_request(scene):
    device = scene.device()
    device.enrol()
    old = device.place.identity.read_bytes()
    for again in (True, True, False):
        with pytest.raises(enrolling.StillWaiting, match="has to approve"):
            device.enrol(patience_s=0.0, again=again)
        assert device.place.identity.read_bytes() == old
        assert device.connects(device.credentials()), "the old one is in force until the answer"
    with scene.book() as book:
        waits = [one for one in book.waiting() if one.serial == device.asset.serial]
        assert len(waits) == 1
        with Registry(scene.region.data_dir / "registry.db") as registry:
            audit = Audit(scene.region.data_dir / "audit.db")
            office = Office(book, registry, audit, now_ms)
            office.approve(waits[0].no, "operator", device.asset.asset)
            audit.close()
    assert device.enrol() != device.asset.device
    device.check_new_identity(old)


def test_a_request_that_waits_is_not_orphaned_by_again(scene):
    one, other = scene.device(), scene.device()
    one.enrol()
    other.asset = one.asset
    for again in (False, True):
        with pytest.raises(enrolling.StillWaiting):
            other.enrol(patience_s=0.0, again=again)
    with scene.book() as book:
        assert len([held for held in book.waiting() if held.serial == one.asset.serial]) == 1


def test_again_asks_with_another_key_where_the_one_that_waited_was_refused(scene):
    one, other = scene.device(), scene.device()
    one.enrol()
    other.asset = one.asset
    with pytest.raises(enrolling.StillWaiting):
        other.enrol(patience_s=0.0)
    with scene.book() as book, Registry(scene.region.data_dir / "registry.db") as registry:
        (waits,) = [held for held in book.waiting() if held.serial == one.asset.serial]
        audit = Audit(scene.region.data_dir / "audit.db")
        Office(book, registry, audit, now_ms).refuse(waits.no, "operator")
        audit.close()
    with pytest.raises(enrolling.NotGranted, match="said no"):
        other.enrol(patience_s=0.0)
    with pytest.raises(enrolling.StillWaiting):
        other.enrol(patience_s=0.0, again=True)


@pytest.mark.parametrize(
    "words",
    [
        ("--code", "7K3M-9QRT-WX2", "--url", "https://127.0.0.1:1"),
        ("--kit", "/nowhere"),
        ("--kit", "{kit}", "--root", "abc"),
        ("--code", "7K3M-9QRT-WX2A", "--url", "http://127.0.0.1:1"),
    ],
)
def test_a_mistake_beside_again_costs_nothing(enrolled, words):
    device = enrolled.copy()
    before = {one.name: one.read_bytes() for one in device.place.folder.iterdir()}
    told = [word.format(kit=device.kit) for word in words]
    assert enroll(device.place.folder, "--again", *told, "--wait", "0").returncode == 2
    assert {one.name: one.read_bytes() for one in device.place.folder.iterdir()} == before


# Damage.


@pytest.mark.parametrize("content", [b"", b"\0" * 300, b"-----BEGIN CERTIFICATE-----\nAAAA"])
@pytest.mark.parametrize("name", ["servers-ca.pem", "trust.json", "identity.json", "agent.toml"])
def test_a_damaged_file_is_put_back_by_enrolling_again(enrolled, name, content):
    device = enrolled.copy()
    before = device.place.identity.read_bytes()
    (device.place.folder / name).write_bytes(content)
    assert device.enrol() == device.asset.device
    assert device.place.identity.read_bytes() == before
    (device.place.folder / "agent.before").unlink(missing_ok=True)
    device.check_one_identity()


def test_a_trust_document_with_one_wrong_letter_is_damaged(enrolled):
    device = enrolled.copy()
    raw = device.place.trust.read_bytes()
    at = raw.index(b'"payload"') + 200
    device.place.trust.write_bytes(raw[:at] + (b"A" if raw[at] != 65 else b"B") + raw[at + 1 :])
    device.enrol()
    assert device.place.trust.read_bytes() == raw


def test_a_lost_certificate_is_given_again_to_its_key(enrolled):
    device = enrolled.copy()
    before = device.place.identity.read_bytes()
    device.place.identity.write_bytes(verifier.key_of(before))
    assert device.enrol() == device.asset.device
    assert device.place.identity.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"\0" * 300])
def test_a_damaged_identity_is_told_in_one_line_that_says_again(scene, content):
    device = scene.device()
    device.enrol()
    old = device.place.identity.read_bytes()
    device.place.identity.write_bytes(content)
    done = device.ketang_enroll()
    assert done.returncode == 2
    assert "identity.pem: damaged" in done.stderr
    assert "--again" in done.stderr
    assert done.stderr.count("\n") == 1
    device.throw_out()
    assert device.ketang_enroll("--again").returncode == 0
    device.check_new_identity(old)


def test_a_damaged_identity_is_healed_from_the_renewed_pair_beside_it(renewing_device):
    device = renewing_device
    renewing.renew(device.place, int(time.time()))
    new = device.place.next.read_bytes()
    device.place.identity.write_bytes(b"")
    assert device.enrol() == device.asset.device
    assert device.place.identity.read_bytes() == new


def test_without_authorities_a_renewal_believes_nobody_and_heals(renewing_device):
    device = renewing_device
    device.place.servers.write_bytes(b"")
    with pytest.raises(BadInput, match="no authority"):
        talking.Centre(scene_url(device), "")
    finish_renewal(device, 1)


def scene_url(device):
    return device.scene.region.url


def test_a_code_is_read_from_standard_input(scene):
    device = scene.device()
    words = "--code", "-", "--url", scene.region.url, "--serial", device.asset.serial
    done = subprocess.run(
        [*KETANG, "enroll", "--dir", str(device.place.folder), *words],
        input=f"{kit.show_code(device.code).lower()}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    device.check_one_identity()


def test_on_a_terminal_the_code_is_asked_for(scene):
    device = scene.device()
    terminal, theirs = pty.openpty()
    words = "--url", scene.region.url, "--serial", device.asset.serial
    process = subprocess.Popen(
        [*KETANG, "enroll", "--dir", str(device.place.folder), *words],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.write(terminal, f"{device.code}\n".encode())
    said, asked = process.communicate(timeout=60)
    os.close(terminal)
    os.close(theirs)
    assert process.returncode == 0, asked
    assert asked.startswith("Code: ")
    assert device.code not in said


# Renewal.


def finish_renewal(device, before):
    """Go on as the agent does: ask again, try the new pair at the broker, swap, tell the facts."""
    now_s = int(time.time())
    old = device.place.identity.read_bytes()
    renewing.renew(device.place, now_s)
    if device.place.next.exists():
        assert device.place.identity.read_bytes() == old
        credentials = device.credentials()
        assert device.connects(credentials), "the old pair works until the new one has connected"
        assert device.connects(credentials)
        credentials.connected()
        assert device.place.identity.read_bytes() != old
        held, facts = verifier.dates(device.place.identity.read_bytes()), read_facts(device.place)
        if (held.from_s, held.until_s) != (facts.from_s, facts.until_s):  # not of one second
            assert not renewing.renew(device.place, now_s), "it only tells the facts"
    assert len(device.certificates()) == before + 1, "one new certificate"
    device.check_one_identity(given=before + 1)


@pytest.mark.parametrize("step", RENEWAL_STEPS)
def test_a_renewal_killed_at_a_step_goes_on_to_one_new_certificate(renewing_device, step):
    device, before = renewing_device, 1
    work = lambda: renewing.renew(  # noqa: E731
        device.place, int(time.time()), reached=lambda now: now == step and die()
    )
    assert was_killed(start(work))
    assert device.connects(device.credentials()), "the old pair still works"
    finish_renewal(device, before)


@pytest.mark.parametrize("step", EACH_CALL)
@pytest.mark.parametrize("power", [False, True], ids=["killed", "power-cut"])
def test_a_renewal_killed_at_any_call_to_the_disk_leaves_one_new_certificate(scene, power, step):
    at, killed = -min(power, step - 1), True
    while killed:
        at += step
        device, disk = scene.device(), Disk(at, power=power)
        device.enrol()

        def work(device=device, disk=disk):
            disk.seize()
            renewing.renew(device.place, int(time.time()))

        killed = was_killed(start(work))
        finish_renewal(device, 1)
    assert at > 12


def test_a_swap_killed_before_its_facts_heals(renewing_device):
    device, before = renewing_device, 1
    time.sleep(1.1)  # certificates of one second have the same dates
    renewing.renew(device.place, int(time.time()))
    device.place.next.replace(device.place.identity)
    assert read_facts(device.place).until_s * 1000 in {
        one.until_ms for one in device.certificates()
    }
    assert not renewing.renew(device.place, int(time.time())), "it only puts the facts right"
    device.check_one_identity(given=before + 1)


def test_a_renewal_whose_answer_never_arrives_gets_the_same_certificate(renewing_device):
    device, region = renewing_device, renewing_device.scene.region
    before, facts = 1, read_facts(device.place)
    with Swallower(region.host, region.enrol_port, of=3).open() as between:
        url = f"https://{region.host}:{between.port}"
        write_facts(
            device.place,
            type(facts)(device=facts.device, url=url, from_s=facts.from_s, until_s=facts.until_s),
        )
        child = start(lambda: renewing.renew(device.place, int(time.time())))
        wait_for(lambda: len(device.certificates()) > before, "the centre never committed")
        os.kill(child, signal.SIGKILL)
        assert was_killed(child)
    write_facts(device.place, facts)
    finish_renewal(device, before)


@pytest.mark.parametrize(
    "names", [("trust.json",), ("servers-ca.pem",), ("trust.json", "servers-ca.pem")]
)
def test_a_renewal_puts_back_whom_to_believe(renewing_device, names):
    device, before = renewing_device, 1
    for name in names:
        (device.place.folder / name).unlink()
    renewing.renew(device.place, int(time.time()))
    finish_renewal(device, before)


def test_a_link_in_the_folder_is_not_followed(enrolled, tmp_path):
    device = enrolled.copy()
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    lock = device.place.folder / ".lock"
    lock.unlink()
    lock.symlink_to(victim)
    with pytest.raises((BadInput, OSError)):
        device.enrol()
    assert victim.read_text() == "untouched"


def test_a_centre_that_is_away_is_told_in_one_line(scene):
    device = scene.device()
    with pytest.raises(KetangError, match="https://"):
        device.enrol(url=f"https://{scene.region.host}:{free_port()}", patience_s=0.0)
