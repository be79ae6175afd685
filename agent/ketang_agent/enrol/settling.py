"""The centre's answer, and everything that follows from it: identity, facts, settings."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ketang_agent.enrol import verifier
from ketang_agent.enrol.files import Facts, Place, read_facts, remove, write_facts, write_private
from ketang_contract.enrolment import Issued
from ketang_contract.errors import BadInput


def keep_answer(place: Place, answer: bytes, url: str) -> None:
    """Put the whole answer on the disk, before anything is made of it."""
    write_private(place.answer, json.dumps({"answer": json.loads(answer), "url": url}).encode())


def answered(place: Place) -> tuple[Issued, str] | None:
    """Return the answer that is kept, if the key it was given to is still here."""
    try:
        kept = json.loads(place.answer.read_bytes())
        issued, url = Issued(**kept["answer"]), str(kept["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    files = (place.again_key, place.new_key, place.identity)
    return (issued, url) if any(_is_of(one, issued) for one in files) else None


def settle(place: Place, issued: Issued, url: str, reached: Callable[[str], None]) -> None:
    """Make everything of the answer that follows from it; done twice, it is done once."""
    for file in (place.again_key, place.new_key):
        if _is_of(file, issued):
            remove(place.next)  # a renewed pair of the identity before
            write_private(place.identity, file.read_bytes() + issued.certificate.encode())
            reached("identity")
            break
    held = verifier.dates(place.identity.read_bytes())
    write_facts(
        place, Facts(device=issued.device, url=url, from_s=held.from_s, until_s=held.until_s)
    )
    reached("facts")
    if place.settings.exists() and _read(place.settings) is None:  # a person may want it back
        place.settings.replace(place.settings.with_suffix(".before"))
    write_private(place.settings, settings_text(place, issued).encode())
    reached("settings")
    for left in (place.refusal, place.new_key, place.again_key):
        remove(left)
    reached("key gone")
    remove(place.answer)
    reached("done")


def put_back_facts(place: Place, url: str) -> None:
    """Write the facts anew from the pair, where they were lost or are another certificate's."""
    held, known = verifier.dates(place.identity.read_bytes()), read_facts(place)
    facts = Facts(
        device=held.name, url=known.url if known else url, from_s=held.from_s, until_s=held.until_s
    )
    if facts != known:
        write_facts(place, facts)


def has_settings(place: Place) -> bool:
    """Tell whether the agent can be started with the settings that are there."""
    return "device" in (_read(place.settings) or {})


def settings_text(place: Place, issued: Issued) -> str:
    """Return ``agent.toml``, with what a person had put into one before."""
    before = _read(place.settings) or _read(place.settings.with_suffix(".before")) or {}
    told: dict[str, Any] = {
        "device": issued.device,
        "center_id": issued.center_id,
        "profile": issued.profile,
        "data_dir": before.get("data_dir", "data"),
        "broker_host": issued.broker_host,
        "broker_port": issued.broker_port,
        "ca": place.servers.name,
        "certificate": place.identity.name,
        "key": place.identity.name,
    }
    kept = {key: value for key, value in before.items() if key not in told}
    tables = {key: value for key, value in kept.items() if isinstance(value, dict)}
    told |= {key: value for key, value in kept.items() if key not in tables}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in told.items()]
    for name, table in tables.items():
        lines += ["", f"[{name}]"]
        lines += [f"{key} = {json.dumps(one, ensure_ascii=False)}" for key, one in table.items()]
    return "\n".join(lines) + "\n"


def _read(file: Path) -> dict[str, Any] | None:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _is_of(file: Path, issued: Issued) -> bool:
    try:
        return verifier.belongs(file.read_bytes(), issued.certificate)
    except (FileNotFoundError, BadInput):
        return False
