"""Topic names: made and read by one rule; a device speaks only under its own name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ketang_contract import topics
from ketang_contract.errors import Refused
from ketang_contract.ids import is_identifier, new_store_id, shard_of
from ketang_contract.records import Stream

devices = st.from_regex(r"[a-z0-9-]{1,36}", fullmatch=True)


@given(devices, st.sampled_from(list(Stream)))
def test_a_batch_topic_reads_back_as_its_device_and_stream(device, stream):
    read = topics.parse(topics.batch(device, stream))
    assert read == topics.Upward(device, topics.BATCH, stream)


@given(devices, st.sampled_from([one for one in topics.CHANNELS if one != topics.BATCH]))
def test_every_upward_topic_reads_back_as_its_device_and_channel(device, channel):
    assert topics.parse(topics.of(device, channel)) == topics.Upward(device, channel)


@given(st.text(max_size=60) | st.from_regex(r"kt/v1/[0-9a-f]{2}/[a-z0-9-]{1,8}/up/.{0,8}"))
def test_any_other_text_is_refused_and_nothing_else(text):
    try:
        read = topics.parse(text)
    except Refused:
        return
    suffix = f"{read.channel}/{read.stream}" if read.stream else read.channel
    assert text == topics.of(read.device, suffix)


@given(devices, devices)
def test_a_device_in_anothers_shard_is_refused(device, other):
    if shard_of(device) != shard_of(other):
        with pytest.raises(Refused, match="wrong_shard"):
            topics.parse(f"{topics.ROOT}/{shard_of(other)}/{device}/{topics.BIRTH}")


@pytest.mark.parametrize(
    "device", ["", "a" * 37, "a.b", "A", "a b", "a+", "#", "a/b", "课堂", "a\n", "a_b"]
)
def test_an_impossible_id_is_no_identifier_and_no_device(device):
    assert not is_identifier(device)
    with pytest.raises(Refused):
        topics.parse(topics.of(device, topics.LIVE))


@pytest.mark.parametrize("channel", ["up/b", "up/b/", "up/b/all", "up/b/use/x", "dn/ack", "up", ""])
def test_a_channel_no_device_publishes_to_is_refused(channel):
    with pytest.raises(Refused, match="bad_topic"):
        topics.parse(topics.of("ifp-1", channel))


def test_a_store_id_is_an_identifier_and_never_the_same():
    made = {new_store_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(map(is_identifier, made))
