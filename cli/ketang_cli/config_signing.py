"""``ketang config sign`` and ``add-signature``: make releases, on a laptop that holds keys."""

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ketang_cli import config_desk, config_placing
from ketang_cli.config_desk import Desk
from ketang_cli.config_reading import read_release
from ketang_contract.config import Config, Level
from ketang_contract.errors import BadInput

if TYPE_CHECKING:
    from ketang_cli.provision_region import Language
    from ketang_contract.releases import Release
    from ketang_provisioning.signing import Before, Pair, Place
    from ketang_provisioning.standings import Standing


def add_actions(actions: Any) -> None:
    """Declare ``sign`` and ``add-signature``."""
    sign = actions.add_parser("sign", help="make a release of a file: the layer and its undo")
    sign.add_argument("file", type=Path, metavar="FILE.TOML")
    sign.add_argument("--out", type=Path, required=True, metavar="RELEASE.JSON")
    sign.add_argument("--days", type=int, default=30, metavar="N", help="devices accept it so long")
    sign.add_argument("--name", default="", metavar="ID", help="of the release; made, unless told")
    adding = actions.add_parser(
        "add-signature", help="sign a release, or placements, that others signed before"
    )
    adding.add_argument("file", type=Path, metavar="FILE")
    for one, needed in ((sign, True), (adding, False)):
        one.add_argument(
            "--for",
            dest="path",
            required=needed,
            metavar="REGION/CITY/…",
            help="whose layer it is: units from the region down; a device may be the last",
        )
        one.add_argument(
            "--device", action="store_true", help="the last one is a device, however short the way"
        )
        one.add_argument(
            "--previous",
            nargs="+",
            type=Path,
            default=[],
            metavar="RELEASE.JSON",
            help="the release it follows, and older ones that devices may still hold",
        )
        one.add_argument("--after-undo", action="store_true", help="that one was taken back")
        one.add_argument("--unverified", action="store_true", help="believe it, whoever signed it")
        config_desk.add_signing(one)


def run(options: argparse.Namespace) -> int:
    """Make a release, or sign one more.

    Raises:
        BadInput: a person's mistake, in one line.
        Refused: a file is no document of its kind.
    """
    if options.action == "sign":
        return _sign(options)
    return config_placing.add(options) if config_placing.is_list(options.file) else _add(options)


def _sign(options: argparse.Namespace) -> int:
    from ketang_provisioning import config_files, signing

    config_desk.refuse_overwriting(options.out)
    desk, at = config_desk.open_desk(options), _place(options)
    content = config_files.read_config(options.file)
    stood = _before(desk, at)
    pair = signing.compose(
        content,
        at,
        stood,
        desk.trust,
        now_s=desk.now_s,
        lasts_s=options.days * signing.DAY_S,
        name=options.name,
    )
    _show(desk, pair, at, stood)
    config_desk.ask(desk)
    release = signing.sign_layer(pair, config_desk.keys(desk), at, desk.trust, desk.now_s)
    _finish(desk, options.out, release, at, stood)
    return 0


def _add(options: argparse.Namespace) -> int:
    from ketang_provisioning import signing

    desk, release = config_desk.open_desk(options), read_release(options.file)
    pair = signing.opened(release)
    at = _place(options, pair)
    stood = _followed(desk, at, pair)
    _show(desk, pair, at, stood)
    config_desk.ask(desk)
    for key in config_desk.keys(desk):
        release = signing.add_signature(release, key, at, desk.trust, desk.now_s)
    _finish(desk, options.file, release, at, stood)
    return 0


def _place(options: argparse.Namespace, pair: "Pair | None" = None) -> "Place":
    """Say whose layer it is; of the region's own, the layer itself says it."""
    from ketang_provisioning import signing

    if options.path is None and pair is not None and pair.layer.level is Level.REGION:
        return signing.place((pair.layer.target,))
    if options.path is None:
        raise BadInput("--for: name the way to it from the region down, e.g. lan/lan-shi/lan-xian")
    level = Level.DEVICE if options.device else None
    at = signing.place(options.path.strip("/").split("/"), level)
    if pair is not None and (pair.layer.target, pair.layer.level) != (at.target, at.level):
        raise BadInput(f"{options.file}: is of the {pair.layer.level} {pair.layer.target}")
    return at


