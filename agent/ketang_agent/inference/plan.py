"""What a worker is to do and what it may cost: plain values, standard library only."""

from dataclasses import dataclass, field
from pathlib import Path

from ketang_agent.inference.sources import Source, source_of
from ketang_contract.config import COUNTED_EVERY_S
from ketang_contract.errors import BadInput
from ketang_models import registry
from ketang_models.manifest import ModelRefused
from ketang_models.registry import Model

_MEGABYTE = 1 << 20
LEAST_SCAN_S = 1
MOST_SCAN_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a worker is killed.

    The worker has one thread and rests after each scan for as long as the scan took, so it comes
    to half a core at most and means nothing by 80 %: only one that ran wild gets there.
    """

    rss_bytes: int = 400 * _MEGABYTE
    cpu_share: float = 0.8
    """Of one core, over ``cpu_over_s``."""
    cpu_over_s: float = 60.0
    start_s: float = 60.0
    """From its start to the first sign of life: libraries and model on a slow disk."""
    heartbeat_s: float = 15.0
    """Longer than the worker's own deadlines for opening and reading a source together."""
    breaches: int = 5
    """So many by the model within ``breaches_over_s`` put it into quarantine."""
    breaches_over_s: float = 3600.0
    backoff_s: float = 5.0
    """Most that is waited before the first restart; doubles, up to ``most_backoff_s``."""
    most_backoff_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CountingPlan:
    """Count heads in ``source`` with the model ``model``, every ``scan_s`` seconds.

    ``folder``: where a model lies that was fetched; empty: the one of this name that was shipped.
    ``least_pct``: how sure the model must be of a head, where its manifest asks for less.
    ``every_s``: only in the first five minutes of each such stretch, counted from the full hour.
    """

    source: Source
    model: str
    scan_s: int
    folder: str = ""
    least_pct: int = 0
    every_s: int = COUNTED_EVERY_S[0]
    limits: Limits = field(default_factory=Limits)


def model_of(name: str, folder: str) -> Model:
    """Open the model of a plan; its files are checked by whoever loads it.

    Raises:
        ModelRefused: it is not there, is another, or its manifest is refused.
    """
    if not folder:
        return registry.shipped(name)
    model = registry.open_model(Path(folder))
    if model.manifest.name != name:
        raise ModelRefused(f"{folder}: holds {model.manifest.name}, not {name}")
    return model


def plan_of(
    source: str,
    model: str,
    scan_s: int,
    *,
    folder: str = "",
    least_pct: int = 0,
    every_s: int = COUNTED_EVERY_S[0],
) -> CountingPlan:
    """Make a plan from what a person or a configuration says.

    Raises:
        BadInput: a camera, a source or model that is not there, an interval out of range.
    """
    if every_s not in COUNTED_EVERY_S:
        raise BadInput(f"every_s: one of {', '.join(map(str, COUNTED_EVERY_S))} is needed")
    if type(scan_s) is not int or not LEAST_SCAN_S <= scan_s <= MOST_SCAN_S:
        raise BadInput(f"scan_s: whole seconds from {LEAST_SCAN_S} to {MOST_SCAN_S} are needed")
    try:
        model_of(model, folder)
    except ModelRefused as refused:
        raise BadInput(f"model: {refused}") from None
    return CountingPlan(
        source=source_of(source),
        model=model,
        scan_s=scan_s,
        folder=folder,
        least_pct=least_pct,
        every_s=every_s,
    )
