"""Counting people, from the main loop's side: whether it is on at all, by what, what it told."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ketang_agent.clock import Instant
from ketang_agent.inference.sources import SourceKind
from ketang_agent.inference.switch import KillSwitch
from ketang_agent.remote.machine import Works
from ketang_agent.settings import OccupancySettings
from ketang_contract.config import Config, ModelChoice, counted_every_s
from ketang_contract.errors import BadInput
from ketang_contract.state import Camera
from ketang_profiles.profile import Profile

if TYPE_CHECKING:
    from ketang_agent.inference.supervise import Counting, CountingPlan, Told

log = logging.getLogger("ketang.service")

LOOKS_OF_A_TRIAL, WITHIN_A_TRIAL_S = 3, 30
"""A model on trial has to look so often, and fewer times where it looks too seldom for that."""


class HeadCounting:
    """``allow`` says whether heads may be counted now; ``step`` every second. One thread.

    The worker is made when it is first allowed, and ended for good when it no longer is, or is to
    count by something else: the next one is a new one.
    """

    def __init__(
        self, asked: OccupancySettings | None, kind: Profile, switch: KillSwitch, models: Path
    ) -> None:
        self._asked = asked
        self._switch = switch
        self._models = models
        _refuse_personal(asked, kind)
        self._plan = self._plan_of(Config())
        self._counting: Counting | None = None
        self._model = asked.model if asked else ""

    @property
    def is_asked(self) -> bool:
        """Whether there is anything to count in."""
        return self._asked is not None

    @property
    def model(self) -> str:
        """Name of the model that counts, and its version where a configuration chose it."""
        return self._model

    @property
    def is_live(self) -> bool:
        """Whether it looks at what happens now, and not at a film that a person chose."""
        return self._plan is not None and self._plan.source.kind is SourceKind.STREAM

    @property
    def camera(self) -> Camera:
        """Whether people are being counted, as the device reports it."""
        if self._counting is not None:
            return self._counting.camera
        if self._switch.engaged:
            return Camera.STOPPED
        return Camera.FAILED if self._asked is not None and self._plan is None else Camera.OFF

    @property
    def works(self) -> Works:
        """How the model does since it was begun with; not asked where nothing may be counted."""
        if self._asked is not None and self._plan is None:
            return Works.NO
        if self._counting is None or self._switch.engaged:
            return Works.NOT_ASKED
        if self._counting.is_blamed:
            return Works.NO
        scan_s = self._plan.scan_s if self._plan else 1
        enough = min(LOOKS_OF_A_TRIAL, 1 + WITHIN_A_TRIAL_S // scan_s)
        if self._counting.looks >= enough:
            return Works.YES
        # between windows there is nothing to look at until long after a trial ended
        return Works.NOT_ASKED if self._counting.rests else Works.PENDING

    def use(self, said: Config) -> None:
        """Count as a configuration says from now on."""
        plan = self._plan_of(said)
        if said.model is not None and self._asked is not None:
            self._model = f"{said.model.name} {said.model.version}"
        else:
            self._model = self._asked.model if self._asked else ""
        if plan != self._plan:
            self.stop()
        self._plan = plan

    def allow(self, *, allowed: bool) -> None:
        """Count from now on, or end the worker at once."""
        if self._plan is None or allowed is (self._counting is not None):
            return
        if not allowed:
            self.stop()
            return
        from ketang_agent.inference.supervise import Counting  # noqa: PLC0415  (see _plan_of)

        self._counting = Counting(self._plan, self._switch)

    def step(self, now: Instant) -> "list[Told]":
        """Do what is due; windows that ended and events."""
        return self._counting.step(now) if self._counting is not None else []

    def stop(self) -> None:
        """End the worker; its unfinished window is dropped."""
        if self._counting is not None:
            self._counting.stop()
        self._counting = None

    def _plan_of(self, said: Config) -> "CountingPlan | None":
        """Plan what counts people; None where nobody asks for it, or it cannot be.

        A configuration may have it look less often than this device's settings, never more.
        """
        asked = self._asked
        if asked is None:
            return None
        # Only a device that counts pays for this.
        from ketang_agent.inference.supervise import plan_of  # noqa: PLC0415

        try:
            return plan_of(
                asked.source,
                said.model.name if said.model else asked.model,
                max(said.scan_s or 0, asked.scan_s),
                folder=self._folder_of(said.model) if said.model else "",
                least_pct=said.score_min_pct or 0,
                every_s=counted_every_s(said.occupancy_s or 0),
            )
        except BadInput as problem:  # a clip that is gone must not end what is reported of use
            log.error("occupancy.not_counting why=%s", problem)  # noqa: TRY400  (a person's mistake)
            return None

    def _folder_of(self, choice: ModelChoice) -> str:
        """Return where a model lies; empty for one that was shipped.

        Raises:
            BadInput: it was not fetched, or has been damaged since.
        """
        from ketang_agent.remote.model_store import Chosen, found, is_shipped  # noqa: PLC0415
        from ketang_models.manifest import ModelRefused  # noqa: PLC0415

        chosen = Chosen(choice.name, choice.version, choice.sha256)
        try:
            return "" if is_shipped(chosen) else str(found(self._models, chosen).folder)
        except ModelRefused as refused:
            raise BadInput(f"model: {refused}") from None


def _refuse_personal(asked: OccupancySettings | None, kind: Profile) -> None:
    """Refuse to count on a device of one person.

    Raises:
        BadInput: it is one.
    """
    if asked is not None and "occupancy" not in kind.intervals_s:
        raise BadInput(f"occupancy: a {kind.kind} never counts people; take [occupancy] out")
