import os

import pytest

from ketang_agent.inference.plan import plan_of
from ketang_agent.inference.sources import Source, SourceKind, source_of
from ketang_contract.errors import BadInput


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "12",
        "/dev/video0",
        "/dev/null",
        "http://192.168.1.20/video",
        "rtsp://camera.school.example/stream",
        "rtsp://127.0.0.1.evil.example/",
        "http://localhost@10.0.0.1/",
        "v4l2:///dev/video0",
        "file:///etc/passwd",
        "udp://127.0.0.1:5000",
        "HTTPS://127.0.0.1/",
    ],
)
def test_a_camera_or_another_machine_is_refused_in_one_clear_line(text):
    with pytest.raises(BadInput) as caught:
        source_of(text)
    said = str(caught.value)
    assert "\n" not in said
    assert "no live camera until signed grants exist" in said or "no user name" in said


@pytest.mark.parametrize(
    "text",
    ["http://127.0.0.1:8080/a.mjpg", "rtsp://[::1]/x", "http://localhost/", "RTSP://LOCALHOST/1"],
)
def test_a_stream_on_this_machine_is_taken(text):
    assert source_of(text) == Source(SourceKind.STREAM, text)


@pytest.mark.parametrize("text", ["http://u:p@127.0.0.1/", "rtsp://u@localhost/"])
def test_a_password_in_an_address_is_refused_and_not_repeated(text):
    with pytest.raises(BadInput, match="no user name or password") as caught:
        source_of(text)
    assert text not in str(caught.value)


@pytest.mark.parametrize("text", ["", "a\nb", "http://127.0.0.1/\x00", "x" * 2000])
def test_what_is_no_text_for_a_path_is_refused(text):
    with pytest.raises(BadInput, match="printable"):
        source_of(text)


@pytest.mark.parametrize("text", ["http://127.0.0.1:99999/", "http://[::1/"])
def test_an_address_that_is_none_is_refused(text):
    with pytest.raises(BadInput):
        source_of(text)


def test_files_and_folders_are_told_apart(tmp_path):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"x")
    assert source_of(str(film)) == Source(SourceKind.FILE, str(film))
    assert source_of(str(tmp_path)).kind is SourceKind.FOLDER


def test_a_link_to_a_device_is_the_device(tmp_path):
    link = tmp_path / "film.mp4"
    link.symlink_to("/dev/null")
    with pytest.raises(BadInput, match="no live camera"):
        source_of(str(link))


def test_a_named_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "film.mp4")
    with pytest.raises(BadInput, match="no live camera"):
        source_of(str(tmp_path / "film.mp4"))


def test_what_is_not_there_is_said_so(tmp_path):
    with pytest.raises(BadInput, match="No such file"):
        source_of(str(tmp_path / "film.mp4"))


def test_a_plan_takes_a_shipped_model_and_a_sane_interval(tmp_path):
    plan = plan_of(str(tmp_path), "mtcnn", 10)
    assert (plan.model, plan.scan_s, plan.source.kind) == ("mtcnn", 10, SourceKind.FOLDER)


@pytest.mark.parametrize("scan_s", [0, -1, 301, True, 2.5])
def test_an_interval_out_of_range_is_refused(tmp_path, scan_s):
    with pytest.raises(BadInput, match="scan_s"):
        plan_of(str(tmp_path), "mtcnn", scan_s)


def test_an_interval_that_does_not_divide_an_hour_is_refused(tmp_path):
    assert plan_of(str(tmp_path), "mtcnn", 10, every_s=1800).every_s == 1800
    with pytest.raises(BadInput, match="every_s"):
        plan_of(str(tmp_path), "mtcnn", 10, every_s=1000)


def test_an_unknown_model_is_refused_in_one_line(tmp_path):
    with pytest.raises(BadInput, match=r"model: no model named 'yolo'; there are: mtcnn"):
        plan_of(str(tmp_path), "yolo", 10)
