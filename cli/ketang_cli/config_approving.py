"""``ketang config approve``: at the centre's machine, a second person proves which account is his.

Whoever may write the centre's files would pass for anybody by his login alone; so approving asks
for an account of the console, with its password and its right to approve there.
"""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ketang_cli.own_account import proved
from ketang_contract.errors import BadInput

if TYPE_CHECKING:
    from ketang_center.access.accounts import Account
    from ketang_center.rollouts.office import Office


def approve(office: "Office", folder: Path, options: argparse.Namespace) -> None:
    """Approve a rollout as an account, once it is proved to be the person's own.

    Raises:
        BadInput: it is not, may not approve there, or has had a hand in the rollout itself.
    """
    from ketang_center.rollouts.office import this_person

    target = office.look.rollout(options.rollout).target
    account = proved(folder, options.account, password_stdin=options.password_stdin)
    _refuse_unless_approver(folder, account, target)
    office.approve(options.rollout, account.name, this_person())


def _refuse_unless_approver(folder: Path, account: "Account", target: str) -> None:
    """Refuse an account without the right to approve where a rollout goes.

    Raises:
        BadInput: it has no such right.
    """
    from ketang_center.access import policy
    from ketang_center.access.policy import Action
    from ketang_center.registry.database import Registry
    from ketang_center.rollouts.admitting import way_of

    with Registry(folder / "registry.db") as registry:
        tree, unit = registry.tree(), target
        if target not in tree:
            way = way_of(registry, target, time.time_ns() // 10**6)
            unit = way[-1].unit if way else ""
        if not policy.may(account.actor, Action.APPROVE, tree, unit):
            raise BadInput(
                f"--as {account.name}: may not approve for {target}; an approver there is needed:"
                " ketang center account grant"
            )
