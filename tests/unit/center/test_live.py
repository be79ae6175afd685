"""The live stream's one poll: a read that fails once costs a second, not the stream."""

import asyncio
import sqlite3

from ketang_center.web import live
from ketang_center.web.live import Hub


class Reading:
    def changes(self, after):
        return []


def test_a_failing_read_does_not_end_the_stream(monkeypatch):
    monkeypatch.setattr(live, "POLL_S", 0.001)
    asked = []

    def generation():
        asked.append(len(asked))
        if len(asked) == 3:
            raise sqlite3.OperationalError("database is locked")
        return len(asked)

    async def watch():
        hub = Hub(Reading(), generation)
        polling = asyncio.create_task(hub.run())
        heard = hub.follow(lambda changed: changed is None, again=False)
        said = [await asyncio.wait_for(anext(heard), 10) for _ in range(4)]
        polling.cancel()
        return said

    said = asyncio.run(watch())
    assert len(asked) > 4
    assert [one for one in said if b"event: change" in one] == said[1:]
