"""Power over time of the runs that used most, as a report draws it."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_carbon.schema import Metric

if TYPE_CHECKING:
    from mlflow_carbon.audit.summary import RunEnergyRow

DRAWN_RUNS = 4
STEPS = 120
"""Points of a drawing; a longer series is split into this many spans of equal length."""


@dataclass(frozen=True, slots=True)
class PowerStep:
    """One span of a run: seconds since the first reading, and what was read in it."""

    at_s: float
    low_w: float
    mean_w: float
    high_w: float


@dataclass(frozen=True, slots=True)
class PowerCurve:
    """The power of one run; spans without a reading are left out, never drawn as zero."""

    run_id: str
    name: str
    steps: tuple[PowerStep, ...]


def power_curves(
    rows: Sequence[RunEnergyRow], series: Callable[[str, str], Iterable[tuple[int, float]]]
) -> tuple[PowerCurve, ...]:
    """The curves of the runs that used most; ``series`` reads a metric of a run from the store."""
    most = heapq.nlargest(
        DRAWN_RUNS,
        (row for row in rows if row.energy_j is not None),
        key=lambda row: (row.energy_j.mid if row.energy_j else 0.0, row.run_id),
    )
    drawn = (curve(row.run_id, row.name, series(row.run_id, Metric.POWER_W)) for row in most)
    return tuple(one for one in drawn if one is not None)


def curve(run_id: str, name: str, readings: Iterable[tuple[int, float]]) -> PowerCurve | None:
    """The curve of (Unix milliseconds, watts); ``None`` with fewer than two moments to draw.

    Readings that are no finite number are left out; the order they come in does not matter.
    """
    known = sorted((at_ms, power_w) for at_ms, power_w in readings if math.isfinite(power_w))
    if not known or known[0][0] == known[-1][0]:
        return None
    start_ms, length_ms = known[0][0], known[-1][0] - known[0][0]
    spans: dict[int, list[tuple[int, float]]] = {}
    for at_ms, power_w in known:
        place = min((at_ms - start_ms) * STEPS // length_ms, STEPS - 1)
        spans.setdefault(place, []).append((at_ms, power_w))
    steps = tuple(_step(start_ms, span) for span in spans.values())
    return PowerCurve(run_id, name, steps) if len(steps) > 1 else None


def _step(start_ms: int, span: Sequence[tuple[int, float]]) -> PowerStep:
    watts = [power_w for _, power_w in span]
    at_s = sum(at_ms - start_ms for at_ms, _ in span) / len(span) / 1000
    return PowerStep(at_s, min(watts), sum(watts) / len(watts), max(watts))
