"""The collector's judgement, with stand-ins for desktops this machine has not."""

import pytest
from tests.unit.agent.clocks import FakeClock
from tests.unit.agent.trees import plant

from ketang_agent.collectors.base import Gatherer, NotApplicable
from ketang_agent.collectors.usage import UsageCollector, category_of
from ketang_agent.platforms.base import Desktop
from ketang_agent.platforms.linux_proc import AlsaPlayback, executable_of
from ketang_contract.records import Category, IdleSource

CATEGORIES = {
    "seewo": Category.WHITEBOARD,
    "chromium": Category.BROWSER,
    "gnome-text-editor": Category.OFFICE,
}
NOW = FakeClock().now()


class Probe:
    """Answers, or raises, what it was told to, to every question."""

    def __init__(self, said, source=IdleSource.XSCREENSAVER):
        self.said, self.source, self.asked = said, source, 0

    def idle_s(self):
        self.asked += 1
        if isinstance(self.said, Exception):
            raise self.said
        return self.said

    foreground_pid = locked = held_awake = idle_s


LACKS, FAILS = NotApplicable("not here"), OSError("broken")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/exe").symlink_to("/opt/Seewo/Seewo")
    return plant(tmp_path, {"proc/8/comm": "gnome-text-edit\n"})


def look(root, **probes):
    (reading,) = Gatherer().gather(UsageCollector(Desktop(**probes), CATEGORIES, root), NOW)
    return reading


def test_the_first_source_that_applies_speaks(root):
    weaker = Probe(900, IdleSource.LOGIND)
    reading = look(root, idle=(Probe(LACKS), Probe(20, IdleSource.MUTTER), weaker))
    assert (reading.idle_s, reading.idle_source) == (20, IdleSource.MUTTER)
    assert weaker.asked == 0


def test_a_weaker_source_does_not_speak_for_one_that_failed(root):
    reading = look(root, idle=(Probe(FAILS), Probe(0, IdleSource.LOGIND)))
    assert (reading.idle_s, reading.idle_source, reading.note) == (
        None,
        IdleSource.XSCREENSAVER,
        "broken",
    )


def test_no_desktop_session_is_unknown_and_says_why(root):
    collector, gatherer = (
        UsageCollector(Desktop(idle=(Probe(LACKS),)), CATEGORIES, root),
        Gatherer(),
    )
    (reading,) = gatherer.gather(collector, NOW)
    assert (reading.idle_s, reading.idle_source) == (None, IdleSource.NONE)
    assert gatherer.not_applicable["usage"] == reading.note
    assert "no desktop session" in reading.note
    assert not gatherer.failing


def test_a_lock_probe_that_fails_leaves_the_state_unknown(root):
    assert look(root, idle=(Probe(1),), lock=Probe(FAILS)).idle_s is None
    assert look(root, idle=(Probe(1),), lock=Probe(LACKS)).idle_s == 1
    assert look(root, idle=(Probe(1),), lock=Probe(True)).locked


def test_a_teaching_program_in_front_presents_only_without_input(root):
    probes = {"foreground": Probe(7)}
    assert not look(root, idle=(Probe(179),), **probes).presenting
    still = look(root, idle=(Probe(180),), **probes)
    assert (still.presenting, still.category) == (True, Category.WHITEBOARD)


def test_a_display_held_awake_presents_whatever_is_in_front(root):
    awake = (Probe(LACKS), Probe(FAILS), Probe(True))
    assert look(root, idle=(Probe(500),), awake=awake).presenting
    assert not look(root, idle=(Probe(500),), awake=awake[:2]).presenting


def test_nothing_is_asked_of_inhibitors_while_somebody_works(root):
    awake = Probe(True)
    look(root, idle=(Probe(5),), awake=(awake,))
    assert awake.asked == 0


def test_a_front_that_cannot_be_asked_is_other(root):
    assert look(root, idle=(Probe(5),), foreground=Probe(FAILS)).category is Category.OTHER
    assert look(root, idle=(Probe(5),), foreground=Probe(None)).category is Category.OTHER
    assert look(root, idle=(Probe(5),), foreground=Probe(99)).category is Category.OTHER


def test_a_program_is_known_by_its_executable_or_the_name_the_kernel_cut(root):
    assert executable_of(7, root) == "seewo"
    assert category_of(executable_of(8, root), CATEGORIES) is Category.OFFICE
    assert category_of("gnome-text", CATEGORIES) is Category.OTHER


@pytest.mark.parametrize(("state", "expected"), [("state: RUNNING\n", True), ("closed\n", False)])
def test_sound_plays_when_a_playback_stream_runs(tmp_path, state, expected):
    plant(
        tmp_path,
        {
            "proc/asound/card0/pcm0p/sub0/status": state,
            "proc/asound/card0/pcm0c/sub0/status": "state: RUNNING\n",  # a microphone is no reason
        },
    )
    assert AlsaPlayback(tmp_path).held_awake() is expected
