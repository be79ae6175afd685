"""Composes the demo's film: a classroom that is empty, filled, empty again, with known truth.

The heads are two portraits in the public domain that ship inside packages the demo installs anyway:
Eileen Collins (NASA, ``skimage.data.astronaut``) and Grace Hopper (US Navy, matplotlib's sample
data). Nothing is fetched. The film is 20 minutes long and its parts are as long as a window, so
that, played by the wall clock, every window holds one part and its truth can be told beforehand.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ketang_contract.errors import BadInput

Picture = NDArray[np.uint8]

WIDTH, HEIGHT = 640, 480
FRAME_S = 5
"""Seconds a frame stands: 0.2 frames a second."""
SEGMENT_S = 300
HEADS = (0, 6, 0, 9)
_SEATED_S = 60
"""After a minute everybody sits elsewhere."""
_SEED = 20260901
_COLUMNS, _ROWS = 4, 3
_CODEC = "mp4v"
_FILM, _TRUTH = "classroom.mp4", "classroom.truth.json"


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the film and how many heads are in it throughout."""

    from_s: int
    until_s: int
    heads: int


@dataclass(frozen=True, slots=True)
class Clip:
    """A film and what is in it."""

    path: Path
    segments: tuple[Segment, ...]

    @property
    def length_s(self) -> int:
        """Seconds until it starts again."""
        return self.segments[-1].until_s

    def heads_at(self, wall_ms: int) -> int:
        """Say how many heads a film that loops by the wall clock shows at a moment."""
        at_s = wall_ms // 1000 % self.length_s
        return next(one.heads for one in self.segments if one.from_s <= at_s < one.until_s)


def compose(folder: Path) -> Clip:
    """Write film and truth into a folder, or find them there whole.

    Raises:
        BadInput: this OpenCV writes no such film.
        OSError: the folder cannot be written.
    """
    segments = tuple(
        Segment(at * SEGMENT_S, (at + 1) * SEGMENT_S, heads) for at, heads in enumerate(HEADS)
    )
    clip = Clip(folder / _FILM, segments)
    if not _is_whole(clip, folder / _TRUTH):
        folder.mkdir(parents=True, exist_ok=True)
        # the truth comes last: without it the film counts as unfinished
        (folder / _TRUTH).unlink(missing_ok=True)
        _write(clip)
        (folder / _TRUTH).write_text(json.dumps(_truth(clip), indent=1) + "\n", "utf-8")
    return clip


def read_truth(path: Path) -> tuple[Segment, ...]:
    """Read the truth beside a film.

    Raises:
        OSError, ValueError, TypeError, KeyError: it is not there, or not ours.
    """
    return tuple(Segment(**one) for one in json.loads(path.read_text("utf-8"))["segments"])


def _is_whole(clip: Clip, truth: Path) -> bool:
    try:
        return bool(json.loads(truth.read_text("utf-8")) == _truth(clip))
    except (OSError, ValueError):
        return False


def _truth(clip: Clip) -> dict[str, Any]:
    return {
        "film": clip.path.name,
        "film_sha256": hashlib.sha256(clip.path.read_bytes()).hexdigest(),
        "segments": [asdict(one) for one in clip.segments],
    }


def _write(clip: Clip) -> None:
    film = cv2.VideoWriter(
        str(clip.path),
        cv2.CAP_FFMPEG,
        cv2.VideoWriter.fourcc(*_CODEC),
        1 / FRAME_S,
        (WIDTH, HEIGHT),
    )
    if not film.isOpened():
        raise BadInput(f"{clip.path}: this OpenCV writes no {_CODEC} film")
    try:
        for frame in _frames(clip.segments):
            film.write(frame)
    finally:
        film.release()


def _frames(segments: tuple[Segment, ...]) -> Iterator[Picture]:
    chance = random.Random(_SEED)
    room, people = _room(), _portraits()
    for segment in segments:
        for _ in range(segment.from_s, segment.until_s, _SEATED_S):
            frame = _seated(room, people, segment.heads, chance)
            for _ in range(_SEATED_S // FRAME_S):
                yield frame


def _portraits() -> list[Picture]:
    """Cut head and shoulders out of both portraits, blue-green-red, square."""
    from matplotlib import cbook
    from skimage import data

    astronaut: Callable[[], Picture] = data.astronaut
    collins = astronaut()[:, :, ::-1]
    path = Path(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    raw = np.frombuffer(path.read_bytes(), np.uint8)
    hopper = np.asarray(cv2.imdecode(raw, cv2.IMREAD_COLOR), np.uint8)
    return [_square(collins, 100, 0, 250), _square(hopper, 110, 20, 300)]


def _square(picture: Picture, left: int, top: int, side: int) -> Picture:
    return np.ascontiguousarray(picture[top : top + side, left : left + side])


def _room() -> Picture:
    """Draw a wall that darkens to the floor, a board, a window and rows of desks."""
    shade = np.linspace(215, 150, HEIGHT)[:, None, None]
    room = np.asarray(np.broadcast_to(shade, (HEIGHT, WIDTH, 3)), np.uint8).copy()
    cv2.rectangle(room, (150, 20), (490, 120), (60, 85, 45), -1)
    cv2.rectangle(room, (150, 20), (490, 120), (60, 110, 160), 4)
    cv2.rectangle(room, (20, 30), (110, 150), (240, 225, 200), -1)
    cv2.line(room, (65, 30), (65, 150), (150, 150, 150), 3)
    for top in (190, 290, 390):
        for left in (30, 190, 350, 510):
            cv2.rectangle(room, (left, top), (left + 110, top + 12), (70, 120, 165), -1)
            for leg in (left + 8, left + 100):
                cv2.line(room, (leg, top + 12), (leg, top + 60), (60, 70, 80), 3)
    return room


def _seated(room: Picture, people: list[Picture], heads: int, chance: random.Random) -> Picture:
    """Put so many people into cells of a grid, each of another size, side and brightness."""
    frame = room.copy()
    cells = [(column, row) for row in range(_ROWS) for column in range(_COLUMNS)]
    for column, row in chance.sample(cells, heads):
        side = chance.randint(110, 145)
        left = column * (WIDTH // _COLUMNS) + chance.randint(0, WIDTH // _COLUMNS - side)
        top = row * (HEIGHT // _ROWS) + chance.randint(0, HEIGHT // _ROWS - side)
        person = cv2.resize(chance.choice(people), (side, side), interpolation=cv2.INTER_AREA)
        if chance.random() < 0.5:  # noqa: PLR2004  (one in two looks the other way)
            person = cv2.flip(person, 1)
        light = chance.uniform(0.8, 1.1)
        frame[top : top + side, left : left + side] = cv2.convertScaleAbs(person, alpha=light)
    return frame
