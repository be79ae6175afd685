"""``agent.toml``: what it may say, and one line for what it may not."""

import pytest

from ketang_agent import settings
from ketang_contract.errors import BadInput

LEAST = """device = "panel-1"
center_id = "center-1"
profile = "ifp"
data_dir = "data"
broker_host = "broker.example"
ca = "ca.pem"
certificate = "device.pem"
key = "device.key"
"""


def read(tmp_path, more=""):
    file = tmp_path / "agent.toml"
    file.write_text(LEAST + more, encoding="utf-8")
    return settings.read(file)


def test_the_least_that_is_needed_has_defaults_for_the_rest(tmp_path):
    said = read(tmp_path)
    assert (said.local_port, said.log_level, said.broker.port) == (8765, "info", 8883)
    assert said.occupancy is None
    assert said.data_dir == tmp_path / "data"


def test_the_counting_table_is_read_with_its_defaults(tmp_path):
    said = read(tmp_path, '[occupancy]\nsource = "clip.mp4"\n').occupancy
    assert said == settings.OccupancySettings(
        source=str(tmp_path / "clip.mp4"), model="mtcnn", scan_s=10
    )


def test_a_stream_stays_the_address_it_is(tmp_path):
    said = read(tmp_path, '[occupancy]\nsource = "rtsp://127.0.0.1/room"\nscan_s = 30\n').occupancy
    assert (said.source, said.scan_s) == ("rtsp://127.0.0.1/room", 30)


def test_a_cameras_number_is_left_as_it_is_so_that_it_is_refused_by_name(tmp_path):
    assert read(tmp_path, '[occupancy]\nsource = "0"\n').occupancy.source == "0"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("local_port = -1", "local_port: -1 is not accepted; accepted: a whole number from 0"),
        ("local_port = true", "local_port: true is not accepted"),
        ('log_level = "loud"', "log_level: 'loud' is unknown; accepted: debug, info"),
        ('contact = ""', "contact: '' is not accepted; accepted: text in quotes"),
        ('contact = "a\\nb"', "contact: .* in one line"),
        ('occupancy = "clip.mp4"', r"occupancy: 'clip.mp4' is not accepted; accepted: a table"),
        ("[occupancy]\nscan_s = 10", "occupancy.source: missing"),
        ('[occupancy]\nsource = "a"\nscan_s = 0', "occupancy.scan_s: 0 is not accepted"),
        ('[occupancy]\nsource = "a"\ncolour = 1', "occupancy.colour: unknown key; accepted: so"),
        ('[occupancy]\nsource = "a"\nmodel = "../x"', "occupancy.model: '../x' is not accepted"),
        ("colour = 1", "colour: unknown key"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_and_key(tmp_path, more, says):
    with pytest.raises(BadInput, match=says) as caught:
        read(tmp_path, more)
    assert str(tmp_path / "agent.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["a..b", ".example", "x" * 64 + ".example"])
def test_a_brokers_name_that_no_resolver_takes_is_refused(tmp_path, host):
    file = tmp_path / "agent.toml"
    file.write_text(LEAST.replace("broker.example", host), encoding="utf-8")
    with pytest.raises(BadInput, match=r"broker_host: .* is no host name"):
        settings.read(file)
