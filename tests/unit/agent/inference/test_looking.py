"""Light, gate, film and folder, and the loop that joins them; the model is a stand-in here."""

import os
import threading

import cv2
import numpy as np
import pytest
from tests.unit.agent.clocks import MONDAY_MS, FakeClock

from ketang_agent.inference.aggregate import Look
from ketang_agent.inference.capture import NoFrame, capture_of
from ketang_agent.inference.decoders.found import Heads
from ketang_agent.inference.gate import Gate
from ketang_agent.inference.looking import Looking, ModelFailing
from ketang_agent.inference.pipeline import Pipeline, view_of
from ketang_agent.inference.protocol import Stage, parse
from ketang_agent.inference.sources import Source, SourceKind, source_of
from ketang_contract.records import Occupancy, View

RANDOM = np.random.default_rng(1)


def room(level=120):
    frame = np.full((480, 640, 3), level, np.uint8)
    cv2.rectangle(frame, (40, 300), (600, 460), (level // 3,) * 3, -1)
    return frame


def noisy(frame, sigma=6):
    noise = RANDOM.normal(0, sigma, frame.shape)
    return np.clip(frame + noise, 0, 255).astype(np.uint8)


def with_somebody(frame):
    changed = frame.copy()
    cv2.circle(changed, (200, 200), 22, (150, 180, 220), -1)
    return changed


class Model:
    def __init__(self, heads=7):
        self.heads, self.looks, self.broken = heads, 0, False

    def find(self, frame):
        self.looks += 1
        if self.broken:
            raise RuntimeError("no")
        return Heads(self.heads, 0.9)


def test_a_noisy_picture_of_an_empty_room_does_not_open_the_gate():
    gate = Gate()
    assert gate.opens(room(), 0)
    assert not any(gate.opens(noisy(room()), at * 1000) for at in range(1, 30))


def test_somebody_small_opens_the_gate():
    gate = Gate()
    assert gate.opens(noisy(room()), 0)
    assert gate.opens(noisy(with_somebody(room())), 1000)


def test_the_model_looks_again_after_a_minute_of_stillness_or_a_clock_that_ran_back():
    gate = Gate()
    assert gate.opens(room(), 100_000)
    assert not gate.opens(room(), 159_000)
    assert gate.opens(room(), 160_000)
    assert gate.opens(room(), 1_000)


def test_the_gate_keeps_a_grid_and_not_the_picture():
    gate = Gate()
    gate.opens(room(), 0)
    assert gate.seen.shape == (24, 32)


@pytest.mark.parametrize(
    ("frame", "view"),
    [
        (room(), View.OK),
        (room(60), View.OK),
        (room(9), View.DARK),
        (np.zeros((480, 640, 3), np.uint8), View.DARK),
        (np.full((480, 640, 3), 128, np.uint8), View.BLOCKED),
        (noisy(np.full((480, 640, 3), 128, np.uint8)), View.BLOCKED),
    ],
)
def test_a_dark_or_covered_picture_is_never_an_empty_room(frame, view):
    assert view_of(frame) is view
    if view is not View.OK:
        assert Pipeline(Model(0), Gate()).look(frame, 0) == Look(view)


def test_an_unchanged_picture_is_answered_without_the_model():
    model = Model()
    pipeline = Pipeline(model, Gate())
    first = pipeline.look(room(), 0)
    assert pipeline.look(room(), 1000) == first == Look(View.OK, 7, 0.9)
    assert model.looks == 1


def test_after_a_failure_the_old_answer_is_not_given_again():
    model = Model()
    pipeline = Pipeline(model, Gate())
    pipeline.look(room(), 0)
    model.broken = True
    for _ in range(2):
        with pytest.raises(RuntimeError):
            pipeline.look(with_somebody(room()), 1000)


def film(path, frames=8, per_s=0.5):
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), per_s, (64, 64)
    )
    for at in range(frames):
        writer.write(np.full((64, 64, 3), at * 30, np.uint8))
    writer.release()
    return source_of(str(path))


def test_a_film_plays_by_the_wall_clock_round_and_round(tmp_path):
    capture = capture_of(film(tmp_path / "film.avi"))
    clock = FakeClock(wall_ms=16_000 * 100)  # a multiple of the film's 16 s
    shown = [round(float(capture.frame(clock.passes(at)).mean()) / 30) for at in (0, 2, 4, 10, 4)]
    assert shown == [0, 1, 3, 0, 2]


def test_a_folder_gives_its_pictures_in_turn_and_says_when_one_is_broken(tmp_path):
    for name, level in (("a.png", 10), ("b.jpg", 200)):
        cv2.imwrite(str(tmp_path / name), np.full((8, 8, 3), level, np.uint8))
    (tmp_path / "c.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture either")
    os.mkfifo(tmp_path / "d.png")
    capture, now = capture_of(source_of(str(tmp_path))), FakeClock().now()
    assert [round(capture.frame(now).mean()) for _ in range(2)] == [10, 200]
    for _ in range(2):  # the broken one, and the pipe nobody writes to
        with pytest.raises(NoFrame):
            capture.frame(now)
    assert round(capture.frame(now).mean()) == 10


