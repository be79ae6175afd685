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


OIDC = """
[oidc]
issuer = "https://login.example.edu"
client_id = "ketang"
client_secret_file = "secret"
label = "Region sign-in"
"""
TLS = 'web_certificate = "web.pem"\nweb_key = "web.key"\n'


def test_a_console_others_can_reach_needs_a_certificate_and_is_no_demo(tmp_path):
    for host in ("0.0.0.0", "::", "192.0.2.1", "console.example"):  # noqa: S104
        with pytest.raises(BadInput, match=r"web_host.*web_certificate and web_key are needed"):
            settings.read(written(tmp_path, f'{GOOD}web_host = "{host}"\n'))
        one = settings.read(written(tmp_path, f'{GOOD}web_host = "{host}"\n{TLS}'))
        assert (one.web_certificate, one.web_key) == (tmp_path / "web.pem", tmp_path / "web.key")
        with pytest.raises(BadInput, match="demo: nobody logs in to a demo"):
            settings.read(written(tmp_path, f'{GOOD}web_host = "{host}"\n{TLS}demo = true\n'))
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        one = settings.read(written(tmp_path, f'{GOOD}web_host = "{host}"\ndemo = true\n'))
        assert one.web_certificate is None


def test_a_certificate_without_its_key_is_told(tmp_path):
    for line, lacking in zip(TLS.splitlines(), ("web_key", "web_certificate"), strict=True):
        with pytest.raises(BadInput, match=f"{lacking}: missing"):
            settings.read(written(tmp_path, f"{GOOD}{line}\n"))


def test_a_provider_is_read_and_must_be_reached_safely(tmp_path):
    assert settings.read(written(tmp_path, GOOD)).oidc is None
    one = settings.read(written(tmp_path, GOOD + OIDC)).oidc
    assert (one.issuer, one.client_secret_file) == (
        "https://login.example.edu",
        tmp_path / "secret",
    )
    inside = OIDC.replace("https://login.example.edu", "http://127.0.0.1:9400")
    assert settings.read(written(tmp_path, GOOD + inside)).oidc.issuer == "http://127.0.0.1:9400"
    for wrong in ("http://login.example.edu", "login.example.edu", "file:///etc/passwd"):
        with pytest.raises(BadInput, match=r"oidc\.issuer"):
            settings.read(
                written(tmp_path, GOOD + OIDC.replace("https://login.example.edu", wrong))
            )


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
