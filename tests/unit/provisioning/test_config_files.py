"""A configuration as a person writes it: read strictly, written back, every mistake in one line."""

import dataclasses

import pytest
from hypothesis import given, settings
from pydantic import TypeAdapter
from tests.unit.provisioning.config_samples import configs, spans

from ketang_contract.config import DIRECTIONS, Apply, Config, ModelChoice
from ketang_contract.errors import BadInput
from ketang_contract.records import Category
from ketang_contract.tables import Table
from ketang_provisioning.config_files import accepted, parse_config, read_config, write_config
from ketang_provisioning.config_spans import read_spans, write_spans


def read(tmp_path, text):
    file = tmp_path / "a.toml"
    file.write_text(text, "utf-8")
    return read_config(file)


@given(config=configs)
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read_as_the_same(config):
    import tomllib

    assert TypeAdapter(Config).validate_python(config) == config
    assert parse_config(Table("a.toml", "", tomllib.loads(write_config(config)))) == config


@given(one=spans)
def test_spans_that_are_written_are_read_as_the_same(one):
    assert read_spans(write_spans(one)) == one


def test_a_person_writes_hours_as_days_and_times(tmp_path):
    made = read(
        tmp_path,
        'hours = ["mon-fri 08:00-11:40 13:30-17:30", "sat,sun 8:00-12:00"]\n'
        'breaks = ["fri-mon 23:00-24:00"]\n',
    )
    assert made.hours[:3] == ((0, 480, 700), (0, 810, 1050), (1, 480, 700))
    assert made.hours[-1] == (6, 480, 720)
    assert [day for day, _, _ in made.breaks] == [0, 4, 5, 6]
    assert write_spans(made.hours) == ["mon-fri 08:00-11:40 13:30-17:30", "sat-sun 08:00-12:00"]


def test_all_a_layer_may_say_is_read(tmp_path):
    made = read(
        tmp_path,
        'usage_s = 0\napply = "break"\ncategories = ["office", "media"]\ninference = true\n'
        'hours = []\n[foreground]\n"vlc.exe" = "media"\nfirefox = "browser"\n'
        f'[model]\nname = "mtcnn"\nversion = "1.0"\nsha256 = "{"a" * 64}"\n',
    )
    assert made == Config(
        usage_s=0,
        apply=Apply.BREAK,
        categories=(Category.MEDIA, Category.OFFICE),
        inference=True,
        hours=(),
        foreground=(("firefox", Category.BROWSER), ("vlc.exe", Category.MEDIA)),
        model=ModelChoice(name="mtcnn", version="1.0", sha256="a" * 64),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("usage = 30", "usage: unknown key; did you mean 'usage_s'?"),
        ("usage_s = 5", "usage_s: 5 is not accepted; accepted: 0 (off), or a whole number from 10"),
        ("usage_s = true", "usage_s: true is not accepted; accepted: 0 (off), or a whole"),
        ("usage_s = 30.0", "usage_s: 30.0 is not accepted"),
        ("usage_s = 2026-01-01", "usage_s: datetime.date(2026, 1, 1) is not accepted"),
        ("scan_s = 0", "scan_s: 0 is not accepted; accepted: a whole number from 1 to 300"),
        ("schema = 2", "schema: 2 is not accepted; accepted: 1"),
        ('inference = "yes"', "inference: 'yes' is not accepted; accepted: true or false"),
        ('apply = "braek"', "apply: 'braek' is unknown; did you mean 'break'?"),
        ('log_level = "warn"', "log_level: 'warn' is unknown; did you mean 'warning'?"),
        ('min_agent = "new"', "min_agent: 'new' is not accepted; accepted: a version such as"),
        ('categories = ["medai"]', "categories: 'medai' is unknown; did you mean 'media'?"),
        ('hours = "mon 08:00-09:00"', "hours: 'mon 08:00-09:00' is not accepted; accepted: a list"),
        ('hours = ["mon"]', "hours: 'mon' is not accepted; accepted: days, then times"),
        ('hours = ["mo-fri 08:00-09:00"]', "hours: 'mo' is no day; accepted: mon, tue"),
        ('hours = ["mon 22:00-06:00"]', "hours: '22:00-06:00' ends before it begins"),
        ('hours = ["mon 22:00-24:01"]', "hours: '22:00-24:01' is no time of the day"),
        ('hours = ["mon 8-9"]', "hours: '8-9' is no time of the day; accepted: e.g."),
        ("[foreground]\nvlc.exe = 'media'", "foreground.vlc: a name with a dot stands in quotes"),
        ("[foreground]\nVLC = 'media'", 'foreground.VLC: in lower case: "vlc"'),
        ("[foreground]\nvlc = 'film'", "foreground.vlc: 'film' is unknown; accepted: platform"),
        ("[foreground]\n'a/b' = 'media'", "foreground.a/b: is no base name of a program"),
        ("foreground = 3", "foreground: 3 is not accepted; accepted: a table [foreground]"),
        ("[model]\nname = 'a'", "model.version: missing; accepted: text of the form"),
        ("[model]\nname='a'\nversion='1'\nsha256='b'", "model.sha256: 'b' is not accepted"),
        ("[model]\nnmae='a'", "model.nmae: unknown key; did you mean 'name'?"),
        ("[agent]\nversion='1.2'\nsha256='b'", "agent.version: '1.2' is not accepted"),
        ("agent = '1.2.0'", "agent: '1.2.0' is not accepted; accepted: a table [agent]"),
        ("usage_s = ", "not TOML"),
    ],
)
def test_a_mistake_is_one_line_with_file_key_and_what_is_accepted(tmp_path, text, said):
    with pytest.raises(BadInput) as caught:
        read(tmp_path, text)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{tmp_path / 'a.toml'}: {said}")


def test_too_many_spans_are_refused_by_the_contracts_own_cap(tmp_path):
    times = " ".join(f"{at:02}:00-{at:02}:30" for at in range(24))
    with pytest.raises(BadInput, match=r"hours: a list is not accepted; accepted: .* at most 64"):
        read(tmp_path, f'hours = ["mon-wed {times}"]')


def test_every_field_tells_what_it_accepts():
    for name in DIRECTIONS:
        assert accepted(name) or name in {"model", "agent"}
    assert {one.name for one in dataclasses.fields(Config)} == set(DIRECTIONS)
