"""Writes the open interface of the enrolment service: OpenAPI 3.1, from the service's own routes.

The file is committed, so that others can read it without running anything; ``--check`` tells
whether it still says what the code says. Run:
``python -m ketang_center.enrolment.publish_openapi``. Source: OpenAPI 3.1.0.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ketang_center.enrolment.api import create_app

if TYPE_CHECKING:
    from ketang_center.enrolment.desk import Desk

FILE = Path("docs/interfaces/openapi-enrolment.json")
_NAMED = ("Application", "Challenge", "Envelope", "Issued", "Turned")


class _NoDesk:
    """Stands at the routes while they are described; nobody asks it."""

    def nonce(self) -> str:
        return ""

    def enrol(self, body: bytes, source: str) -> None:
        raise NotImplementedError

    renew = enrol


def document() -> dict[str, Any]:
    """OpenAPI document of the service; each value of the contract stands in it once."""
    app = create_app(cast("Desk", _NoDesk()), lambda: b"[]", lambda: b"")
    named: dict[str, Any] = {}
    made: dict[str, Any] = _by_name(app.openapi(), named)
    return made | {"components": {"schemas": dict(sorted(named.items()))}}


def _by_name(node: Any, named: dict[str, Any]) -> Any:
    """Move named values to ``named`` and refer to them; drop titles that repeat field names."""
    if isinstance(node, list):
        return [_by_name(one, named) for one in node]
    if not isinstance(node, dict):
        return node
    title = node.get("title")
    inner = {
        key: _by_name(value, named)
        for key, value in node.items()
        if not (key == "title" and "type" in node)
    }
    if title in _NAMED and "type" in node:
        named[title] = inner
        return {"$ref": f"#/components/schemas/{title}"}
    return inner


def text() -> str:
    """Return the file. The same code gives the same bytes."""
    return json.dumps(document(), ensure_ascii=False, indent=2) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write, or with ``--check`` compare; return 1 when it is out of step."""
    parser = argparse.ArgumentParser(prog="publish_openapi", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when out of step")
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    options = parser.parse_args(arguments)
    if not options.check:
        options.file.write_text(text(), encoding="utf-8")
        return 0
    if not options.file.exists() or options.file.read_text(encoding="utf-8") != text():
        sys.stderr.write(f"{options.file}: out of step, run 'make schemas'\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
