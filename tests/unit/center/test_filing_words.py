"""Whatever stands against a filing or a grant is said in both languages."""

import inspect
import re

import pytest
from tests.permits import NOW_S, SHA, filing, grant, sealed, trust
from tests.regions import UNITS

from ketang_center.registry.tree import Tree
from ketang_center.rollouts import filing_desk, filing_recheck
from ketang_center.rollouts.filing_desk import closed, place_for
from ketang_center.rollouts.filing_refusals import NOT_BELIEVED, FilingFault, FilingRefused
from ketang_center.rollouts.filing_values import FilingEntry, FilingState
from ketang_center.rollouts.filings import Filings
from ketang_center.web import filing_pages
from ketang_center.web.filing_words import REFUSALS
from ketang_center.web.text import words
from ketang_contract import permit_judging
from ketang_contract.config import Config, ModelChoice
from ketang_contract.errors import Refused
from ketang_contract.permit_judging import judge
from ketang_contract.signatures import MAX_SEALED_BYTES
from ketang_provisioning.permits import TOOLS

CHINESE = re.compile(r"[\u4e00-\u9fff]")
TREE = Tree(UNITS)


def said_in_both(key):
    zh, en = (words(lang).by_key[key] for lang in ("zh", "en"))
    return bool(CHINESE.search(zh)) and bool(en) and not CHINESE.search(en)


@pytest.mark.parametrize("fault", FilingFault)
def test_every_fault_has_a_sentence_in_both_languages(fault):
    assert said_in_both(f"filings_fault.{fault.value}")


@pytest.mark.parametrize("why", NOT_BELIEVED)
def test_every_reason_not_to_believe_a_document_has_one(why):
    assert said_in_both(f"filings_why.{why}")


def test_a_page_names_no_other_fault():
    named = set(re.findall(r'fault="(\w+)"', inspect.getsource(filing_pages)))
    assert named == {"field", "verdict"}
    assert all(said_in_both(f"filings_fault.{one}") for one in named)


def test_the_desk_refuses_with_no_other_word():
    source = inspect.getsource(filing_desk) + inspect.getsource(filing_recheck)
    raised = set(re.findall(r'FilingRefused\(\s*"(\w+)"', source))
    assert raised == {one.value for one in FilingFault}
    with pytest.raises(ValueError, match="other"):
        FilingRefused("other", "a fault nobody has words for")


def test_a_judge_refuses_with_no_other_word():
    raised = set(re.findall(r'Refused\(\s*"(\w+)"', inspect.getsource(permit_judging)))
    assert raised <= set(NOT_BELIEVED)
    for raw in (
        b"",
        b"[]",
        b"x" * (MAX_SEALED_BYTES + 1),
        sealed(filing(), "stranger"),
        sealed(filing(purpose="x" * 9_000)),
        sealed(filing(scope="s2")),
        sealed(grant(purpose="else")),
    ):
        with pytest.raises(Refused) as refused:
            judge(raw, trust(), place_for(TREE, "s1"), NOW_S, TOOLS)
        assert refused.value.reason in NOT_BELIEVED


def test_what_a_release_lacks_is_known_by_its_form(tmp_path):
    """The three lines of ``Filings.refusal_of``, as a page gets them."""
    model = ModelChoice(name="mtcnn", version="1.0.0", sha256=SHA)
    entry = FilingEntry(
        no=1,
        subject="model",
        name="mtcnn",
        version="1.0.0",
        sha256=SHA,
        number="12",
        purpose="count",
        data="head_counts",
        scope="lan",
        state=FilingState.APPROVED,
        submitted_by="pu",
        submitted_ms=1,
        approved_ms=2,
        issued_s=NOW_S,
        expires_s=NOW_S + 9,
    )
    with Filings(tmp_path / "filings.db", lambda: NOW_S * 1000) as filings:
        lines = [filings.refusal_of(Config(model=model), NOW_S)]
        filings.rows.put(closed(entry, FilingState.WITHDRAWN, "ap", 3, "why"))
        lines.append(filings.refusal_of(Config(model=model), NOW_S))
        other = ModelChoice(name="mtcnn", version="1.0.0", sha256="cd" * 32)
        lines.append(filings.refusal_of(Config(model=other), NOW_S))
    found = []
    for line in lines:
        for form, zh in REFUSALS:
            if match := re.fullmatch(form, f"lan-3: {line}"):
                found.append(zh.format(*match.groups()))
    assert all(one.startswith("lan-3：模型 mtcnn 1.0.0（SHA-256 ") for one in found)
    assert [one.rpartition("）")[2].lstrip("：")[:4] for one in found] == [
        "没有有效",
        "的备案已",
        "备案的是",
    ]
