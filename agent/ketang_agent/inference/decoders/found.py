"""What a decoder may give out."""

from dataclasses import dataclass
from typing import Protocol

from ketang_agent.inference.frames import Frame


@dataclass(frozen=True, slots=True)
class Heads:
    """How many heads, and how sure the model was of them, 0 to 1 (1 where it found none)."""

    count: int
    score: float


class Detector(Protocol):
    """A model ready to use."""

    def find(self, frame: Frame) -> Heads:
        """Find heads in one frame."""
        ...
