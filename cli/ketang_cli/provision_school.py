"""``ketang provision``, a school's part: register its devices, make codes, throw devices out.

Runs on the centre's machine, on the centre's own files. Who did what is in the audit log before it
is done; a code is printed once and kept nowhere.
"""

import argparse
import getpass
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ketang_cli.listing import clock, show, write
from ketang_contract.errors import BadInput

if TYPE_CHECKING:
    from ketang_center.access.audit import Audit
    from ketang_center.enrolment.book import Book
    from ketang_center.enrolment.registering import Registered
    from ketang_center.enrolment.settings import Enrolment
    from ketang_center.enrolment.values import Code
    from ketang_center.registry.database import Registry
    from ketang_center.registry.values import Unit

ACTIONS = ("register", "code", "codes", "withdraw", "devices", "revoke")
WHYS = ("lost", "scrapped", "stock", "stolen", "clone")


def add_actions(actions: Any) -> None:
    """Declare the actions on the sub-parsers of ``ketang provision``."""
    register = actions.add_parser("register", help="pre-register a school's devices, CSV or XLSX")
    register.add_argument("file", type=Path, metavar="FILE")
    register.add_argument("--add-rooms", action="store_true", help="make rooms that are missing")
    register.add_argument("--check", action="store_true", help="say what would be; write nothing")
    code = actions.add_parser("code", help="make an enrolment code, with kit, sheet and QR code")
    code.add_argument("--school", required=True, metavar="SCHOOL")
    code.add_argument("--uses", type=int, required=True, metavar="N")
    code.add_argument("--days", type=int, default=7, metavar="N")
    code.add_argument("--kit", type=Path, metavar="DIR|ZIP", help="write a kit for a USB stick")
    code.add_argument("--sheet", type=Path, metavar="FILE.html", help="write a page to print")
    code.add_argument("--qr", type=Path, metavar="FILE.svg", help="write a QR code")
    code.add_argument("--contact", default="", metavar="TEXT", help="whom to call, on the sheet")
    codes = actions.add_parser("codes", help="list codes: used, left, until when")
    codes.add_argument("--school", metavar="SCHOOL")
    withdraw = actions.add_parser("withdraw", help="make a code useless, by its id")
    withdraw.add_argument("code_id", metavar="CODE_ID")
    devices = actions.add_parser("devices", help="list a school's devices: who is in, who is not")
    devices.add_argument("--school", required=True, metavar="SCHOOL")
    revoke = actions.add_parser("revoke", help="throw a device out, for ever; or one certificate")
    what = revoke.add_mutually_exclusive_group(required=True)
    what.add_argument("device", nargs="?", metavar="DEVICE")
    what.add_argument("--certificate", type=Path, metavar="FILE.pem", help="a service's, for one")
    revoke.add_argument("--why", required=True, choices=WHYS)
    for one in (register, code, codes, withdraw, devices, revoke):
        one.add_argument("--settings", type=Path, required=True, metavar="CENTER.TOML")
        one.add_argument("--json", action="store_true", help="one JSON object")
    for one in (codes, devices):
        one.add_argument("--csv", type=Path, metavar="FILE", help="also write it as a table")


def run(options: argparse.Namespace) -> int:
    """Do the chosen action; 0, or 2 when rows of a device list are wrong.

    Raises:
        BadInput: one line with what is wrong and what to do.
    """
    does: Mapping[str, Callable[[argparse.Namespace, _Centre], int]] = {
        "register": _register,
        "code": _code,
        "codes": _codes,
        "withdraw": _withdraw,
        "devices": _devices,
        "revoke": _revoke,
    }
    with _opened(options.settings) as centre:
        return does[options.action](options, centre)


@dataclass(frozen=True, slots=True)
class _Centre:
    """The centre's open files, the moment, and who asks."""

    registry: "Registry"
    book: "Book"
    audit: "Audit"
    enrolment: "Enrolment | None"
    now_ms: int
    who: str

    def note(self, action: str, subject: str, unit: str = "") -> None:
        """Put an act into the audit log."""
        self.audit.note(self.now_ms, self.who, action, subject, unit)

    def school(self, code: str) -> "Unit":
        """Return a school."""
        from ketang_center.registry.values import Level

        tree = self.registry.tree()
        if code not in tree or tree[code].level is not Level.SCHOOL:
            raise BadInput(f"--school: there is no school {code}")
        return tree[code]

    def desk(self) -> "Enrolment":
        """Return how this centre lets devices in."""
        if self.enrolment is None:
            raise BadInput("the settings have no table [enrolment]: this centre enrols nobody yet")
        return self.enrolment


