"""The revocation list, fetched once a minute by a broker on another machine than the centre.

It lands in the file that is watched anyway and judged there (``ketang_provisioning.revocations``):
whoever could answer in the centre's place could only keep a list back, and is seen by its age.
"""

import http.client
import logging
import ssl
import threading
import urllib.error
import urllib.request
from pathlib import Path

from ketang_contract.errors import BadInput
from ketang_provisioning.keys import write_private

log = logging.getLogger("ketang.broker")

EVERY_S = 60.0
_TIMEOUT_S = 10.0
_MOST_BYTES = 64 << 20


class Fetcher:
    """``fetch`` once, then ``start``; a daemon thread until ``stop``.

    Args:
        url: https, of the enrolment service's list.
        servers_ca: authorities of servers, PEM.
        target: the file to keep current.
    """

    def __init__(self, url: str, servers_ca: Path, target: Path, every_s: float = EVERY_S) -> None:
        self._url, self._servers_ca, self._target = url, servers_ca, target
        self._every_s = every_s
        self._failing = False
        self._stopping = threading.Event()

    def start(self) -> None:
        """Fetch from now on."""
        threading.Thread(target=self._run, name="fetch-revocations", daemon=True).start()

    def stop(self) -> None:
        """End; a fetch at hand is not waited for."""
        self._stopping.set()

    def fetch(self) -> bool:
        """Fetch once; false, and told once, when the centre does not answer."""
        try:
            raw = self._get()
            if not self._target.exists() or self._target.read_bytes() != raw:
                write_private(self._target, raw)
        except (OSError, http.client.HTTPException, BadInput) as problem:
            if not self._failing:
                log.warning("broker.list_not_fetched url=%s why=%s", self._url, problem)
            self._failing = True
            return False
        if self._failing:
            log.info("broker.list_fetched_again url=%s", self._url)
        self._failing = False
        return True

    def _get(self) -> bytes:
        context = ssl.create_default_context(cafile=str(self._servers_ca))
        # The centre is reached directly, whatever proxy the environment names.
        opener = urllib.request.OpenerDirector()
        for one in (
            urllib.request.HTTPSHandler(context=context),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
        ):
            opener.add_handler(one)
        with opener.open(self._url, timeout=_TIMEOUT_S) as answer:
            raw = bytes(answer.read(_MOST_BYTES + 1))
        if len(raw) > _MOST_BYTES:
            raise BadInput(f"{self._url}: more than {_MOST_BYTES} bytes")
        return raw

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            self.fetch()
