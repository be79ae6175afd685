"""The fetching child: ``python -m ketang_agent.remote.fetching FOLDER TARGET``, then it ends.

FOLDER is the device's own (``enrol.files.Place``): the centre's address, its authorities and the
trust document. A model is also laid beside the others, after its golden pictures were tried; which
one is used is not decided here. Prints one JSON line; exit status 0 when the target is there. It
may be killed at any moment: the next one goes on from what came.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ketang_agent import VERSION
from ketang_agent.enrol import believing
from ketang_agent.enrol.files import Facts, Place, read_facts
from ketang_agent.enrol.talking import Unreachable
from ketang_agent.inference.golden import CannotCheck, check
from ketang_agent.remote import model_store
from ketang_agent.remote.model_store import Chosen
from ketang_agent.remote.updates import Fetched, NoRoom, fetch
from ketang_agent.remote.updates_root import UpdateRefused
from ketang_agent.remote.version_order import is_older
from ketang_contract.errors import BadInput, KetangError
from ketang_contract.trust import Trust
from ketang_contract.updates import Kind, Target
from ketang_models.manifest import ModelRefused

NOT_YET = 1
UPDATES, MODELS = "updates", "models"
"""Folders in the agent's data folder."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the supervisor wants. ``now_s``: no earlier than the signed-time floor it keeps."""

    place: Place
    target: str
    data_dir: Path
    kbps: int | None
    now_s: int


def bring(asked: Asked) -> dict[str, object]:
    """Fetch the target, and lay it where it is a model; return what is told of it.

    Raises:
        UpdateRefused: the repository, or the target, is not accepted.
        ModelRefused: the model does not pass.
        Unreachable: the centre does not answer.
        NoRoom: the disk is nearly full.
        BadInput: this folder holds no identity.
    """
    facts, raw = read_facts(asked.place), believing.held(asked.place)
    if facts is None or raw is None:
        raise BadInput(f"{asked.place.folder}: not enrolled")
    document = believing.keep(asked.place, raw, asked.now_s)
    try:
        fetched = _fetched(asked, facts, document)
    except UpdateRefused as why:
        if why.reason != "root_not_named":
            raise
        # The root may have been replaced, and a newer trust document name it.
        newer = believing.newest(asked.place, facts.url, "", asked.now_s)
        if newer == document:
            raise
        fetched = _fetched(asked, facts, newer)
    target = fetched.target
    if is_older(VERSION, target.min_agent):
        raise UpdateRefused("agent_too_old", f"{target.path}: needs agent {target.min_agent}")
    where = fetched.path
    if target.kind is Kind.MODEL:
        where = _laid(asked.data_dir / MODELS, fetched)
    return {
        "fetched": str(where),
        "kind": target.kind.value,
        "name": target.name,
        "version": target.version,
        "digest": target.digest,
    }


def _fetched(asked: Asked, facts: Facts, document: Trust) -> Fetched:
    return fetch(
        asked.data_dir / UPDATES,
        facts.url,
        asked.place.servers.read_text("ascii"),
        document,
        asked.target,
        asked.kbps,
        asked.now_s,
    )


def _laid(store: Path, fetched: Fetched) -> Path:
    target: Target = fetched.target
    wanted = Chosen(target.name, target.version, target.digest)
    laid = model_store.lay(store, fetched.path, wanted, check)
    fetched.path.unlink(missing_ok=True)
    return laid.folder


def main(arguments: Sequence[str]) -> int:
    """Try once."""
    parser = argparse.ArgumentParser(prog="python -m ketang_agent.remote.fetching")
    parser.add_argument("folder", type=Path)
    parser.add_argument("target")
    parser.add_argument(
        "--data", type=Path, help="the agent's data folder; FOLDER/data unless told"
    )
    parser.add_argument("--kbps", type=int, help="kbit/s in the mean; uncapped unless told")
    parser.add_argument("--not-before", type=int, default=0, help="UTC seconds: it is no earlier")
    said = parser.parse_args(arguments)
    asked = Asked(
        Place(said.folder),
        said.target,
        said.data or said.folder / "data",
        said.kbps,
        max(int(time.time()), said.not_before),
    )
    try:
        _say(bring(asked))
    except (KetangError, OSError) as problem:
        _say({"fetched": "", "why": _word(problem), "what": str(problem)[:300]})
        return NOT_YET
    return 0


def _word(problem: Exception) -> str:
    """Say in a word what the supervisor can do about it."""
    if isinstance(problem, UpdateRefused):
        return problem.reason
    return next((word for kind, word in _WORDS if isinstance(problem, kind)), "failed")


_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (Unreachable, "unreachable"),
    (NoRoom, "no_room"),
    (CannotCheck, "not_checked"),
    (ModelRefused, "model_refused"),
)
"""The first that fits."""


def _say(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
