"""A device's configuration over a long life, against a model of what honest signers said.

The centre relays anything that was ever signed, in any order; trials pass, fail and hang, and the
agent is killed between any two steps. The model knows nothing of marks, lines and merging rules
beyond ``config``'s own: of each unit it keeps the widest that two holders allowed, narrowed by what
was accepted since.
"""

import random
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import currently_in_test_context, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ketang_agent.remote import state_file, trial
from ketang_agent.remote.machine import Look, Phase, Works
from ketang_contract import config
from ketang_contract.config import Apply, Config, Level, LogLevel, Said
from ketang_contract.layers import LAYER_TYPE, PLACEMENT_TYPE, config_hash, digest, payload
from tests.security.config_world import (
    AT_S1,
    AT_S2,
    BASE,
    BOTH,
    DAY_S,
    DEVICE,
    LEVELS,
    NOW_S,
    Device,
    bundle,
    layer_of,
    placement_of,
    seal,
)

PLACES = (AT_S1, AT_S2, AT_S1[:3])
UNITS = ("lan", "s1", "s1-r1", "s2", DEVICE)
ONE_KEY = {"lan": "one", "s1": "s1", "s1-r1": "s1", "s2": "s2", DEVICE: "two"}
VALUES = {
    "usage_s": [None, 0, 30],
    "host_s": [None, 30, 300],
    "hours": [None, (), ((0, 480, 600),), ((0, 540, 660), (1, 0, 60))],
    "inference": [None, False, True],
    "log_level": [None, LogLevel.DEBUG, LogLevel.ERROR],
    "apply": [None, None, Apply.NOW, Apply.BOOT, Apply.AFTER_HOURS],
}
CONTENTS = st.builds(Config, **{name: st.sampled_from(some) for name, some in VALUES.items()})
FATES_THERE_ARE = ["passes", "passes", "fails", "fails later", "waits"]
LIVES = 100
FATES = st.sampled_from(FATES_THERE_ARE)


def note(what: str) -> None:
    """Have it counted where hypothesis is asked for statistics."""
    if currently_in_test_context():
        event(what)


def met(target: str, before: Config, after: Config) -> Config:
    """The wider of neither; at the region's, what is not said is the profile's."""
    if LEVELS[target] is Level.REGION:
        before, after = config.filled(BASE, before), config.filled(BASE, after)
    return config.narrowed(after, before)


