"""The strict readers: what was written is read back the same; garbage is refused, with a reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.contract.samples import EXAMPLES, USAGE, bodies, json_values, records, values

from ketang_contract import ack, commands, state, validate
from ketang_contract.batch import SCHEMA
from ketang_contract.errors import NotYet, Refused
from ketang_contract.records import BODIES, stream_of, to_json, to_line

DOCUMENTS = {
    "ack": ack.Ack,
    "birth": state.Birth,
    "death": state.Death,
    "live": state.Live,
    "reported": state.Reported,
    "answer": commands.Answer,
}
anything = st.binary(max_size=200) | json_values.map(json.dumps).map(str.encode)


@given(records)
def test_a_record_read_back_is_the_record_that_was_written(record):
    assert validate.record(to_line(record)) == record


@given(bodies)
def test_every_body_belongs_to_one_stream(body):
    assert type(body) in BODIES
    assert stream_of(body)


@given(anything)
def test_garbage_as_a_record_is_refused_and_nothing_else(garbage):
    with pytest.raises(Refused):
        validate.record(garbage)


@given(anything)
def test_garbage_as_a_header_is_refused_or_not_yet_and_nothing_else(garbage):
    with pytest.raises((Refused, NotYet)):
        validate.header(garbage)


@given(anything, st.sampled_from(list(DOCUMENTS.values())))
def test_garbage_as_a_document_is_refused_and_nothing_else(garbage, kind):
    with pytest.raises(Refused):
        validate.document(kind, garbage)


@given(anything)
def test_garbage_as_an_ack_is_refused_by_the_devices_own_reader_and_nothing_else(garbage):
    try:
        ack.parse(garbage)
    except Refused:
        return
    pytest.fail("garbage was taken for an acknowledgement")


@given(values(ack.Ack).map(to_line), st.data())
def test_the_devices_reader_survives_any_damage_to_a_real_ack(line, data):
    body = json.loads(line)
    key = data.draw(st.sampled_from(sorted(body)))
    body[key] = data.draw(json_values)
    try:
        ack.parse(json.dumps(body).encode())
    except Refused:
        return


def ordered(ranges):
    return all(first <= last for first, last in ranges)


@given(values(ack.Ack).filter(lambda one: ordered(one.have) and ordered(one.fork)))
def test_both_readers_of_an_ack_agree_with_the_writer(made):
    assert ack.parse(to_line(made)) == made
    assert validate.document(ack.Ack, to_line(made)) == made


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_read_back_the_same(name):
    for example in EXAMPLES[name]:
        line = to_line(example)
        if name == "record":
            assert validate.record(line) == example
        elif name == "header":
            assert validate.header(line) == example
        else:
            assert validate.document(DOCUMENTS[name], line) == example


def changed(**fields):
    body = to_json(USAGE)
    body["body"] = {**body["body"], **fields.pop("body", {})}
    return json.dumps({**body, **fields}).encode()


@pytest.mark.parametrize(
    "line",
    [
        changed(extra=1),
        changed(body={"user_name": "x"}),
        changed(body={"active_s": 12.5}),
        changed(body={"active_s": True}),
        changed(body={"active_s": "12"}),
        changed(body={"active_s": 301}),
        changed(body={"active_s": 300, "idle_s": 300}),
        changed(body={"kind": "mood"}),
        changed(subject="UPPER"),
        changed(subject="a.b"),
        changed(subject="abc\n"),
        changed(wall_ms=-1),
        changed(boottime_ms=2**53),
        changed(time="perhaps"),
        b'{"subject":"\\ud800"}',
        b"[" * 4000,
        b"",
        b"NaN",
    ],
)
def test_a_record_outside_the_whitelist_is_refused(line):
    with pytest.raises(Refused):
        validate.record(line)


def test_the_error_names_the_field_and_never_repeats_the_value():
    with pytest.raises(Refused, match="active_s") as caught:
        validate.record(changed(body={"active_s": "secret"}))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("heads", [1, 2, 3, 4])
def test_a_count_of_one_to_four_is_refused_unless_folded_into_few(heads):
    body = {"kind": "occupancy", "window_s": 300, "view": "ok", "scans": 3}
    whole = {**to_json(USAGE), "body": {**body, "median": heads}}
    with pytest.raises(Refused, match="few"):
        validate.record(json.dumps(whole).encode())
    whole["body"]["median"] = "few"
    assert validate.record(json.dumps(whole).encode()).body.median == "few"


def test_a_newer_schema_is_not_yet_and_an_older_one_is_refused():
    body = to_json(EXAMPLES["header"][0])
    with pytest.raises(NotYet):
        validate.header(json.dumps({**body, "schema": SCHEMA + 1, "new": "field"}).encode())
    with pytest.raises(Refused, match="too_old"):
        validate.header(json.dumps({**body, "schema": 0}).encode())


def test_a_document_over_its_cap_is_refused_before_it_is_parsed():
    with pytest.raises(Refused, match="too_large"):
        validate.document(state.Live, b" " * (validate.MAX_DOCUMENT_BYTES + 1))
