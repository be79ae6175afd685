"""A centre's settings, and what is said when they are wrong."""

import pytest

from ketang_center import settings
from ketang_contract.errors import BadInput

GOOD = """
data_dir = "data"
broker_host = "127.0.0.1"
broker_port = 8884
ca = "ca.pem"
certificate = "center.pem"
key = "center.key"
"""


def written(folder, text):
    path = folder / "center.toml"
    path.write_text(text, "utf-8")
    return path


def test_paths_are_relative_to_the_file_and_the_rest_has_defaults(tmp_path):
    one = settings.read(written(tmp_path, GOOD))
    assert one.data_dir == tmp_path / "data"
    assert one.ear.ca_file == tmp_path / "ca.pem"
    assert (one.ear.port, one.web_host, one.web_port) == (8884, "127.0.0.1", 8080)
    assert not one.demo


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ("broker_port = 8884", "broker_port = 0", "broker_port: 0 is not accepted"),
        ("broker_port = 8884", "broker_prt = 8884", "did you mean 'broker_port'"),
        ('data_dir = "data"', "", "data_dir: missing"),
        ('key = "center.key"', "key = 7", "key: 7 is not accepted; accepted: text in quotes"),
        ("broker_port = 8884", "demo = 1", "demo: 1 is not accepted; accepted: true or false"),
    ],
)
def test_each_mistake_is_told_in_one_line(tmp_path, was, now, told):
    with pytest.raises(BadInput) as caught:
        settings.read(written(tmp_path, GOOD.replace(was, now)))
    assert told in str(caught.value)
    assert "center.toml" in str(caught.value)
    assert "\n" not in str(caught.value)
