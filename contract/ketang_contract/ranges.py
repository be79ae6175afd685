"""Sets of sequence numbers as sorted, disjoint, inclusive ranges. Pure; cheap while few ranges."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class RangeSet:
    """Immutable. ``ranges`` is normal: sorted, disjoint, never adjacent, each ``first <= last``."""

    ranges: tuple[Range, ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[Range]) -> "RangeSet":
        """Build from ranges in any order, overlapping or adjacent."""
        merged: list[Range] = []
        for first, last in sorted(ranges):
            if last < first:
                raise ValueError(f"range {first}..{last} runs backwards")
            if merged and first <= merged[-1][1] + 1:
                if last > merged[-1][1]:
                    merged[-1] = (merged[-1][0], last)
            else:
                merged.append((first, last))
        return cls(tuple(merged))

    @classmethod
    def of_numbers(cls, numbers: Iterable[int]) -> "RangeSet":
        """Build from single numbers in any order."""
        ranges: list[Range] = []
        first = last = None
        for number in sorted(numbers):
            if first is None or last is None:
                first = number
            elif number > last + 1:
                ranges.append((first, last))
                first = number
            last = number
        if first is not None and last is not None:
            ranges.append((first, last))
        return cls(tuple(ranges))

    @classmethod
    def span(cls, first: int, last: int) -> "RangeSet":
        """All numbers from first to last; empty when last is before first."""
        return cls(((first, last),)) if first <= last else cls()

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self.ranges, (number, float("inf"))) - 1
        return at >= 0 and self.ranges[at][0] <= number <= self.ranges[at][1]

    def __iter__(self) -> Iterator[int]:
        for first, last in self.ranges:
            yield from range(first, last + 1)

    def __or__(self, other: "RangeSet") -> "RangeSet":
        if len(other.ranges) == 1 and self.ranges:
            return self._with_one(other.ranges[0])
        return RangeSet.of((*self.ranges, *other.ranges))

    def __sub__(self, other: "RangeSet") -> "RangeSet":
        if not self.ranges or not other.ranges:
            return self
        kept: list[Range] = []
        cuts = other.ranges
        for first, last in self.ranges:
            start = first
            at = max(bisect_right(cuts, (first, float("inf"))) - 1, 0)
            while at < len(cuts) and cuts[at][0] <= last:
                cut_first, cut_last = cuts[at]
                if cut_first > start:
                    kept.append((start, cut_first - 1))
                start = max(start, cut_last + 1)
                at += 1
            if start <= last:
                kept.append((start, last))
        return RangeSet(tuple(kept))

    def __and__(self, other: "RangeSet") -> "RangeSet":
        return self - (self - other)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)

    @property
    def first(self) -> int:
        """Smallest number. Raises IndexError on an empty set."""
        return self.ranges[0][0]

    @property
    def last(self) -> int:
        """Largest number. Raises IndexError on an empty set."""
        return self.ranges[-1][1]

    def lowest(self, count: int) -> "RangeSet":
        """The ``count`` smallest numbers, or all there are."""
        taken: list[Range] = []
        for first, last in self.ranges:
            if count <= 0:
                break
            end = min(last, first + count - 1)
            taken.append((first, end))
            count -= end - first + 1
        return RangeSet(tuple(taken))

    def highest(self, count: int) -> "RangeSet":
        """The ``count`` largest numbers, or all there are."""
        taken: list[Range] = []
        for first, last in reversed(self.ranges):
            if count <= 0:
                break
            start = max(first, last - count + 1)
            taken.append((start, last))
            count -= last - start + 1
        return RangeSet(tuple(reversed(taken)))

    def upto(self) -> int:
        """Last number of the part contiguous from 1; 0 when 1 is missing."""
        return self.ranges[0][1] if self.ranges and self.ranges[0][0] == 1 else 0

    def gaps(self) -> "RangeSet":
        """What is missing between the ranges."""
        return RangeSet(tuple((left[1] + 1, right[0] - 1) for left, right in pairwise(self.ranges)))

    def _with_one(self, new: Range) -> "RangeSet":
        first, last = new
        left = bisect_left(self.ranges, (first, first))
        if left and self.ranges[left - 1][1] >= first - 1:
            left -= 1
        right = left
        while right < len(self.ranges) and self.ranges[right][0] <= last + 1:
            first = min(first, self.ranges[right][0])
            last = max(last, self.ranges[right][1])
            right += 1
        return RangeSet((*self.ranges[:left], (first, last), *self.ranges[right:]))


NOTHING = RangeSet()
