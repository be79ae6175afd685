"""People counted for real: worker process, model and film are the product's own.

Only the worker's clock is not always this machine's: where a test needs whole five-minute windows,
the test moves it (``fast_worker``), and the film, which plays by the wall clock, with it.
"""

import base64
import csv
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.unit.agent.inference import fast_worker

from ketang_agent.clock import SystemClock
from ketang_agent.inference import child, supervise
from ketang_agent.inference.pipeline import pipeline_of
from ketang_agent.inference.plan import Limits, plan_of
from ketang_agent.inference.protocol import Phrase, Stage, parse
from ketang_agent.inference.supervise import Counting
from ketang_agent.inference.switch import KillSwitch
from ketang_cli import clip as clips
from ketang_contract.limits import FEW
from ketang_contract.records import Event, EventName, Occupancy, View
from ketang_contract.state import Camera
from ketang_models import registry

PATIENCE_S = 60
KILLED = Event(name=EventName.WORKER_KILLED)
SCAN_EVERY_S = 20
PICTURES = os.environ.get("KETANG_EVAL", "")
"""A folder of photos with ``truth.csv`` (file, faces): data that is not the project's to ship."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return clips.compose(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def counting(tmp_path):
    """Make a ``Counting`` on real workers; all are gone afterwards."""
    made = []

    def start(source, *, spawn=child.start, every_s=300, **limits):
        plan = plan_of(str(source), "mtcnn", 1, every_s=every_s)
        plan = replace(plan, limits=Limits(**limits))
        switch = KillSwitch(tmp_path / "camera.switch")
        made.append(Counting(plan, switch, spawn=spawn, jitter=lambda _: 0.0))
        return made[-1]

    yield start
    for each in made:
        each.stop()


def until(one, found, patience_s=PATIENCE_S):
    """Step on this machine's clock until what is looked for was told, or holds."""
    clock, told = SystemClock(), []
    deadline = time.monotonic() + patience_s
    while not found(told):
        assert time.monotonic() < deadline, (told, one.camera)
        told += one.step(clock.now())
        time.sleep(0.05)
    return told


def is_counting(one):
    return lambda _: one.camera is Camera.COUNTING


def gone(pid):
    return not Path(f"/proc/{pid}").exists()


def test_the_clip_is_composed_once_and_the_same_each_time(clip, tmp_path):
    again = clips.compose(tmp_path)
    assert again.path.read_bytes() == clip.path.read_bytes()
    written_ns = again.path.stat().st_mtime_ns
    assert clips.compose(tmp_path) == again
    assert again.path.stat().st_mtime_ns == written_ns
    again.path.write_bytes(b"half a film")
    assert clips.compose(tmp_path).path.read_bytes() == clip.path.read_bytes()


def test_the_clips_truth_lies_beside_it_and_has_empty_and_full_parts(clip):
    assert clips.read_truth(clip.path.with_suffix(".truth.json")) == clip.segments
    heads = {one.heads for one in clip.segments}
    assert 0 in heads
    assert all(each == 0 or each >= 5 for each in heads)
    assert 86_400 % clip.length_s == 0
    assert all(one.from_s % 300 == 0 == one.until_s % 300 for one in clip.segments)


def moved_clock(folder, begins_ms):
    """Make a clock that the test moves, and what starts a worker on it."""
    (folder / "clock").write_bytes(bytes(8))
    clock = fast_worker.MovedClock(folder / "clock", begins_ms)
    told = {"KETANG_TEST_CLOCK": str(folder / "clock"), "KETANG_TEST_WALL_MS": str(begins_ms)}

    def spawn(plan):
        command = [sys.executable, "-B", fast_worker.__file__, *child.command_of(plan)[4:]]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=child.environment() | told,
        )

    return clock, spawn


@pytest.fixture
def rests(monkeypatch):
    """Beats at which a worker rested, as they are heard."""
    found = []

    def heard(line):
        said = parse(line)
        found.extend([said] * (getattr(said, "stage", None) is Stage.REST))
        return said

    monkeypatch.setattr(supervise, "parse", heard)
    return found


