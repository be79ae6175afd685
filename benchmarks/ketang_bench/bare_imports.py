"""The raw limit of a footprint: what the agent may load, loaded, and nothing done with it."""

import sqlite3
import ssl
import sys

import paho.mqtt.client
import psutil


def main() -> int:
    """Say that everything is here, then wait until told to end."""
    context = ssl.create_default_context()
    database = sqlite3.connect(":memory:")
    print(paho.mqtt.client.__name__, psutil.__name__, context.protocol, database, flush=True)
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
