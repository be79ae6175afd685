"""In which order a fleet is walked: every kind of device and every school early, none in a row.

Round robin over the kinds, and within a kind over its schools; the rest is a shuffle that depends
on a seed alone, so that a centre that starts again walks on where it was.
"""

import hashlib
from collections import defaultdict, deque
from collections.abc import Iterable

from ketang_center.rollouts.plan import Candidate


def spread(devices: Iterable[Candidate], seed: str) -> list[str]:
    """Return the devices' ids in the order in which they get their turn."""
    kinds: dict[str, dict[str, deque[str]]] = defaultdict(lambda: defaultdict(deque))
    for one in sorted(devices, key=lambda one: _mixed(seed, one.device)):
        kinds[one.kind][one.school].append(one.device)
    walks = deque(
        _Walk(deque(schools[name] for name in sorted(schools, key=lambda one: _mixed(seed, one))))
        for _, schools in sorted(kinds.items(), key=lambda one: _mixed(seed, one[0]))
    )
    found = []
    while walks:
        walk = walks.popleft()
        found.append(walk.take())
        if walk.schools:
            walks.append(walk)
    return found


class _Walk:
    """One kind's devices, a school at a time."""

    def __init__(self, schools: deque[deque[str]]) -> None:
        self.schools = schools

    def take(self) -> str:
        school = self.schools.popleft()
        device = school.popleft()
        if school:
            self.schools.append(school)
        return device


def _mixed(seed: str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{name}".encode()).digest()