@contextmanager
def _opened(path: Path) -> Iterator[_Centre]:
    from ketang_center import settings
    from ketang_center.access.audit import Audit
    from ketang_center.enrolment.book import Book
    from ketang_center.registry.database import Registry

    chosen = settings.read(path)
    folder = chosen.data_dir
    if not (folder / "registry.db").is_file():
        raise BadInput(f"{folder}: no centre's data here; run this where the centre runs")
    with ExitStack() as stack:
        audit = Audit(folder / "audit.db")
        stack.callback(audit.close)
        yield _Centre(
            registry=stack.enter_context(Registry(folder / "registry.db")),
            book=stack.enter_context(Book(folder / "enrolment.db")),
            audit=audit,
            enrolment=chosen.enrolment,
            now_ms=time.time_ns() // 1_000_000,
            who=f"cli:{_login()}",
        )


def _login() -> str:
    try:
        return os.getlogin()  # who logged in, not whom sudo made of him
    except OSError:
        return getpass.getuser()


def _register(options: argparse.Namespace, centre: _Centre) -> int:
    from ketang_center.enrolment import registering
    from ketang_center.registry.imports import BadRows, open_rows

    try:
        rows = open_rows(options.file)
        parts = (centre.registry, centre.book, rows, centre.now_ms)
        done = registering.check(*parts, add_rooms=options.add_rooms)
        if not options.check:
            schools = sorted({one.school for one in rows.rows})
            told = f"{options.file.name}: {len(rows.rows)} rows"
            for school in schools:
                centre.note("register", told, school)
            done = registering.register(*parts, add_rooms=options.add_rooms)
    except BadRows as wrong:
        for problem in wrong.problems:
            print(problem, file=sys.stderr)
        count = len(wrong.problems) + wrong.more
        rest = f" ({wrong.more} not listed)" if wrong.more else ""
        print(f"ketang: {count} mistakes{rest}; nothing was registered", file=sys.stderr)
        return 2
    _tell_registered(done, options)
    return 0


def _tell_registered(done: "Registered", options: argparse.Namespace) -> None:
    counts = {name: getattr(done, name) for name in ("added", "changed", "unchanged", "rooms")}
    if options.json:
        said = {**counts, "written": not options.check, "more_warnings": done.more_warnings}
        print(json.dumps({**said, "warnings": [str(one) for one in done.warnings]}))
        return
    for one in done.warnings:
        print(f"note: {one}")
    if done.more_warnings:
        print(f"note: {done.more_warnings} more of these")
    print(
        f"{done.added} added, {done.changed} changed, {done.unchanged} unchanged;"
        f" {done.rooms} rooms made" + ("; checked only, nothing was written" * options.check)
    )


def _code(options: argparse.Namespace, centre: _Centre) -> int:
    from ketang_center.enrolment import coding
    from ketang_provisioning import codes, kits, sheet
    from ketang_provisioning.keys import load_private

    school, desk = centre.school(options.school), centre.desk()
    for name, value, most in (
        ("--uses", options.uses, coding.MOST_USES),
        ("--days", options.days, coding.MOST_DAYS),
    ):
        if not 1 <= value <= most:
            raise BadInput(f"{name}: {value} is not accepted; accepted: 1 to {most}")
    if not coding.is_contact(options.contact):
        raise BadInput(
            f"--contact: one line of at most {coding.MAX_CONTACT} characters is accepted"
        )
    text, made = coding.new_code(
        centre.book,
        codes.read_key(desk.code_key),
        school=school.id,
        uses=options.uses,
        days=options.days,
        now_ms=centre.now_ms,
        by=centre.who,
    )
    kit = coding.kit_of(desk, made, text)
    # Written before the code counts: a paper or stick that could not be made opens nothing.
    if options.kit:
        kits.write_kit(options.kit, kit, load_private(desk.kit_key, None), _bytes_of(desk.trust))
    if options.sheet:
        write(options.sheet, coding.sheet_of(desk, school, made, text, options.contact))
    if options.qr:
        write(options.qr, sheet.qr_svg(kits.qr_text(kit)))
    centre.note("code", f"{made.id}: {made.uses} uses, {options.days} days", school.id)
    centre.book.add_code(made)
    _tell_code(options, centre, text, made)
    return 0


