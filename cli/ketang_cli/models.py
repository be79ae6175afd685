"""``ketang models``: publish models and agent releases as signed targets, and check them.

``init``, ``publish``, ``withdraw`` and ``rotate`` need off-line keys, and run where those are, on a
repository that is carried to the centre as a folder; there ``take`` puts it in its place.
"""

import argparse
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ketang_cli.provision_region import add_language, add_passphrase, language, read_passphrase
from ketang_contract.errors import BadInput, Refused
from ketang_contract.updates import Kind, Target

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from ketang_provisioning.updates import Release

_ROLES = ("root", "targets", "snapshot", "timestamp")
_ONLINE = ("snapshot", "timestamp")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    init = _acting(actions, "init", "make an empty repository: once, where the off-line keys are")
    init.add_argument("--keys", type=Path, required=True, metavar="OFFLINE", help="region/offline")
    init.add_argument(
        "--online", type=Path, required=True, metavar="FOLDER", help="of models public, or center"
    )
    init.add_argument("--root-passphrase-file", type=Path, metavar="FILE")
    init.add_argument("--targets-passphrase-file", type=Path, metavar="FILE")
    public = actions.add_parser("public", help="write the public halves of the centre's two keys")
    public.add_argument("center", type=Path, metavar="CENTER")
    public.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    publish = _acting(actions, "publish", "sign the next list; without a file, the same again")
    publish.add_argument("models", nargs="*", type=Path, metavar="MODEL", help="a model's folder")
    publish.add_argument("--agent", nargs="+", action="extend", type=Path, metavar="FILE.zip")
    publish.add_argument("--min-agent", default="", metavar="X.Y.Z", help="who can use these")
    withdraw = _acting(actions, "withdraw", "take targets out of the list")
    withdraw.add_argument("targets", nargs="+", metavar="TARGET", help="as list names them")
    for one in (publish, withdraw):
        one.add_argument("--key", type=Path, required=True, metavar="TUF-TARGETS.KEY")
        add_passphrase(one)
    rotate = _acting(actions, "rotate", "sign the next root, with another key for a role")
    rotate.add_argument("--role", choices=_ROLES, help="whose key is replaced; none: renew only")
    rotate.add_argument("--new", type=Path, metavar="KEY", help=".key, or .pub of an online role")
    rotate.add_argument("--new-passphrase-file", type=Path, metavar="FILE")
    rotate.add_argument("--key", type=Path, required=True, metavar="TUF-ROOT.KEY", help="in force")
    add_passphrase(rotate)
    take = _acting(actions, "take", "at the centre: take over what was signed off line")
    take.add_argument("source", type=Path, metavar="FOLDER")
    refresh = _acting(
        actions, "refresh", "at the centre: sign that the list stands; it does so too"
    )
    refresh.add_argument("--keys", type=Path, required=True, metavar="CENTER")
    _acting(actions, "check", "look everything over; 1 when something is not in order")
    _acting(actions, "list", "show what is listed")