class Life(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.device = Device()
        self.boot = 1
        # What signers have signed: by target every version, and placements.
        self.layers = {target: [] for target in UNITS}
        self.placed = []
        # What the device accepted last.
        self.held_layers, self.held_place = {}, None
        # The model.
        self.allowed = {}
        self.ceiling = BASE
        self.path = None
        self.accepted = set()
        self.marks = {}
        self.failed = {}
        self._place(AT_S1, two=False)

    def teardown(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    # What signers do, and the centre relays at once.

    @rule(
        unit=st.sampled_from(UNITS),
        content=CONTENTS,
        two=st.booleans(),
        undo=st.booleans(),
        narrower=st.booleans(),
        fate=FATES,
    )
    def publish(self, unit, content, two, undo, narrower, fate):
        before = self.layers[unit][-1][0].content if self.layers[unit] else Config()
        now_s = self.device.now_s
        made = layer_of(
            unit,
            config.narrowed(content, before) if narrower else content,
            version=2 * len(self.layers[unit]) + 1,
            issued_s=now_s,
            expires_s=now_s + 30 * DAY_S,
            undoes=1 if undo else None,
        )
        keys = BOTH if two else (ONE_KEY[unit],)
        self.layers[unit].append((made, seal(made, *keys), two))
        self._send_with(unit)
        self._meet(fate)

    @rule(place=st.sampled_from(PLACES), two=st.booleans(), fate=FATES)
    def move(self, place, two, fate):
        self._place(place, two=two)
        self._send_with("")
        self._meet(fate)

    def _place(self, place, *, two):
        now_s = self.device.now_s
        made = placement_of(
            path=place,
            version=len(self.placed) + 1,
            issued_s=now_s,
            expires_s=now_s + 30 * DAY_S,
        )
        self.placed.append((made, seal(made, *(BOTH if two else ("one",))), two))

    def _send_with(self, unit, attempt=0):
        """Bring what the device holds, and the newest of one unit or of the placement."""
        placement = self.placed[-1] if not unit or self.held_place is None else self.held_place
        path = [one.unit for one in placement[0].path]
        signed = [t for t in (*path, DEVICE) if self.layers.get(t)]
        layers = {t: self.held_layers.get(t, self.layers[t][-1]) for t in signed}
        if unit in layers:
            layers[unit] = self.layers[unit][-1]
        self._bring(placement, layers, attempt)

    # What the centre does besides.

    @rule(unit=st.sampled_from(["", *UNITS]), attempt=st.integers(0, 6))
    def relay(self, unit, attempt):
        self._send_with(unit, attempt)

    @rule(
        back=st.lists(st.integers(0, 2), min_size=6, max_size=6),
        gone=st.sampled_from(["", *UNITS]),
        attempt=st.integers(0, 6),
    )
    def replay(self, back, gone, attempt):
        """Bring any of the last that were ever signed, or leave one out."""
        placement = self.placed[-1 - back[0] % len(self.placed)]
        path = [one.unit for one in placement[0].path]
        signed = {t: self.layers[t][-3:] for t in (*path, DEVICE) if self.layers.get(t)}
        layers = {
            t: some[-1 - go % len(some)]
            for go, (t, some) in zip(back[1:], signed.items(), strict=False)
            if t != gone
        }
        self._bring(placement, layers, attempt)

    def _bring(self, placement, layers, attempt):
        raw = bundle(placement[1], *(one[1] for one in layers.values()), attempt=attempt)
        before = self.device.machine
        reason = self.device.bring(raw)
        note(f"brought: {reason or 'accepted'}")
        after = self.device.machine
        if reason:
            assert (
                replace(
                    after,
                    state=before.state,
                    desired=before.desired,
                    attempt=before.attempt,
                    refused=before.refused,
                    trust_version=before.trust_version,
                )
                == before
            )
            return
        self._told(placement, layers)
        self.held_layers |= layers
        self.held_place = placement
        named = config_hash(
            digest(PLACEMENT_TYPE, payload(placement[0])),
            [digest(LAYER_TYPE, payload(one[0])) for one in layers.values()],
        )
        self.accepted.add(named)
        if after.candidate is not None and after.candidate is not before.candidate:
            assert after.candidate.hash == named
            assert attempt > self.failed.get(named, -1)

    def _told(self, placement, layers):
        for target, (made, _, two) in layers.items():
            stood = self.allowed.get(target, Config())
            free = two and (made.undoes is None or target not in self.allowed)
            self.allowed[target] = made.content if free else met(target, stood, made.content)
        path = [one.unit for one in placement[0].path]
        said = [
            Said(unit, LEVELS[unit], self.allowed[unit])
            for unit in (*path, DEVICE)
            if unit in self.allowed
        ]
        merged = config.merge(BASE, said).config
        free = placement[2] or self.path in {None, tuple(path)}
        self.ceiling = merged if free else config.narrowed(self.ceiling, merged)
        self.path = tuple(path)

    # What happens to the device.

    @rule(good=st.booleans(), moment=st.booleans(), seconds=st.sampled_from([1, 20, 41, 61, 601]))
    def looks(self, good, moment, seconds):
        if good:
            self.device.session += 1
        look = Look(
            connected=good,
            session=self.device.session,
            acknowledged=good,
            sampled=True,
            moment=moment,
        )
        self._step(look, seconds)

    @rule(fate=FATES)
    def ends_its_trial(self, fate):
        self._meet(fate)

    def _meet(self, fate):
        """Let what waits be tried, and pass or fail."""
        if fate == "waits":
            return
        good = Look(connected=True, session=0, acknowledged=True, sampled=True, moment=True)
        bad = {
            "fails": replace(good, model=Works.NO),
            "fails later": replace(good, failing=frozenset({"host"})),
            "passes": good,
        }
        if self.device.phase is not Phase.TRIAL:
            self._step(good, 1)
        self.device.session += 1
        self._step(replace(bad[fate], session=self.device.session), 41)

    def _step(self, look, seconds):
        before = self.device.machine
        self.device.step(look, seconds * 1000)
        self._note_failures(before)
        if self.device.machine.state is not before.state:
            note(f"became: {self.device.machine.state}")

    def _note_failures(self, before):
        for one in self.device.machine.failed[len(before.failed) :]:
            self.failed[one.hash] = max(one.attempt, self.failed.get(one.hash, -1))

    @rule(boots=st.booleans(), in_order=st.booleans())
    def starts_anew(self, boots, in_order):
        """Be killed, or stopped in order; the machine may have gone off, too."""
        machine = trial.end(self.device.machine) if in_order else self.device.machine
        state_file.write(self.folder, machine)
        read = state_file.read(self.folder, BASE)
        assert read == machine
        if boots:
            self.boot += 1
            self.device.boottime_ms = 5_000
        self.device.boottime_ms += 1000
        self.device.boot_id = f"boot-{self.boot}"
        self.device.machine = trial.begin(read, self.device.now)
        self._note_failures(machine)

    @rule()
    def was_not_written(self):
        """Be killed between a verdict and the disk: the last state that was kept is taken up."""
        if (self.folder / state_file.NAME).exists() and not self._is_newer_told():
            read = state_file.read(self.folder, BASE)
            self.device.machine = trial.begin(read, self.device.now)
            self._note_failures(read)

    def _is_newer_told(self):
        """Whether the model heard of something since; what was never kept was never told."""
        kept = state_file.read(self.folder, BASE)
        return (
            kept.held != self.device.machine.held or kept.in_force != self.device.machine.in_force
        )

    @rule(days=st.sampled_from([1, 31]))
    def is_offline(self, days):
        """Nothing that is in force ends with the time of what was signed."""
        before = self.device.machine
        self.device.now_s += days * DAY_S
        assert self.device.machine.applied == before.applied
        assert self.device.machine.running == before.running

    @rule(back=st.booleans())
    def has_its_clock_set(self, back):
        self.device.now_s = NOW_S if back else self.device.now_s + DAY_S

    @rule(synced=st.booleans())
    def hears_the_time(self, synced):
        self.device.synced = synced

    # What must hold.

    @invariant()
    def collects_no_more_than_was_allowed(self):
        if hasattr(self, "device"):
            assert config.widened(self.ceiling, self.device.machine.applied) == ()
            assert config.widened(self.ceiling, self.device.machine.in_force) == ()

    @invariant()
    def never_goes_back(self):
        if not hasattr(self, "device"):
            return
        held = self.device.machine.held
        marks = {t: one["mark"] for t, one in held.get("lines", {}).items()}
        if held.get("placement"):
            marks["placement"] = held["placement"]
        now = {t: (one["key_epoch"], one["version"]) for t, one in marks.items()}
        now["confirmed floor"] = (held.get("confirmed_s", 0), 0)
        assert held.get("floor_s", 0) >= held.get("confirmed_s", 0)
        assert set(now) >= set(self.marks)
        assert all(now[t] >= was for t, was in self.marks.items())
        self.marks = now

    @invariant()
    def runs_what_was_accepted(self):
        if hasattr(self, "device"):
            machine = self.device.machine
            assert machine.running in {None, *self.accepted}
            assert machine.candidate is None or machine.candidate.hash in self.accepted
            if machine.running is None:
                assert machine.layers == ()


@pytest.mark.slow
def test_long_lives_collect_no_more_than_was_allowed():
    """The same rules, drawn evenly: what needs a certain order of steps comes up more often."""
    for seed in range(LIVES):
        rng = random.Random(seed)
        life = Life()
        life.begin()
        try:
            for _ in range(60):
                a_step(life, rng)
                life.collects_no_more_than_was_allowed()
                life.never_goes_back()
                life.runs_what_was_accepted()
        finally:
            life.teardown()


def a_step(life, rng):
    def coin():
        return rng.random() < 0.5

    fate, attempt = rng.choice(FATES_THERE_ARE), rng.randint(0, 6)
    steps = {
        "publish": lambda: life.publish(
            unit=rng.choice(UNITS),
            content=any_content(rng),
            two=coin(),
            undo=rng.random() < 0.2,
            narrower=coin(),
            fate=fate,
        ),
        "move": lambda: life.move(place=rng.choice(PLACES), two=coin(), fate=fate),
        "relay": lambda: life.relay(unit=rng.choice(["", *UNITS]), attempt=attempt),
        "replay": lambda: life.replay(
            back=[rng.randint(0, 2) for _ in range(6)],
            gone=rng.choice(["", *UNITS]),
            attempt=attempt,
        ),
        "looks": lambda: life.looks(good=coin(), moment=coin(), seconds=rng.choice([1, 41, 601])),
        "trial": lambda: life.ends_its_trial(fate=fate),
        "start": lambda: life.starts_anew(boots=coin(), in_order=coin()),
        "lost": life.was_not_written,
        "offline": lambda: life.is_offline(days=rng.choice([1, 31])),
        "clock": lambda: life.has_its_clock_set(back=coin()),
        "time": lambda: life.hears_the_time(synced=coin()),
    }
    steps[rng.choices(list(steps), [16, 8, 4, 4, 4, 4, 2, 2, 1, 1, 1])[0]]()


def any_content(rng):
    return Config(**{name: rng.choice(some) for name, some in VALUES.items()})


Life.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestLife = Life.TestCase