def _tell_code(options: argparse.Namespace, centre: _Centre, text: str, made: "Code") -> None:
    from ketang_provisioning import codes

    url = centre.desk().url
    paths = {name: getattr(options, name) for name in ("kit", "sheet", "qr")}
    written = {name: str(path) for name, path in paths.items() if path}
    if options.json:
        said = {"id": made.id, "code": codes.show(text), "school": made.school, "url": url}
        counts = {"uses": made.uses, "expires_ms": made.expires_ms}
        print(json.dumps({**said, **counts, **written}), flush=True)
        return
    school = centre.school(made.school)
    print(f"{school.name_zh} ({school.id})\n\n    {codes.show(text)}\n")
    print(f"{made.uses} devices, until {clock(made.expires_ms)}, at {url}")
    print(f"Its name in lists is {made.id}. It is shown this once and kept nowhere.", flush=True)
    waiting = sum(one.claimed_ms is None for one in centre.book.assets(made.school))
    if waiting != made.uses:
        print(f"note: {waiting} registered devices of this school are not in yet")
    for name, path in written.items():
        print(f"{name}: {path}")


def _codes(options: argparse.Namespace, centre: _Centre) -> int:
    if options.school:
        centre.school(options.school)
    rows = [
        {
            "id": one.id,
            "school": one.school,
            "state": _state_of(one, centre.now_ms),
            "used": one.used,
            "uses": one.uses,
            "until": clock(one.expires_ms),
            "made": clock(one.made_ms),
            "by": one.made_by,
        }
        for one in centre.book.codes(options.school)
    ]
    show(options, rows, "no codes")
    return 0


def _state_of(one: "Code", now_ms: int) -> str:
    if one.withdrawn:
        return "withdrawn"
    if now_ms >= one.expires_ms:
        return "expired"
    return "used up" if one.used >= one.uses else "open"


def _withdraw(options: argparse.Namespace, centre: _Centre) -> int:
    code_id = options.code_id.strip().lower()
    found = next((one for one in centre.book.codes() if one.id == code_id), None)
    if found is None:
        raise BadInput(
            "there is no code of this name: its id has six characters, see ketang provision codes"
        )
    centre.note("code_withdrawn", found.id, found.school)
    centre.book.withdraw_code(found.id)
    if options.json:
        print(json.dumps({"id": found.id, "withdrawn": True}))
    else:
        print(f"{found.id} is withdrawn; the {found.used} devices it let in stay in")
    return 0


def _devices(options: argparse.Namespace, centre: _Centre) -> int:
    centre.school(options.school)
    tree = centre.registry.tree()
    rows = []
    for one in centre.book.assets(options.school):
        barred = centre.book.is_barred(one.device)
        rows.append(
            {
                "asset": one.asset,
                "device": one.device,
                "state": "barred" if barred else "claimed" if one.claimed_ms else "unclaimed",
                "since": clock(one.claimed_ms) if one.claimed_ms else "",
                "kind": one.kind.value,
                "room": tree[one.room].name_zh if one.room in tree else one.room,
                "serial": one.serial,
            }
        )
    show(options, rows, "no devices are registered for this school")
    return 0


def _revoke(options: argparse.Namespace, centre: _Centre) -> int:
    from ketang_center.enrolment.office import Office, Why

    office = Office(centre.book, centre.registry, centre.audit, lambda: centre.now_ms)
    if options.certificate is not None:
        pem = _bytes_of(options.certificate).decode("ascii", "replace")
        serial = office.revoke_certificate(pem, Why(options.why), centre.who)
        print(json.dumps({"serial": serial}) if options.json else f"{serial} is revoked")
        return 0
    device = options.device
    asset = centre.book.asset_of(device)
    fresh = office.throw_out(device, Why(options.why), centre.who)
    now = centre.book.asset(asset.school, asset.asset) if asset is not None else None
    free = now is not None and now.claimed_ms is None and now.device != device
    if options.json:
        said = {"device": device, "why": options.why, "barred": True, "fresh": fresh}
        print(json.dumps({**said, "next": now.device if now is not None and free else ""}))
        return 0
    print(f"{device} is barred for ever" + ("" if fresh else "; it was before"))
    if now is not None and free:
        print(f"Asset {now.asset} may enrol again with a code, as {now.device}.")
    else:
        print("Should it come back: enrol it with a code; it waits until a person approves it.")
    return 0


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise BadInput(f"{path}: cannot be read: {problem.strerror}") from problem