def _before(desk: Desk, at: "Place") -> "Before":
    from ketang_provisioning import signing

    options = desk.options
    if not options.previous and options.after_undo:
        raise BadInput("--after-undo: name the release that was taken back with --previous")
    return signing.before(
        [read_release(path) for path in options.previous],
        at,
        desk.trust,
        after_undo=options.after_undo,
        unverified=options.unverified,
    )


def _followed(desk: Desk, at: "Place", pair: "Pair") -> "Before":
    """Tell what stood before a draft: by the releases named, else by what its undo brings back."""
    from ketang_provisioning import signing

    if desk.options.previous:
        stood = _before(desk, at)
        if (stood.version + 1, stood.content) != (pair.layer.version, pair.undo.content):
            raise BadInput(f"{desk.options.file}: does not follow the release named by --previous")
        return stood
    held = pair.undo.content
    if pair.layer.version == 1:
        return signing.Before()
    desk.say(
        "注意：未指定 --previous，之前的内容以草稿所带的撤销文件为准。",
        "Note: without --previous, what stood before is what the draft's own undo says.",
    )
    stands = signing.Stood(held)
    return signing.Before(
        version=pair.layer.version - 1, content=held, standing=stands, older=(None, stands)
    )


def _show(desk: Desk, pair: "Pair", at: "Place", stood: "Before") -> None:
    """Say in plain words what a holder is asked to sign."""
    from ketang_profiles.configured import agents
    from ketang_provisioning import config_words, signing, standings

    layer, chosen = pair.layer, desk.language
    day = f"{datetime.fromtimestamp(layer.expires_s, UTC):%Y-%m-%d}"
    desk.say(
        f"发布 {layer.release}：{layer.level} {'/'.join((*at.above, at.target))}，第"
        f" {layer.version} 版，{day} 之前可被采用",
        f"Release {layer.release}: {layer.level} {'/'.join((*at.above, at.target))}, version"
        f" {layer.version}, accepted until {day}",
    )
    was = stood.standing.content if stood.standing else signing.NOTHING
    wide = standings.widening(at.level, stood.standing, signing.Stood(layer.content), agents())
    lines = list(config_words.differences(was, layer.content, chosen, wide))
    for line in lines:
        print(f"  {line}")
    if not lines:
        desk.say("  与之前没有区别", "  no difference to what stood before")
    desk.say("该版全部内容：", "All that it says:")
    _print_content(layer.content, chosen)
    desk.say(
        f"同时签署的撤销（第 {pair.undo.version} 版）恢复为：",
        f"Its undo, version {pair.undo.version}, signed with it, brings back:",
    )
    _print_content(pair.undo.content, chosen)


def _print_content(content: Config, chosen: "Language") -> None:
    from ketang_provisioning import config_words

    lines = list(config_words.contents(content, chosen))
    for line in lines or ["（无）" if chosen == "zh" else "nothing"]:
        print(f"  {line}")


def _finish(desk: Desk, out: Path, release: "Release", at: "Place", stood: "Before") -> None:
    """Write a release as far as it is signed, and say what that is enough for."""
    from ketang_contract import releases
    from ketang_profiles.configured import agents
    from ketang_provisioning import standings

    config_desk.write(out, releases.write(release))
    found = standings.standing(release, at, stood, agents(), desk.trust, desk.now_s)
    holders = ", ".join(found.holders)
    desk.say(f"{out}：已由 {holders} 签署", f"{out}: signed by {holders}")
    if found.complete:
        desk.say("签名已齐备。", "Complete: every device accepts it, and its undo.")
        return
    _tell_lacking(desk, found)
    path = "" if at.level is Level.REGION else f" --for {desk.options.path}"
    flag = " --device" if desk.options.device else ""
    print(f"    ketang config add-signature --trust TRUST.JSON --key FILE.KEY{path}{flag} {out}")


def _tell_lacking(desk: Desk, found: "Standing") -> None:
    if found.widens:
        fields = ", ".join(found.widens)
        desk.say(
            f"草稿：放宽了 {fields}，还需另一位密钥持有人签署：",
            f"A draft: it widens {fields}; another holder has to sign it too:",
        )
        return
    fields = ", ".join(dict.fromkeys((*found.undo_widens, *found.older_widens)))
    desk.say(
        f"现有设备可采用。新设备、错过前一版的设备及其撤销（涉及 {fields}）"
        "还需另一位密钥持有人签署：",
        f"Enough for devices that follow. For new ones, those that missed a release, and its undo"
        f" ({fields}), another holder has to sign it too:",
    )