def test_whole_windows_tell_what_is_in_the_clip(clip, counting, tmp_path, rests):
    """Every part of the film once, as five-minute windows, through the real process and pipe."""
    # a little before the film's start, so that the first window is short and the rest are whole
    begins_ms = clip.length_s * 1000 * 1_400_000 - 60_000
    clock, spawn = moved_clock(tmp_path, begins_ms)
    one, real, found = counting(clip.path, spawn=spawn, cpu_share=2.0), SystemClock(), {}
    wanted = {begins_ms + 60_000 + segment.from_s * 1000 for segment in clip.segments}
    deadline = time.monotonic() + 5 * PATIENCE_S
    while not wanted <= set(found):
        assert time.monotonic() < deadline, found
        for window in one.step(real.now()):
            # it is told when it has ended, so the one before is meant
            found[clock.now().wall_ms // 300_000 * 300_000 - 300_000] = window
        if len(rests) >= 3:  # however slow it is, it has seen what time it is
            clock.passes(SCAN_EVERY_S)
            rests.clear()
        time.sleep(0.01)
    for begun_ms in sorted(wanted):
        window, truth = found[begun_ms], clip.heads_at(begun_ms)
        assert (window.view, window.window_s) == (View.OK, 300)
        assert window.scans >= 1
        for heads in (window.median, window.p90):
            assert heads == 0 if truth == 0 else heads != FEW and abs(heads - truth) <= 1


def test_the_worker_runs_within_its_limits_on_this_machines_clock(clip, counting):
    one = counting(clip.path)
    until(one, is_counting(one))
    status = Path(f"/proc/{one.worker_pid}/status").read_text()
    held = Path(f"/proc/{one.worker_pid}/limits").read_text()
    assert int(re.search(r"VmRSS:\s+(\d+)", status)[1]) < 400 * 1024
    for limit in ("Max file size", "Max core file size"):
        assert re.search(rf"{limit}\s+0\s+0\s", held)
    nice = Path(f"/proc/{one.worker_pid}/stat").read_text().rpartition(")")[2].split()[16]
    assert int(nice) >= 10
    assert Path(f"/proc/{one.worker_pid}/fd/0").resolve() == Path("/dev/null")


def test_a_stalled_source_is_killed_and_laid_to_the_source(counting, free_port, caplog):
    caplog.set_level(logging.INFO)
    with socket.create_server(("127.0.0.1", free_port)):  # takes the call and never answers
        one = counting(f"http://127.0.0.1:{free_port}/room.mjpg", heartbeat_s=1.5)
        told = until(one, lambda told: told)
    assert told == [KILLED]
    assert "why=source_stalled killed=True" in caplog.text


def test_a_stream_on_this_machine_is_counted_and_not_held_between_scans(clip, counting, free_port):
    served = Served(clip, free_port)
    one = counting(f"http://127.0.0.1:{free_port}/room.mjpg")
    try:
        until(one, is_counting(one))
        calls = served.calls
        until(one, lambda _: served.calls >= calls + 2)
    finally:
        served.close()
    until(one, lambda _: one.camera is Camera.FAILED)  # and a stream that ended is no empty room


class Served:
    """A stream of single pictures over HTTP, as network cameras send it."""

    def __init__(self, clip, port):
        video = cv2.VideoCapture(str(clip.path), cv2.CAP_FFMPEG)
        video.set(cv2.CAP_PROP_POS_FRAMES, 90)
        self._picture = cv2.imencode(".jpg", video.read()[1])[1].tobytes()
        self._server = socket.create_server(("127.0.0.1", port))
        self.calls = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        head = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=next\r\n\r\n"
        part = b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n"
        while True:
            try:
                caller, _ = self._server.accept()
            except OSError:
                return
            self.calls += 1
            try:
                caller.recv(4096)
                caller.sendall(head)
                for _ in range(200):
                    caller.sendall(part % (len(self._picture), self._picture))
            except OSError:
                pass  # the caller had its frame
            finally:
                caller.close()

    def close(self):
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(10)


def test_a_quarter_of_an_hour_has_one_window_and_no_call_to_the_source_in_the_others(
    clip, counting, tmp_path, rests, free_port
):
    begins_ms = 486_000 * 3_600_000 + 240_000
    clock, spawn = moved_clock(tmp_path, begins_ms)
    served, real = Served(clip, free_port), SystemClock()
    source = f"http://127.0.0.1:{free_port}/room.mjpg"
    one = counting(source, spawn=spawn, every_s=900, cpu_share=2.0)
    told, calls = [], {}
    deadline = time.monotonic() + 5 * PATIENCE_S
    try:
        while len(told) < 2:
            assert time.monotonic() < deadline, (told, calls)
            told += one.step(real.now())
            if len(rests) >= 3:
                window = clock.now().wall_ms % 3_600_000 // 300_000
                calls.setdefault(window, []).append(served.calls)
                clock.passes(SCAN_EVERY_S)
                rests.clear()
            time.sleep(0.01)
    finally:
        served.close()
    assert [(window.window_s, window.view) for window in told] == [(60, View.OK), (300, View.OK)]
    assert calls[1][0] == calls[2][-1], "closed for ten minutes"
    assert calls[0][0] < calls[0][-1] <= calls[1][0]
    assert calls[2][-1] < calls[3][0] < calls[3][-1]


def test_a_worker_that_hangs_altogether_is_killed(clip, counting, caplog):
    one = counting(clip.path, heartbeat_s=6)
    until(one, is_counting(one))
    os.kill(one.worker_pid, signal.SIGSTOP)
    assert until(one, lambda told: told) == [KILLED]
    assert "_stalled killed=True" in caplog.text


def test_a_real_worker_over_its_memory_is_killed_and_its_model_given_up(clip, counting, caplog):
    one = counting(clip.path, rss_bytes=50 << 20, breaches=2)
    told = until(one, lambda told: Event(name=EventName.MODEL_QUARANTINED) in told)
    assert told == [KILLED, KILLED, Event(name=EventName.MODEL_QUARANTINED)]
    assert "why=memory" in caplog.text
    assert (one.camera, one.worker_pid) == (Camera.FAILED, None)


def test_the_switch_in_the_room_leaves_no_worker_after_one_step(clip, counting, tmp_path):
    """The scheduler steps once a second, so one step is well within the promised two."""
    one, clock, switch = counting(clip.path), SystemClock(), KillSwitch(tmp_path / "camera.switch")
    until(one, is_counting(one))
    pid = one.worker_pid
    switch.engage()
    assert one.step(clock.now()) == [Event(name=EventName.CAMERA_STOPPED)]
    assert gone(pid)
    assert one.camera is Camera.STOPPED
    switch.release()
    assert one.step(clock.now()) == [Event(name=EventName.CAMERA_ALLOWED)]
    until(one, is_counting(one))


def test_a_worker_does_not_outlive_its_parent(clip):
    code = (
        "import sys, time\n"
        "from ketang_agent.inference import child\n"
        "from ketang_agent.inference.plan import plan_of\n"
        "worker = child.start(plan_of(sys.argv[1], 'mtcnn', 1))\n"
        "worker.stdout.readline()\n"
        "print(worker.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(clip.path)], stdout=subprocess.PIPE, text=True
    )
    with parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + PATIENCE_S
    while not gone(pid) and _state(pid) != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_a_worker_asked_for_a_camera_behind_the_supervisors_back_refuses_it():
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ketang_agent.inference.worker", "--source", "/dev/video0"),
            *("--model", "mtcnn", "--scan-s", "5", "--parent", str(os.getpid())),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.splitlines() == [Phrase.SOURCE_REFUSED]


MARKER = np.random.default_rng(20260901).integers(1, 255, (16, 16, 3), np.uint8)
"""Random colours tiled over a frame: whatever kept a piece of the picture kept 16 bytes of it."""


def traces():
    """What the marker would look like in a file or on a pipe: raw, other way round, as text."""
    rows = [MARKER[at].tobytes() for at in range(0, 16, 5)]
    rows += [np.ascontiguousarray(MARKER[at, :, ::-1]).tobytes() for at in range(0, 16, 5)]
    rows += [MARKER[at, :, channel].tobytes() for at in (0, 7) for channel in range(3)]
    texts = [each.hex().encode() for each in rows]
    texts += [base64.b64encode(each[at:])[:-4] for each in rows for at in range(3)]
    # pieces, so that a cut or shifted copy is found too
    return [each[at : at + 12] for each in rows + texts for at in range(0, len(each) - 12, 12)]


def found_in(content, marks):
    return sum(mark in content for mark in marks)


def assert_the_search_finds(marks):
    """A search that finds nothing proves something only if it finds what is there."""
    tiled = np.tile(MARKER, (1, 40, 1))
    turned = np.ascontiguousarray(tiled[:, :, ::-1])
    for kept in (tiled.tobytes(), turned.tobytes(), tiled[:, :, 1].tobytes()):
        for at in range(3):  # base64 reads three bytes at a time
            assert found_in(b"x" * at + kept, marks)
            assert found_in(base64.b64encode(b"x" * at + kept), marks)
        assert found_in(kept.hex().encode(), marks)


@pytest.mark.parametrize("ends_by", [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV])
def test_no_trace_of_a_frame_is_in_any_file_pipe_or_word(tmp_path, ends_by):
    source, home, scratch = tmp_path / "frames", tmp_path / "home", tmp_path / "tmp"
    for folder in (source, home, scratch):
        folder.mkdir()
    for at in range(3):
        frame = np.tile(np.roll(MARKER, 16 * at), (30, 40, 1))
        cv2.putText(frame, str(at), (100 + 90 * at, 300), 0, 6, (255, 255, 255), 20)
        cv2.imwrite(str(source / f"{at}.png"), frame)
    places = {"HOME": str(home), "TMPDIR": str(scratch), "XDG_CACHE_HOME": str(home / "cache")}
    started_s = time.time()
    plan = plan_of(str(source), "mtcnn", 1)
    with (scratch / "stderr").open("wb") as words:
        worker = subprocess.Popen(
            child.command_of(plan),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=words,
            env=child.environment() | places,
            cwd=scratch,
        )
        looks, lines = 0, []
        while looks < 6:  # each picture twice, through the model
            lines.append(worker.stdout.readline())
            said = parse(lines[-1].rstrip(b"\n"))
            assert not isinstance(said, Occupancy)
            looks += said.stage == "model"
        worker.send_signal(ends_by)
        rest = worker.communicate(timeout=PATIENCE_S)[0]
    assert worker.returncode == -ends_by
    marks = traces()
    assert_the_search_finds(marks)
    assert found_in(b"".join(lines) + rest, marks) == 0
    written = list(written_since(started_s, [home, scratch, tmp_path, Path("/dev/shm")], source))
    assert scratch / "stderr" in written
    assert {each for each in written if home in each.parents or scratch in each.parents} == {
        scratch / "stderr"
    }
    for path in written:
        assert found_in(content_of(path), marks) == 0, path
    words = (scratch / "stderr").read_text().splitlines()
    assert set(words) <= set(Phrase)


def content_of(path):
    """Read a file; one that a neighbour on this machine took away meanwhile holds nothing."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def written_since(started_s, folders, source):
    """Every file changed since; the pictures fed in are the input, not something written."""
    for folder in folders:
        for path in folder.rglob("*"):
            if source in path.parents or path.is_symlink() or not path.is_file():
                continue
            try:
                changed_s = path.stat().st_mtime
            except FileNotFoundError:
                continue
            if changed_s >= started_s - 1 and os.access(path, os.R_OK):
                yield path


@pytest.mark.skipif(not PICTURES, reason="KETANG_EVAL names no folder of photos with truth.csv")
def test_heads_on_photos_are_off_by_a_third_on_average_at_most():
    with (Path(PICTURES) / "truth.csv").open(encoding="utf-8", newline="") as file:
        truth = {row["file"]: int(row["faces"]) for row in csv.DictReader(file) if row["faces"]}
    detector = pipeline_of(registry.shipped("mtcnn")).detector
    off = {
        name: detector.find(cv2.imread(str(Path(PICTURES) / name))).count - heads
        for name, heads in truth.items()
    }
    assert len(off) >= 10
    assert sum(map(abs, off.values())) / len(off) <= 1 / 3, off
