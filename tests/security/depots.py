"""An update repository at a real centre, a device that fetches from it, and centres that lie.

``Depot`` has the region's own keys, the centre's real HTTPS service and one device; what an
attacker may hold (a key, the disk, the line) is in the tests' hands.
"""

import shutil
import ssl
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tuf.api.metadata import Metadata

from ketang_agent.remote.updates import fetch
from ketang_agent.remote.updates_https import Timing
from ketang_center import settings
from ketang_center.enrolment.service import EnrolmentService
from ketang_contract import trust as trusts
from ketang_contract.updates import model
from ketang_provisioning import updates, updates_online
from ketang_provisioning.keys import load_private, make_ed25519
from ketang_provisioning.updates_online import OnlineKeys

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
TARGET = "model/mtcnn/1.0.0.zip"
CONTENT = b"weights" * 30_000


class Depot:
    def __init__(self, region, folder: Path, now: datetime = NOW) -> None:
        self.region, self.folder, self.now = region, folder, now
        self.center = region.data_dir / "updates"
        self.offline = folder / "offline-copy"
        self.device = folder / "device"
        self.root = self._key("offline/tuf-root.key", "updates-root")
        self.targets = self._key("offline/tuf-targets.key", "updates-targets")
        self.online = updates_online.load_keys(region.center_folder)
        self.trust = trusts.read_accepted((region.center_folder / "trust.json").read_bytes())
        self.servers = (region.center_folder / "servers-ca.pem").read_text()
        self.url = region.url
        shutil.rmtree(self.center, ignore_errors=True)
        named = {"snapshot": self.online.snapshot, "timestamp": self.online.timestamp}
        public = {role: key.public_key() for role, key in named.items()}
        updates.create(self.offline, self.root, self.targets, public, now)
        self.publish("1.0.0", CONTENT)

    def _key(self, name, passphrase):
        return load_private(self.region.folder / name, self.region.passphrases[passphrase].encode())

    def publish(self, version="1.0.0", content=CONTENT, now=None, key=None):
        now = now or self.now
        release = updates.Release(model("mtcnn", version), content)
        updates.publish(self.offline, key or self.targets, now, releases=[release])
        self.carry(now)

    def carry(self, now=None, keys=None):
        updates_online.take(self.offline, self.center)
        updates_online.refresh(self.center, keys or self.online, now or self.now)

    def fetch(self, target=TARGET, *, now=None, kbps=None, timing=None, trust=None, url=None):
        return fetch(
            self.device,
            url or self.url,
            self.servers,
            trust or self.trust,
            target,
            kbps,
            int((now or self.now).timestamp()),
            timing or QUICK,
        )

    def metadata(self, name):
        return self.center / "metadata" / name

    def latest(self, role):
        return updates.versions(self.center, role)[-1]

    def resign(self, path, keys, change, *, name=None):
        """Change a metadata file and sign it with these keys, as whoever held them could."""
        held = Metadata.from_bytes(path.read_bytes())
        change(held.signed)
        content = updates.sign(held.signed, keys)
        (path if name is None else path.with_name(name)).write_bytes(content)

    def confirm(self, snapshot: Path, now=NOW, version=None, key=None):
        """Sign a timestamp that names this snapshot, whatever the repository's rules are."""
        found = Metadata.from_bytes(self.metadata("timestamp.json").read_bytes())
        found.signed.snapshot_meta = updates_online._meta(snapshot)
        found.signed.version = version or found.signed.version + 1
        found.signed.expires = now + timedelta(days=1)
        content = updates.sign(found.signed, [key or self.online.timestamp])
        self.metadata("timestamp.json").write_bytes(content)


QUICK = Timing(sleep=lambda _: None, request_s=20.0)


def other_online_keys():
    return OnlineKeys(make_ed25519(), make_ed25519())


@contextmanager
def serving(region):
    """Run the centre's real enrolment service, which hands out its repository."""
    said = settings.read(region.settings(per_s=500))
    service = EnrolmentService(said.enrolment, said.data_dir, "center-test")
    service.revocation_list.keep(time.time_ns() // 10**6)
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not service.port and time.monotonic() < deadline:
            time.sleep(0.02)
        yield service
    finally:
        service.stop()
        thread.join()
        service.close()


@contextmanager
def lying(region, answer):
    """Run a centre with the region's own certificate that answers targets as ``answer`` does.

    Metadata comes from the repository as it is. ``answer(handler, content)`` writes what it likes.
    """
    folder = region.data_dir

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.close_connection = True
            path = folder / self.path.lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            answer(self, path.read_bytes())

        def log_message(self, *_):
            pass

        def whole(self, content, status=200, **headers):
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer((region.host, 0), Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(
        region.center_folder / "center.pem", region.center_folder / "center.key"
    )
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://{region.host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
