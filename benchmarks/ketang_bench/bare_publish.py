"""The raw limit of a start: an interpreter, ``ssl``, and three MQTT packets written by hand.

``python -m ketang_bench.bare_publish HOST PORT CA CERTIFICATE KEY DEVICE TOPIC``
Source: MQTT 3.1.1 (OASIS), sections 3.1 and 3.3.
"""

import socket
import ssl
import sys

PAYLOAD = b"{}"


def main() -> int:
    """Connect with mutual TLS, publish one message at QoS 0, wait for the other side to close."""
    host, port, ca, certificate, key, device, topic = sys.argv[1:]
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(certificate, key)
    plain = socket.create_connection((host, int(port)))
    with context.wrap_socket(plain, server_hostname=host) as wire:
        wire.sendall(_packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x3c" + _text(device)))
        if wire.recv(4)[3:] != b"\x00":
            return 1
        wire.sendall(_packet(0x30, _text(topic) + PAYLOAD))
        wire.recv(1)
    return 0


def _text(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def _packet(kind: int, body: bytes) -> bytes:
    """Frame a body of at most 127 bytes."""
    return bytes((kind, len(body))) + body


if __name__ == "__main__":
    sys.exit(main())
