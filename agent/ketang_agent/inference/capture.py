"""Frames out of a source, one at a time, each with a deadline; nothing is kept open in between.

A file plays by the wall clock and starts again at its end: the frame at hand depends on the time
alone, so what a window should hold can be told beforehand. A folder gives its pictures in turn. A
stream is opened for one frame and closed again, so that no source is held between scans.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from ketang_agent.clock import Instant
from ketang_agent.inference.frames import Frame
from ketang_agent.inference.sources import Source, SourceKind

_DEADLINE_MS = 5_000
"""For opening, and for reading: both together stay under the supervisor's patience."""
_PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})
_MOST_PICTURE_BYTES = 32 << 20
_MOST_SIDE_PX = 8192
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# A file must not be a playlist that leads to the network, nor a stream one that leads to files.
_PROTOCOLS = {
    SourceKind.FILE: "protocol_whitelist;file|threads;1",
    SourceKind.STREAM: (
        "protocol_whitelist;tcp,udp,rtp,rtsp,http|rtsp_transport;tcp|threads;1|"
        "analyzeduration;500000"
    ),
}


class NoFrame(OSError):
    """The source gave nothing this time. Caller: say so, try again at the next scan."""


class Capture(Protocol):
    """Where frames come from."""

    def frame(self, now: Instant) -> Frame:
        """Return the frame of this moment: height × width × 3, blue-green-red.

        Raises:
            NoFrame: there is none.
        """
        ...


def capture_of(source: Source) -> Capture:
    """Make the capture for a source; nothing is opened yet."""
    if source.kind is SourceKind.FOLDER:
        return _Pictures(Path(source.where))
    return _Video(source)


@dataclass(frozen=True, slots=True)
class _Video:
    source: Source

    def frame(self, now: Instant) -> Frame:
        os.environ[_OPTIONS] = _PROTOCOLS[self.source.kind]
        video = cv2.VideoCapture(
            self.source.where,
            cv2.CAP_FFMPEG,
            [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                _DEADLINE_MS,
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                _DEADLINE_MS,
                cv2.CAP_PROP_N_THREADS,
                1,
            ],
        )
        try:
            if not video.isOpened():
                raise NoFrame("cannot be opened")
            if self.source.kind is SourceKind.FILE:
                self._wind(video, now)
            _, frame = video.read()
        finally:
            video.release()
        return _checked(frame)

    @staticmethod
    def _wind(video: cv2.VideoCapture, now: Instant) -> None:
        """Go to the frame that a film, looped since 1970, would show now."""
        frames = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        per_s = float(video.get(cv2.CAP_PROP_FPS))
        if frames > 1 and per_s > 0:
            video.set(cv2.CAP_PROP_POS_FRAMES, int(now.wall_ms / 1000 * per_s) % frames)


@dataclass(slots=True)
class _Pictures:
    folder: Path
    turn: int = 0

    def frame(self, now: Instant) -> Frame:  # noqa: ARG002  (turns go by scans, not by time)
        try:
            raw = self._next()
        except NoFrame:
            raise
        except OSError as problem:
            raise NoFrame("cannot be read") from problem
        if not 0 < len(raw) <= _MOST_PICTURE_BYTES:
            raise NoFrame("an empty or too large picture")
        return _checked(cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR))

    def _next(self) -> bytes:
        names = sorted(each for each in self.folder.iterdir() if each.suffix.lower() in _PICTURES)
        if not names:
            raise NoFrame("no picture in the folder")
        path = names[self.turn % len(names)]
        self.turn += 1
        # opened without waiting: what is named like a picture may be a pipe
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(_MOST_PICTURE_BYTES + 1)


def _checked(frame: object) -> Frame:
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.size == 0:  # noqa: PLR2004
        raise NoFrame("nothing that can be decoded")
    if max(frame.shape[:2]) > _MOST_SIDE_PX:
        raise NoFrame("a picture that is too large")
    return np.asarray(frame, np.uint8)
