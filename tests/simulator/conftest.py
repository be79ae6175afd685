"""A folder in memory for each world, and at the end what the session's searches reached."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.simulator.reached import REACHED


@pytest.fixture
def folder():
    """Give a folder whose syncs cost nothing, where the machine has one: power is simulated."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield Path(made)


def pytest_terminal_summary(terminalreporter):
    if REACHED["runs"]:
        told = ", ".join(f"{name} {count}" for name, count in sorted(REACHED.items()))
        terminalreporter.write_line(f"simulator reached: {told}")
