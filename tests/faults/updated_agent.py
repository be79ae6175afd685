"""An agent for the update tests: the real trial and the real ``OwnVersion``, and no other part.

It becomes ``ketang_cli.main`` of a release (``tests.releases.reduced``), so it is started as the
real one is. What a layer would say comes in ``order.json`` in the folder of releases. Each life is
a line in ``lives``: version, process, seconds of the boot clock.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from ketang_agent import VERSION
from ketang_agent.clock import SystemClock
from ketang_agent.remote import state_file, trial
from ketang_agent.remote.machine import Look, Phase, Verdict, Works
from ketang_agent.remote.own_version import OwnVersion, watched_folder
from ketang_agent.versions import UPDATE
from ketang_contract.config import AgentChoice, Config, LogLevel


def main():
    behaviour = Path(__file__).with_name("behaviour.txt").read_text()
    words = sys.argv[1:]
    if words == ["--version"]:
        sys.stdout.write(f"ketang {VERSION}\n")
        return 0
    if words[:2] == ["agent", "once"]:
        return 0
    if behaviour == "does not import":
        raise ModuleNotFoundError("no such module")
    folder = watched_folder()
    kill_at_a_write(folder)
    return Agent(folder, behaviour).run()


def kill_at_a_write(folder):
    """Have this process killed, or all of them, beside one of the writes that last.

    ``KETANG_KILL_AT`` says which one, counted over all processes, and when, e.g. ``3 before`` or
    ``3 after power``.
    """
    number, *moment = os.environ.get("KETANG_KILL_AT", "0").split()
    replace = Path.replace

    def die():
        os.kill(0 if "power" in moment else os.getpid(), signal.SIGKILL)

    def counted(path, target):
        if not path.name.endswith(".partial"):
            return replace(path, target)
        with (folder / "writes").open("a") as told:
            told.write(".")
            told.flush()
            chosen = told.tell() == int(number)
        if chosen and "before" in moment:
            die()
        done = replace(path, target)
        if chosen and "after" in moment:
            die()
        return done

    Path.replace = counted


class Agent:
    def __init__(self, folder, behaviour):
        self.folder, self.behaviour = folder, behaviour
        self.clock, self.own = SystemClock(), OwnVersion(folder, VERSION)
        self.state = folder / "state"
        self.state.mkdir(exist_ok=True)
        self.machine = state_file.read(self.state, Config())
        self.stopping = False
        trial.TRIAL_MS = trial.RETURN_MS = int(os.environ.get("KETANG_TRIAL_MS", "40000"))
        trial.AGAIN_MS = 1_000_000

    def keep(self, machine):
        if machine is not self.machine:
            self.machine = machine
            state_file.write(self.state, machine)

    @property
    def phase(self):
        return self.machine.candidate.phase if self.machine.candidate else None

    @property
    def ask(self):
        one = self.machine.candidate
        if one is not None and one.phase is Phase.TRIAL:
            return f"{one.hash}/{one.attempt}"
        return self.machine.running or ""

    def run(self):
        session = self.begin()
        began = time.monotonic()
        while not self.stopping:
            lived_s = time.monotonic() - began
            if self.behaviour == "dies" and lived_s > float(os.environ["KETANG_DIES_S"]):
                os._exit(3)
            while self.behaviour == "hangs":
                time.sleep(1000)
            if self.step(session, lived_s):
                self.keep(trial.end(self.machine))
                return UPDATE
            time.sleep(0.02)
        self.keep(trial.end(self.machine))
        return 0

    def begin(self):
        signal.signal(signal.SIGTERM, self.stop)
        if self.behaviour == "hangs":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        lives = self.folder / "lives"
        with lives.open("a") as told:
            told.write(f"{VERSION} {os.getpid()} {self.clock.now().boottime_ms / 1000}\n")
        self.keep(trial.begin(self.machine, self.clock.now()))
        return lives.read_text().count("\n")

    def stop(self, *_):
        self.stopping = True

    def step(self, session, lived_s):
        now = self.clock.now()
        self.take()
        # One that dies never comes as far as to be heard.
        connected = self.behaviour == "well" and lived_s > 0.3
        look = Look(
            connected=connected,
            session=session,
            acknowledged=connected,
            sampled=True,
            parts=Works.YES,
        )
        if self.phase is Phase.TRIAL:
            why = self.own.wrong(self.machine.applied, self.ask)
            if why:
                self.keep(trial.give_up(self.machine, why))
        self.keep(trial.step(self.machine, look, now))
        return self.own.step(self.machine.applied, self.ask, self.phase, now)

    def take(self):
        try:
            said = json.loads((self.folder / "order.json").read_bytes())
        except FileNotFoundError:
            return
        one = self.machine.candidate
        known = {
            (self.machine.desired, self.machine.attempt),
            (one and one.hash, one and one.attempt),
        }
        if (said["hash"], said["attempt"]) in known:
            return
        choice = AgentChoice(version=said["version"], sha256=said["sha256"])
        verdict = Verdict(
            hash=said["hash"],
            attempt=said["attempt"],
            config=Config(agent=choice) if said["version"] else Config(log_level=LogLevel.INFO),
            fallback=self.machine.in_force,
            held={"floor_s": 1},
            held_committed={"floor_s": 1},
        )
        self.keep(trial.take(self.machine, verdict))


if __name__ == "__main__":
    sys.exit(main())
