"""A profile in the words of a configuration: the base that a device's layers are laid on.

Standard library only: the supervisor merges.
"""

from typing import Any

from ketang_contract.config import COLLECTORS, Config
from ketang_profiles.profile import Profile, ReportedBy, kinds, shipped


def as_config(profile: Profile) -> Config:
    """Say what a kind of device does where no layer speaks.

    Returns:
        Every field that a profile speaks of. A collector it does not name is 0: off, whatever a
        layer says. Its programs are not among them: ``Config.foreground`` comes on top of those.
    """
    said: dict[str, Any] = {f"{name}_s": profile.intervals_s.get(name, 0) for name in COLLECTORS}
    return Config(
        inference=profile.inference,
        spool_max_mb=profile.caps.spool_max_mb or None,  # 0: it keeps none itself, so no cap
        **said,
    )


def agents() -> list[Config]:
    """Say what the profiles of this release come to, of the kinds an agent runs on.

    Only these ever hold a layer: a gateway's children and what a feed reports have no agent.
    """
    found = map(shipped, kinds())
    return [as_config(one) for one in found if one.reported_by is ReportedBy.AGENT]
