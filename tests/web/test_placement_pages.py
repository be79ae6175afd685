"""Signed placements in the console: a whole region's at once, and what is told when it fails."""

import json
import sqlite3
import tracemalloc
from dataclasses import replace

import pytest

from ketang_center.rollouts import taking
from ketang_center.rollouts.book import RolloutBook
from ketang_center.web import gate
from ketang_center.web.app import create_app
from tests.configs import Signers
from tests.web.browsing import visiting
from tests.web.enrolled import region
from tests.web.rolled import rolled

pytestmark = pytest.mark.anyio
ALL = 26
"""Devices of the seeded region."""
BEFORE_BYTES = 32 << 20
"""What the console took at most before: 28,000 placements."""
MOST_HELD_BYTES = 16 << 20


@pytest.fixture
def world(tmp_path):
    with rolled(tmp_path) as made:
        yield made


async def multipart(token, lines, edge="edge"):
    """A form with a file, made as it is sent."""
    head = (
        f'--{edge}\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n{token}\r\n'
        f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="placed.jsonl"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    )
    yield head.encode()
    for line in lines:
        yield line + b"\n"
    yield f"\r\n--{edge}--\r\n".encode()


async def test_a_file_of_tens_of_thousands_is_taken_and_is_never_held_in_memory(world):
    made = world.placements()
    long = b"x" * (1 << 20)
    lines = [*made[:20], *([long] * (BEFORE_BYTES >> 20)), long, *made[20:]]
    assert sum(map(len, lines)) > BEFORE_BYTES
    assert gate.LARGER["/rollouts/placements"] > 50_000 * 1300, "the region's fleet, twice signed"
    async with visiting(create_app(world.context), "publisher") as person:
        token = await person.token("/definitions")
        headers = {"Content-Type": "multipart/form-data; boundary=edge"}
        tracemalloc.start()
        try:
            answer = await person.http.post(
                "/rollouts/placements", content=multipart(token, lines), headers=headers
            )
            _, most_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert answer.status_code == 400
    assert f"Not taken in: {(BEFORE_BYTES >> 20) + 1}; taken in: {ALL}." in answer.text
    assert most_bytes < MOST_HELD_BYTES
    with RolloutBook(world.folder / "rollouts.db") as book:
        assert len(book.all_placed()) == ALL


async def test_a_disk_that_is_full_is_told_with_what_was_taken_until_then(world, monkeypatch):
    monkeypatch.setattr(taking, "LOT", 10)
    signed = b"\n".join(world.placements())
    place, left = RolloutBook.place, 15

    def failing(book, one):
        nonlocal left
        left -= 1
        if left < 0:
            raise sqlite3.OperationalError("database or disk is full")
        place(book, one)

    app = create_app(world.context)
    async with visiting(app, "publisher") as person:
        with monkeypatch.context() as patch:
            patch.setattr(RolloutBook, "place", failing)
            answer = await person.upload("/rollouts/placements", signed)
        assert answer.status_code == 400
        assert "Taken in until then: 10; they stay." in answer.text
        answer = await person.upload("/rollouts/placements", signed)
        assert answer.headers["location"] == f"/rollouts/placements?taken={ALL - 10}&same=10"


async def test_a_placement_signed_with_keys_of_before_is_listed_as_in_the_command_line(world):
    world.place()
    _, document = Signers(region()).add_key("", "third", epoch=2)
    path = world.folder / "trust.json"
    path.write_bytes(document)
    context = replace(world.context, enrolment=replace(world.context.enrolment, trust=path))
    async with visiting(create_app(context), "publisher") as person:
        page = (await person.get("/rollouts/placements")).text
        assert f"signed with keys of before <b>{ALL}</b>" in page
        listed = (await person.get("/rollouts/placements/export")).text.splitlines()
        assert {json.loads(one)["key_epoch"] for one in listed} == {2}
        assert len(listed) == ALL
