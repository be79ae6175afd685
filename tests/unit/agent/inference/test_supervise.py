"""The supervisor against workers that misbehave: real processes, a clock set by hand."""

import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from tests.unit.agent.clocks import FakeClock

from ketang_agent.inference import child
from ketang_agent.inference.limits import cost_of
from ketang_agent.inference.plan import Limits, plan_of
from ketang_agent.inference.supervise import Counting, full_jitter
from ketang_contract.records import Event, EventName, Occupancy, View
from ketang_contract.state import Camera

PATIENCE_S = 30
REST = '{"kind":"beat","stage":"rest","view":"ok"}'
SOURCE = '{"kind":"beat","stage":"source"}'
WINDOW = '{"kind":"occupancy","window_s":300,"view":"ok","scans":9,"median":"few","p90":6}'
KILLED = Event(name=EventName.WORKER_KILLED)
QUARANTINED = Event(name=EventName.MODEL_QUARANTINED)


class Switch:
    engaged = False


class Bench:
    """A ``Counting`` whose workers run the given code; every process it starts is ended."""

    def __init__(self, folder, every_s=300, **limits):
        self.clock, self.switch, self.started, self.waits = FakeClock(), Switch(), [], []
        plan = plan_of(str(folder), "mtcnn", 10, every_s=every_s)
        plan = replace(plan, limits=Limits(**limits))
        self.code = f"print('{REST}', flush=True)\nimport time\ntime.sleep(600)"
        self.counting = Counting(plan, self.switch, spawn=self.spawn, jitter=self.jitter)

    def spawn(self, plan):
        code = [sys.executable, "-S", "-c", self.code]
        made = subprocess.Popen(code, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.started.append(made)
        return made

    def jitter(self, most_s):
        self.waits.append(most_s)
        return most_s

    def says(self, *lines, then="time.sleep(600)"):
        written = "".join(f"print({line!r}, flush=True)\n" for line in lines)
        self.code = f"import sys, time\n{written}{then}"

    def step(self, passes_s=0.0):
        return self.counting.step(self.clock.passes(passes_s))

    def until(self, found, passes_s=0.0):
        """Step until something is told or the condition holds.

        Time passes only while no worker runs: one that a busy machine makes wait is not late.
        """
        told, deadline = [], time.monotonic() + PATIENCE_S
        while not found(told):
            assert time.monotonic() < deadline, told
            told += self.step(passes_s if self.counting.worker_pid is None else 0.0)
            time.sleep(0.01)
        return told

    def close(self):
        self.counting.stop()
        for each in self.started:
            each.kill()
            each.wait()
            each.stdout.close()


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(child, "_KILL_WAIT_S", PATIENCE_S)
    made = []

    def start(**limits):
        made.append(Bench(tmp_path, **limits))
        return made[-1]

    yield start
    for each in made:
        each.close()


def counting(one):
    return lambda _: one.counting.camera is Camera.COUNTING


def test_a_worker_that_sees_is_counting_and_its_windows_are_handed_on(bench):
    one = bench()
    one.says(REST, WINDOW, REST)
    assert one.counting.camera is Camera.OFF
    told = one.until(lambda told: told)
    assert told == [
        Occupancy(window_s=300, view=View.OK, scans=9, median="few", p90=6, confidence_pct=None)
    ]
    assert one.counting.camera is Camera.COUNTING


def test_a_worker_without_a_source_is_not_counting(bench):
    one = bench()
    one.says('{"kind":"beat","stage":"rest","view":"no_source"}')
    one.until(lambda _: one.counting.camera is Camera.FAILED)
    assert one.step() == []


@pytest.mark.parametrize(
    "line",
    [
        '{"kind":"beat","stage":"rest","frame":"/9j/4AAQ"}',
        '{"kind":"occupancy","window_s":300,"view":"ok","scans":9,"median":3,"p90":6}',
        "/9j/4AAQSkZJRg",
        "x" * 5000,
    ],
)
def test_a_worker_that_says_anything_else_is_killed_and_nothing_of_it_is_logged(
    bench, caplog, line
):
    one = bench()
    one.says(REST, line)
    assert one.until(lambda told: told) == [KILLED]
    assert one.started[0].returncode == -signal.SIGKILL
    assert "why=protocol" in caplog.text
    assert "9j" not in caplog.text
    assert "xxx" not in caplog.text


def test_a_worker_that_floods_its_pipe_is_killed(bench, caplog):
    one = bench()
    one.says(then=f"while True: sys.stdout.write('{REST}\\n')")
    assert one.until(lambda told: told) == [KILLED]
    assert "why=protocol" in caplog.text


@pytest.mark.parametrize(
    ("lines", "why", "after_s"),
    [([], "start_stalled", 61), ([SOURCE], "source_stalled", 16), ([REST], "model_stalled", 16)],
)
def test_a_silent_worker_is_killed_and_the_log_says_where_it_stood(
    bench, caplog, lines, why, after_s
):
    one = bench()
    one.says(*lines)
    one.until(lambda _: one.started and (not lines or one.counting._worker.beat))
    assert one.step(after_s - 2) == []
    assert one.step(3) == [KILLED]
    assert f"why={why} killed=True" in caplog.text


def test_a_sleep_of_the_machine_is_no_silence(bench):
    one = bench()
    one.until(counting(one))
    assert one.counting.step(one.clock.sleeps(8 * 3600)) == []
    assert one.counting.camera is Camera.COUNTING


def test_a_worker_over_its_memory_is_killed(bench, caplog):
    one = bench(rss_bytes=64 << 20)
    one.says(REST, then="block = bytearray(b'x') * (96 << 20)\ntime.sleep(600)")
    assert one.until(lambda told: told) == [KILLED]
    assert "why=memory" in caplog.text


def test_a_worker_over_its_share_of_a_core_is_killed(bench, caplog):
    one = bench(cpu_over_s=0.5, cpu_share=0.3)
    one.says(REST, then="while True: pass")
    one.until(counting(one))
    pid = one.counting.worker_pid
    enough_s = cost_of(pid).cpu_s + 0.5  # as much as it can do in the half second that passes
    deadline = time.monotonic() + PATIENCE_S
    while cost_of(pid).cpu_s < enough_s:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert one.step(0.5) == [KILLED]
    assert "why=cpu" in caplog.text


def test_waits_double_up_to_a_limit_and_are_jittered_from_nothing(bench):
    one = bench(breaches=99, backoff_s=5, most_backoff_s=60)
    one.says(then="sys.exit(1)")
    one.until(lambda _: len(one.waits) == 6, passes_s=1)
    assert one.waits == [5, 10, 20, 40, 60, 60]
    draws = [full_jitter(60) for _ in range(300)]
    assert min(draws) < 6
    assert max(draws) > 54


def test_no_worker_is_started_before_its_wait_is_over(bench):
    one = bench()
    one.says(then="sys.exit(1)")
    one.until(lambda _: one.waits)
    one.step(4.9)
    assert len(one.started) == 1
    one.step(0.2)
    assert len(one.started) == 2


def test_a_model_that_keeps_breaching_is_given_up_and_told_of_once(bench, caplog):
    one = bench(breaches=3)
    one.says(REST, "{}")
    told = one.until(lambda told: QUARANTINED in told, passes_s=1)
    assert told == [KILLED, KILLED, KILLED, QUARANTINED]
    assert one.counting.camera is Camera.FAILED
    assert one.step(3) == []
    assert len(one.started) == 3
    assert caplog.text.count("model.quarantined model=mtcnn why=protocol") == 1


def test_breaches_of_more_than_an_hour_ago_are_forgiven(bench):
    one = bench(breaches=2)
    one.says(then="sys.exit(1)")
    one.until(lambda _: len(one.waits) == 1)
    one.says(REST)
    one.clock.passes(3700)
    one.until(counting(one))
    one.started[-1].kill()
    one.until(lambda _: len(one.waits) == 2)
    assert one.waits == [5, 5]
    assert QUARANTINED not in one.step(10)


def test_a_source_that_hangs_again_and_again_says_nothing_against_the_model(bench):
    one = bench(breaches=2, heartbeat_s=5)
    one.says(SOURCE)
    for _ in range(4):
        one.until(lambda _: one.counting._worker and one.counting._worker.beat, passes_s=1)
        assert one.step(6) == [KILLED]


@pytest.mark.parametrize(
    ("code", "why", "given_up"),
    [
        (3, "parts_missing", False),
        (4, "model_refused", True),
        (5, "source_refused", False),
        (6, "model_failing", False),
        (77, "died", False),
    ],
)
def test_the_log_says_why_a_worker_ended_itself(bench, caplog, code, why, given_up):
    one = bench()
    one.says(then=f"sys.exit({code})")
    told = one.until(lambda _: one.waits)
    assert f"why={why} killed=False" in caplog.text
    assert (QUARANTINED in told) is given_up


def test_what_a_worker_said_last_is_read_before_its_end(bench, monkeypatch):
    one, take = bench(), child.Lines.take
    one.says(WINDOW, then="sys.exit(1)")

    def just_before_its_end(lines):
        found = take(lines)
        one.started[0].wait()
        return found

    monkeypatch.setattr(child.Lines, "take", just_before_its_end)
    assert len(one.until(lambda _: one.waits)) == 1


def test_a_system_that_starts_no_process_is_asked_again_later(tmp_path):
    calls = []

    def refuse(plan):
        calls.append(plan)
        raise BlockingIOError(11, "no more processes")

    clock = FakeClock()
    one = Counting(plan_of(str(tmp_path), "mtcnn", 10), Switch(), spawn=refuse, jitter=lambda m: m)
    for _ in range(10):
        assert one.step(clock.passes(1)) == []
    assert len(calls) == 2
    assert one.camera is Camera.FAILED


def test_the_switch_kills_within_one_step_and_its_release_starts_again(bench):
    one = bench()
    one.until(counting(one))
    one.switch.engaged = True
    assert one.step() == [Event(name=EventName.CAMERA_STOPPED)]
    assert one.started[0].returncode == -signal.SIGKILL
    assert one.counting.camera is Camera.STOPPED
    assert one.step(600) == []
    assert len(one.started) == 1
    one.switch.engaged = False
    assert one.step() == [Event(name=EventName.CAMERA_ALLOWED)]
    one.until(counting(one))
    assert len(one.started) == 2


def test_a_switch_found_engaged_starts_nothing_and_is_no_event(bench):
    one = bench()
    one.switch.engaged = True
    assert one.step() == []
    assert one.counting.camera is Camera.STOPPED
    assert one.started == []


def test_a_window_in_which_the_worker_kept_failing_is_told_as_failed_and_never_as_zero(bench):
    one = bench(breaches=999)
    one.says(then="sys.exit(1)")
    told = one.until(lambda told: told, passes_s=5)
    assert told == [Occupancy(window_s=295, view=View.FAILED)]


def test_a_window_in_which_nobody_is_to_be_counted_is_never_told_as_failed(bench):
    one = bench(every_s=900, breaches=9999)
    one.says(then="sys.exit(1)")
    began_ms, at_s = one.clock.now().boottime_ms, []

    def half_an_hour_is_over(_):
        return one.clock.now().boottime_ms - began_ms > 1_830_000

    while not half_an_hour_is_over(None):
        if one.until(lambda told: told or half_an_hour_is_over(told), passes_s=5):
            at_s.append((one.clock.now().boottime_ms - began_ms) // 1000)
    assert [at // 300 for at in at_s] == [1, 4]


def test_between_windows_a_worker_that_is_ready_is_shown_as_counting_before_it_ever_looked(bench):
    one = bench(every_s=900, heartbeat_s=9999)
    one.clock.passes(300)
    one.says('{"kind":"beat","stage":"rest"}')
    assert not one.counting.rests
    one.until(counting(one))
    assert one.counting.rests
    one.step(600)
    assert not one.counting.rests
    assert one.counting.camera is Camera.OFF, "until its first look"


def test_a_room_that_is_switched_off_has_no_windows(bench):
    one = bench()
    one.switch.engaged = True
    assert [told for _ in range(100) for told in one.step(10)] == []


def test_stop_ends_the_worker_and_nothing_starts_again(bench):
    one = bench()
    one.until(counting(one))
    one.counting.stop()
    one.counting.stop()
    assert one.started[0].returncode == -signal.SIGKILL
    assert one.step(1000) == []
    assert (len(one.started), one.counting.camera) == (1, Camera.OFF)


def test_the_supervising_side_loads_nothing_heavy():
    code = (
        "import sys, ketang_agent.inference.supervise, ketang_agent.inference.switch;"
        "print([n for n in ('numpy', 'cv2', 'onnxruntime', 'asyncio') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
