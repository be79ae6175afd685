"""Both languages say everything, and every value has a word."""

import re
from pathlib import Path

import pytest

from ketang_center.metrics.figures import DayState, rate
from ketang_center.metrics.windows import State
from ketang_center.registry.values import Kind, Level
from ketang_center.states import Connection, Freshness, Why
from ketang_center.web import pages, shape
from ketang_center.web.text import LANGUAGES, choose, words
from ketang_contract.records import (
    EventName,
    Family,
    Fault,
    Ipv4Address,
    Ipv6Address,
    LinkKind,
    Stream,
)

TEMPLATES = Path(pages.__file__).parent / "templates"
ENUMS = {
    "state": State,
    "day_state": DayState,
    "connection": Connection,
    "freshness": Freshness,
    "use.why": Why,
    "kind": Kind,
    "level": Level,
    "event": EventName,
    "reason": Fault,
    "ledger.streams": Stream,
}


def test_both_languages_hold_the_same_keys_with_the_same_places_for_values():
    zh, en = (words(lang).by_key for lang in LANGUAGES)
    assert zh.keys() == en.keys()
    for key in zh:
        assert set(re.findall(r"{\w+}", zh[key])) == set(re.findall(r"{\w+}", en[key])), key


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_value_a_page_may_show_has_a_word(lang):
    keys = words(lang).by_key
    for prefix, enum in ENUMS.items():
        assert [
            f"{prefix}.{one.value}" for one in enum if f"{prefix}.{one.value}" not in keys
        ] == []
    for enum in (LinkKind, Ipv4Address, Ipv6Address, Family):
        assert all(f"word.{one.value}" in keys for one in enum)
    for name in pages.DEFINITIONS:
        assert {f"define.{name}.name", f"define.{name}.text"} <= keys.keys()
    assert all(f"facts.{key}" in keys for key, _ in pages.FACTS)


def test_every_key_a_template_names_is_there_and_no_template_speaks_for_itself():
    keys = words("zh").by_key
    for page in TEMPLATES.glob("*.html"):
        text = page.read_text("utf-8")
        for key in re.findall(r"t\('([a-z_.]+)'[,)]", text):
            assert key in keys, (page.name, key)
        bare = re.sub(r"{%.*?%}|{{.*?}}|<[^>]*>", "", text, flags=re.DOTALL)
        assert not re.search(r"[\u4e00-\u9fff]", bare.replace("中文", "")), page.name


def test_definitions_linked_from_pages_exist():
    for page in TEMPLATES.glob("*.html"):
        for name in re.findall(r"parts\.definition\(t, '(\w+)'\)", page.read_text("utf-8")):
            assert name in pages.DEFINITIONS
    assert all(state.value in pages.DEFINITIONS for state in DayState)


def test_the_language_is_the_one_asked_for_then_kept_then_accepted_then_chinese():
    assert choose("en", "zh", "zh") == "en"
    assert choose("xx", "en", "zh") == "en"
    assert choose(None, None, "fr, en-GB;q=0.9, zh;q=0.1") == "en"
    assert choose(None, None, "fr") == "zh"


def test_a_rate_is_written_as_the_metrics_page_writes_it():
    t = words("en")
    assert shape.rate(rate(48, 80, 100), t) == "48–68%"
    assert shape.rate(rate(48, 79, 100), t) == "insufficient data"
    assert shape.rate(rate(1, 2, 2), t) == "50%"
    assert shape.rate(None, t) == "—"
    assert shape.percent(0.999) == "99%", "what is not complete never reads 100 %"


def test_heads_are_never_a_small_number_and_unknown_is_a_word():
    t = words("en")
    assert [shape.heads(one, t) for one in (None, 0, "few", 5)] == ["unknown", "0", "<5", "5"]