def _acting(actions: Any, name: str, told: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=told)
    parser.add_argument(
        "--repository",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="at the centre data/updates",
    )
    add_language(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Do the chosen action.

    Raises:
        BadInput: a person's mistake, in one line.
        Refused: a list says of a target what this release does not understand.
        ModelRefused: a model is not what its manifest says.
    """
    done: int = _ACTIONS[options.action](options)
    return done


def _init(options: argparse.Namespace) -> int:
    from ketang_provisioning import updates

    root = _key(options.keys / "tuf-root.key", options.root_passphrase_file)
    targets = _key(options.keys / "tuf-targets.key", options.targets_passphrase_file)
    online = {role: _public(options.online, role) for role in _ONLINE}
    updates.create(options.repository, root, targets, online, _now())
    print(_told(options, f"{options.repository}：已建立", f"{options.repository}: made"))
    return 0


def _write_public(options: argparse.Namespace) -> int:
    from ketang_provisioning.keys import public_pem, write_private

    options.out.mkdir(mode=0o700, parents=True, exist_ok=True)
    for role in _ONLINE:
        path = options.out / f"tuf-{role}.pub"
        write_private(path, public_pem(_public(options.center, role)).encode())
        print(path)
    return 0


def _publish(options: argparse.Namespace) -> int:
    from ketang_provisioning import updates

    releases = [_model(folder, options.min_agent) for folder in options.models]
    releases += [_agent(archive, options.min_agent) for archive in options.agent or ()]
    for one in releases:
        digest = one.target.digest or sha256(one.content).hexdigest()
        print(f"{one.target.path}: {len(one.content)} bytes; a layer names it by {digest}")
    key = _key(options.key, options.passphrase_file)
    version = updates.publish(options.repository, key, _now(), releases=releases)
    return _signed(options, version)


def _withdraw(options: argparse.Namespace) -> int:
    from ketang_provisioning import updates

    key = _key(options.key, options.passphrase_file)
    version = updates.publish(options.repository, key, _now(), withdrawn=options.targets)
    return _signed(options, version)


def _signed(options: argparse.Namespace, version: int) -> int:
    print(
        _told(
            options,
            f"目标清单第 {version} 版已签署。请把文件夹带到中心，执行：",
            f"List of targets {version} is signed. Carry the folder to the centre; there:",
        )
    )
    print("    ketang models take FOLDER --repository data/updates")
    return 0


def _model(folder: Path, min_agent: str) -> "Release":
    """Make a model's release; its golden pictures are tried where the parts are installed."""
    from ketang_models import archive, registry
    from ketang_provisioning.updates import Release

    model = registry.open_model(folder)
    content = archive.pack(model)
    _try_golden(model)
    manifest = model.manifest
    target = _target(
        kind=Kind.MODEL,
        name=manifest.name,
        version=manifest.version,
        file=f"{manifest.version}.zip",
        min_agent=min_agent,
        digest=model.digest,
        golden=manifest.golden.sha256,
    )
    return Release(target, content)


def _try_golden(model: Any) -> None:
    from ketang_agent.inference.golden import CannotCheck, check

    try:
        check(model.folder)
    except CannotCheck as why:
        print(f"{model.folder}: golden pictures not tried: {why}")


def _agent(archive: Path, min_agent: str) -> "Release":
    """Take an agent's release as ``ketang_provisioning.agent_archive`` made it."""
    import zipfile

    from ketang_contract import agent_release
    from ketang_provisioning.updates import Release

    try:
        with zipfile.ZipFile(archive) as opened:
            manifest = agent_release.read(opened.read(agent_release.RELEASE))
        content = archive.read_bytes()
    except OSError as problem:
        raise BadInput(f"{archive}: cannot be read: {problem.strerror}") from None
    except (zipfile.BadZipFile, KeyError, ValueError, Refused) as problem:
        raise BadInput(
            f"{archive}: no release of the agent ({problem});"
            " python -m ketang_provisioning.agent_archive makes one"
        ) from None
    target = agent_release.target(manifest.version)
    return Release(
        _target(**(target.custom() | {"kind": target.kind, "min_agent": min_agent})), content
    )


def _target(**said: Any) -> Target:
    try:
        return Target(**said)
    except ValueError as problem:
        raise BadInput(str(problem)) from None


def _rotate(options: argparse.Namespace) -> int:
    from ketang_provisioning import updates

    signers = [_key(options.key, options.passphrase_file)]
    replaced, new = {}, None
    if (options.role is None) is not (options.new is None):
        raise BadInput("--role and --new belong together")
    if options.role in _ONLINE:
        replaced = {options.role: _public_of(options.new)}
    elif options.role is not None:
        new = _key(options.new, options.new_passphrase_file)
        replaced = {options.role: new.public_key()}
        signers += [new] if options.role == "root" else []
    version = updates.rotate(
        options.repository,
        signers,
        _now(),
        replaced=replaced,
        targets_key=new if options.role == "targets" else None,
    )
    print(_told(options, f"根元数据第 {version} 版已签署。", f"Root {version} is signed."))
    if options.role == "root":
        print(
            _told(
                options,
                "设备只认信任文件中写明的更新密钥：请先用 ketang provision trust add-key"
                " --purpose updates 加入新密钥。",
                "Devices believe only the update keys in the trust document: add the new one there"
                " first, with ketang provision trust add-key --purpose updates.",
            )
        )
    return 0


def _take(options: argparse.Namespace) -> int:
    from ketang_provisioning import updates_online

    root, listed = updates_online.take(options.source, options.repository)
    print(
        _told(
            options,
            f"已接收：根元数据第 {root} 版，目标清单第 {listed} 版。",
            f"Taken over: root {root}, list of targets {listed}.",
        )
    )
    return 0


def _refresh(options: argparse.Namespace) -> int:
    from ketang_provisioning import updates_online

    keys = updates_online.load_keys(options.keys)
    done = updates_online.refresh(options.repository, keys, _now())
    print(_told(options, "已签署" if done else "无须签署", "signed" if done else "nothing was due"))
    return 0


def _check(options: argparse.Namespace) -> int:
    from ketang_provisioning import updates

    amiss = 0
    for line, fine in updates.check(options.repository, _now()):
        print(f"{'  ' if fine else '! '}{line}")
        amiss += not fine
    return 1 if amiss else 0


def _list(options: argparse.Namespace) -> int:
    from ketang_provisioning import updates

    for target, made in updates.described(updates.listing(options.repository).signed):
        needs = f"  min_agent {target.min_agent}" if target.min_agent else ""
        digest = f"  {target.digest}" if target.digest else ""
        print(f"{target.path}  {made.length} bytes{digest}{needs}")
    return 0


_ACTIONS = {
    "init": _init,
    "public": _write_public,
    "publish": _publish,
    "withdraw": _withdraw,
    "rotate": _rotate,
    "take": _take,
    "refresh": _refresh,
    "check": _check,
    "list": _list,
}


def _key(path: Path, passphrase_file: Path | None) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from ketang_provisioning.keys import load_private

    key = load_private(path, read_passphrase(passphrase_file, str(path)))
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput(f"{path}: not an Ed25519 key")
    return key


def _public(folder: Path, role: str) -> Any:
    """Return the public half of an online key: from its .pub, or from the key itself."""
    public = folder / f"tuf-{role}.pub"
    return _public_of(public if public.exists() else folder / f"tuf-{role}.key")


def _public_of(path: Path) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    from ketang_provisioning.keys import load_private

    try:
        raw = path.read_bytes()
        found: Any = (
            load_pem_public_key(raw)
            if path.suffix == ".pub"
            else load_private(path, None).public_key()
        )
    except OSError as problem:
        raise BadInput(f"{path}: cannot be read: {problem.strerror}") from None
    except ValueError:
        raise BadInput(f"{path}: not a public key in PEM") from None
    if not isinstance(found, Ed25519PublicKey):
        raise BadInput(f"{path}: not an Ed25519 key")
    return found


def _now() -> datetime:
    return datetime.now(UTC)


def _told(options: argparse.Namespace, chinese: str, english: str) -> str:
    return chinese if language(options) == "zh" else english
