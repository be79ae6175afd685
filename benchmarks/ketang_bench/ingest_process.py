"""The centre's ingest alone, as a process: the part of ``ketang center serve`` a drain speaks to.

``python -m ketang_bench.ingest_process HOST PORT CA CERTIFICATE KEY FOLDER``
"""

import signal
import sys
from pathlib import Path

from ketang_center.ingest.subscriber import Ear, Subscriber


def main() -> int:
    """Ingest until SIGTERM."""
    host, port, ca, certificate, key, folder = sys.argv[1:]
    subscriber = Subscriber(
        Ear(host, int(port), Path(ca), Path(certificate), Path(key)), Path(folder)
    )
    signal.signal(signal.SIGTERM, lambda *_: subscriber.stop())
    subscriber.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
