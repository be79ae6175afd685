"""Two machines under one device id, told to a real store in a folder."""

from pathlib import Path

from ketang_center.ingest.worker import Message, Worker
from ketang_center.registry.calendars import HOUR_MS
from ketang_center.store.sqlite import Store
from ketang_contract import batch, topics
from ketang_contract.batch import Header, Sent
from ketang_contract.ids import shard_of
from ketang_contract.records import Inventory, Record, TimeQuality, Usage, stream_of, to_line
from ketang_contract.state import Birth
from tests.web.seed import NOW_MS

START_MS = NOW_MS - 2 * HOUR_MS


def make_case(folder: Path, device: str = "s1-ifp-1") -> None:
    """Machine ``a`` on since an hour before, ``b`` beside it from the start on."""
    with Store(folder) as store:
        lease = store.take_lease([shard_of(device)], "w", START_MS, 10 * HOUR_MS)
        worker = Worker(store, lease)
        heads: dict[tuple[str, str], int] = {}

        def hears(name: str, began_s: int, at_s: int, body=None) -> None:
            at_ms = START_MS + at_s * 1000
            sent = Sent(wall_ms=at_ms, boot_id=f"boot-{name}", boottime_ms=(at_s - began_s) * 1000)
            if body is None:
                born = Birth(
                    session=1,
                    sent=sent,
                    agent_version=f"0.1.{name}",
                    schema_oldest=1,
                    schema_newest=1,
                )
                topic, payload = topics.of(device, topics.BIRTH), to_line(born)
            else:
                stream = stream_of(body)
                seq = heads[name, stream] = heads.get((name, stream), 0) + 1
                line = to_line(
                    Record(
                        subject=device,
                        wall_ms=at_ms,
                        boot_id=sent.boot_id,
                        boottime_ms=sent.boottime_ms,
                        time=TimeQuality.SYNCED,
                        body=body,
                    )
                )
                header = Header(
                    schema=1,
                    store_id=f"store-{name}",
                    stream=stream,
                    head=seq,
                    seqs=((seq, seq),),
                    sent=sent,
                )
                topic, payload = topics.batch(device, stream), batch.encode(header, [line])
            worker.handle([Message(topic, payload, at_ms)])

        hears("a", -7200, -3600)
        hears("a", -7200, -3300, Usage(window_s=300, active_s=10))
        hears("b", 0, 5)
        hears("b", 0, 300, Usage(window_s=300, active_s=100))
        hears("a", -7200, 330, Usage(window_s=300, active_s=200))
        hears("b", 0, 600, Inventory(vendor="Acme", model="Two"))
        hears("a", -7200, 630, Inventory(vendor="Acme", model="One"))