def test_what_gives_no_frame_says_so(tmp_path):
    now = FakeClock().now()
    (tmp_path / "film.avi").write_bytes(b"no film")
    sources = [
        source_of(str(tmp_path / "film.avi")),
        Source(SourceKind.FILE, str(tmp_path / "gone.avi")),
        Source(SourceKind.FOLDER, str(tmp_path / "gone")),
        source_of(str(tmp_path)),
    ]
    for source in sources:
        with pytest.raises(NoFrame):
            capture_of(source).frame(now)


def test_a_file_that_is_a_playlist_leads_nowhere(tmp_path, free_port):
    asked = threading.Event()
    server = _listen(free_port, asked)
    playlist = tmp_path / "film.m3u8"
    playlist.write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n"
        f"http://127.0.0.1:{free_port}/secret.ts\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(NoFrame):
        capture_of(source_of(str(playlist))).frame(FakeClock().now())
    server.close()
    assert not asked.is_set()


def _listen(port, asked):
    import socket

    server = socket.create_server(("127.0.0.1", port))

    def accept():
        try:
            server.accept()[0].close()
        except OSError:
            return
        asked.set()

    threading.Thread(target=accept, daemon=True).start()
    return server


class Frames:
    def __init__(self):
        self.given = room()
        self.opened_ms = []

    def frame(self, now):
        self.opened_ms.append(now.wall_ms - MONDAY_MS)
        if self.given is None:
            raise NoFrame("none")
        return self.given


def looking(clock, model, frames, every_s=300):
    lines = []
    made = Looking(
        capture=frames,
        pipeline=Pipeline(model, Gate()),
        scan_ms=10_000,
        clock=clock,
        tell=lines.append,
        every_s=every_s,
    )
    return made, lines


def told(lines):
    return [parse(line.rstrip(b"\n")) for line in lines]


def windows(lines):
    return [one for one in told(lines) if isinstance(one, Occupancy)]


def test_every_step_is_a_sign_of_life_and_every_scan_says_where_it_stands():
    clock = FakeClock()
    worker, lines = looking(clock, Model(), Frames())
    worker.step()
    assert [one.stage for one in told(lines)] == [Stage.SOURCE, Stage.MODEL, Stage.REST]
    clock.passes(1)
    worker.step()
    assert [one.stage for one in told(lines)][3:] == [Stage.REST]


def test_a_scan_is_due_every_interval_and_a_window_tells_of_all():
    clock, model = FakeClock(MONDAY_MS), Model()
    worker, lines = looking(clock, model, Frames())
    for _ in range(301):
        worker.step()
        clock.passes(1)
    (window,) = windows(lines)
    assert (window.scans, window.median, window.confidence_pct) == (30, 7, 90)
    assert model.looks == 6  # a still room: once a minute, and the next window's first


def test_a_slow_machine_rests_as_long_as_it_worked():
    clock = FakeClock()

    class Slow(Model):
        def find(self, frame):
            clock.passes(25)
            return super().find(frame)

    worker, _ = looking(clock, Slow(), Frames())
    started_ms = clock.now().boottime_ms
    worker.step()
    assert worker.due_ms - started_ms == 50_000


def test_a_source_that_comes_and_goes_is_told_of_and_no_window_makes_it_an_empty_room():
    clock, frames = FakeClock(MONDAY_MS), Frames()
    worker, lines = looking(clock, Model(), frames)
    frames.given = None
    for _ in range(301):
        worker.step()
        clock.passes(1)
    frames.given = room()
    worker.step()
    (window,) = windows(lines)
    assert (window.view, window.median, window.scans) == (View.NO_SOURCE, None, 0)
    clock.passes(10)
    worker.step()
    assert worker.view is View.OK


def test_a_model_that_fails_five_times_running_ends_the_worker():
    clock, model = FakeClock(), Model()
    worker, lines = looking(clock, model, Frames())
    model.broken = True
    for _ in range(4):
        worker.step()
        clock.passes(10)
    assert worker.view is View.FAILED
    with pytest.raises(ModelFailing):
        worker.step()
    assert windows(lines) == []


def test_where_people_are_counted_every_quarter_the_source_is_closed_for_the_other_ten_minutes():
    clock, frames = FakeClock(MONDAY_MS + 120_000), Frames()
    worker, lines = looking(clock, Model(), frames, every_s=900)
    for _ in range(2 * 900):
        worker.step()
        clock.passes(1)
    assert {at // 300_000 for at in frames.opened_ms} == {0, 3, 6}
    assert [(one.window_s, one.scans) for one in windows(lines)] == [(180, 18), (300, 30)]
    assert len(told(lines)) >= 2 * 900, "it lives in between"


def test_a_look_that_ends_after_its_window_is_of_it_and_the_last():
    clock, frames = FakeClock(MONDAY_MS), Frames()

    class Slow(Model):
        def find(self, frame):
            clock.passes(20)
            return super().find(frame)

    worker, lines = looking(clock, Slow(), frames, every_s=600)
    clock.passes(285)
    for _ in range(100):
        worker.step()
        clock.passes(1)
    assert frames.opened_ms == [285_000]
    assert [(one.window_s, one.scans) for one in windows(lines)] == [(15, 1)]
