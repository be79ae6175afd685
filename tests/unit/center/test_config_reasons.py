"""Every reason that a device may give for what became of a configuration has words."""

import ast
import re
from pathlib import Path

import pytest

import ketang_agent.remote
import ketang_agent.watching
import ketang_contract
from ketang_center.rollouts import outcomes
from ketang_center.web import rollout_words
from ketang_center.web.text import LANGUAGES, words

AGENT = Path(ketang_agent.remote.__file__).parent
CONTRACT = Path(ketang_contract.__file__).parent
JUDGING = ("agent_release", "layers", "permit_judging", "permits", "signatures", "trust", "updates")
"""Modules of the contract whose refusals a device passes on as its own."""
GIVEN = re.compile(r"\w*Refused|Failed|Dropped|No|_?fail|_?give_up|_refuse|_put_off")
"""Calls that are given a reason."""
TABLES = re.compile(r"_AGAINST|_AT_ONCE|_OF_THE_\w+|_REASONS|_WORDS")
ANSWERS = {"_wrong", "wrong", "_word"}
"""Functions that return one."""
REASON = re.compile(r"[a-z]+(_[a-z]+)*")


def texts(node: ast.AST) -> set[str]:
    held = (one.value for one in ast.walk(node) if isinstance(one, ast.Constant))
    return {one for one in held if isinstance(one, str) and REASON.fullmatch(one)}


def reasons_in(node: ast.AST) -> set[str]:
    found: set[str] = set()
    for one in ast.walk(node):
        match one:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=given):
                if GIVEN.fullmatch(name):
                    found.update(
                        *(texts(arg) for arg in given if not isinstance(arg, ast.JoinedStr))
                    )
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                if TABLES.fullmatch(name):
                    found |= texts(value)
            case ast.FunctionDef(name=name) if name in ANSWERS:
                back = (each.value for each in ast.walk(one) if isinstance(each, ast.Return))
                found.update(*(texts(value) for value in back if value is not None))
    return found


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def reasons_of_devices() -> set[str]:
    files = [one for one in AGENT.glob("*.py") if not one.stem.startswith("commands")]
    files += [CONTRACT / f"{one}.py" for one in JUDGING]
    found = set().union(*(reasons_in(parsed(one)) for one in files))
    readers = (
        one
        for one in parsed(CONTRACT / "validate.py").body
        if isinstance(one, ast.FunctionDef) and one.name in {"document", "signed"}
    )
    found = found.union(*map(reasons_in, readers))
    watcher = reasons_in(parsed(Path(ketang_agent.watching.__file__)))
    return found | {f"agent_{one}" for one in watcher}


def test_the_reasons_are_found_where_they_are_given():
    given_everywhere = """
        bad_desired mis_scoped forged agent_too_old ill_timed no_trust crashed crashed_later
        not_connected model_failing model_slow parts_refused disk_failing agent_not_watched
        agent_missing agent_crashed agent_silent too_large document_too_large bad_signature bad_key
        no_room does_not_run wrong_content unreachable filing_expired
    """
    assert set(given_everywhere.split()) <= reasons_of_devices()


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_reason_a_device_gives_has_words_in_both_languages(lang):
    t = words(lang)
    lacking = [
        one for one in sorted(reasons_of_devices()) if f"config_reason.{one}" not in t.by_key
    ]
    assert lacking == []


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_reason_the_centre_gives_has_words_in_both_languages(lang):
    t = words(lang)
    for one in (outcomes.WENT_OFF, outcomes.LINE_DOWN, outcomes.SILENT, "unsendable"):
        assert rollout_words.reason(one, t) not in {"", one}


def test_a_reason_of_a_later_release_is_told_as_it_came():
    t = words("en")
    assert rollout_words.reason("", t) == ""
    assert rollout_words.reason("of_tomorrow", t) == "of_tomorrow"
    assert rollout_words.reason("agent_of_tomorrow", t) == (
        "the agent's new release did not run (of_tomorrow)"
    )
