import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ketang_agent.inference.aggregate import Look, summed
from ketang_agent.inference.protocol import (
    VIEWS,
    Beat,
    Garbled,
    Stage,
    beat_line,
    occupancy_line,
    parse,
)
from ketang_contract.records import View

WINDOW = {
    "kind": "occupancy",
    "window_s": 300,
    "view": "ok",
    "scans": 3,
    "median": "few",
    "p90": 7,
    "confidence_pct": 98,
}
looks = st.lists(
    st.builds(
        Look,
        st.sampled_from(sorted(VIEWS)),
        st.integers(0, 900),
        st.none() | st.floats(0, 1),
    ),
    min_size=1,
    max_size=300,
)


def line(**changes):
    said = {**WINDOW, **changes}
    return json.dumps({key: value for key, value in said.items() if value != "-"}).encode()


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("view", [None, *sorted(VIEWS)])
def test_a_beat_arrives_as_it_was_sent(stage, view):
    assert parse(beat_line(Beat(stage, view)).rstrip(b"\n")) == Beat(stage, view)


@given(looks, st.integers(10, 300))
def test_every_window_a_worker_can_make_arrives_as_it_was_sent(some, window_s):
    made = summed(some, window_s)
    assert parse(occupancy_line(made).rstrip(b"\n")) == made


@pytest.mark.parametrize(
    "raw",
    [
        line(frame="iVBORw0KGgo"),
        line(motion=3),
        line(subject="room-1"),
        line(median=3),
        line(p90=4),
        line(median=501),
        line(median=-1),
        line(median=True),
        line(median="many"),
        line(median=5.5),
        line(median="-"),
        line(median="-", p90="-"),
        line(median="-", p90="-", scans=0, confidence_pct=3, view="dark"),
        line(view="dark"),
        line(view="ok", scans=0),
        line(view="dark", median="-", p90="-", confidence_pct="-"),
        line(view="angry"),
        line(view="-"),
        line(window_s="-"),
        line(window_s=301),
        line(scans=301),
        line(confidence_pct=101),
        line(kind="usage"),
        line(kind="-"),
        b'{"kind":"beat","stage":"rest","x":1}',
        b'{"kind":"beat"}',
        b'{"kind":"beat","stage":"rest","stage":"rest"}',
        b'{"kind":"beat","stage":"rest","view":null}',
        b'{"kind":["beat"],"stage":"rest"}',
        b'{"kind":"occupancy","window_s":NaN,"view":"dark"}',
        b'["beat"]',
        b"beat",
        b"",
        b"\xff\xd8\xff\xe0",
        b"[" * 250,
        b'{"kind":"beat","stage":"rest"}' + b" " * 300,
    ],
)
def test_any_other_line_is_refused(raw):
    with pytest.raises(Garbled):
        parse(raw)


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_be_refused(raw):
    with pytest.raises(Garbled):
        parse(raw)


def test_a_refusal_does_not_quote_what_it_refuses():
    with pytest.raises(Garbled) as caught:
        parse(line(view="c2VjcmV0"))
    assert "c2VjcmV0" not in str(caught.value)


def test_a_view_without_a_count_says_nothing_else():
    made = parse(b'{"kind":"occupancy","window_s":300,"view":"no_source"}')
    assert (made.view, made.median, made.scans) == (View.NO_SOURCE, None, 0)
