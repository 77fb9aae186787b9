"""What one process knows about one run it watched: kept in the spool, put on the run, found again after a crash."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from mlflow_carbon.energy.ledger import ComponentEnergy, PowerPoint, RunEnergy
from mlflow_carbon.energy.meter import Component, Method, Unmeasured
from mlflow_carbon.tracking.ranks import Place
from mlflow_carbon.units import Range

Json = dict[str, Any]


class Origin(str, Enum):
    """How this process came to the run."""

    CREATED = "created"
    RESUMED = "resumed"
    """Set running again here, or handed to ``start_run(run_id=...)``."""
    ATTACHED = "attached"
    """Logged to without being started here: counted from the first to the last log call."""
    INHERITED = "inherited"
    """Named by MLFLOW_RUN_ID: a child of ``mlflow run`` or of a launcher."""


class Exit(str, Enum):
    """How the run ended as we saw it; values of ``schema.Tag.EXIT``."""

    FINISHED = "finished"
    FAILED = "failed"
    KILLED = "killed"
    EXCEPTION = "exception"
    """The script died of an unhandled exception, whatever status MLflow gave the run."""
    PROCESS_EXIT = "process-exit"
    RECOVERED = "recovered"
    """The process died without a word; the record was completed from its spool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What earlier sessions recorded on the same run; a resumed run continues from it."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    step: int = -1
    """Largest step of our metrics; -1 when there are none."""
    seals: int = 0
    """Evidence documents already sealed on the run."""
    seal: str = ""
    """SHA-256 of the latest of them."""
    datasets: Sequence[Json] = ()
    basis: str = ""
    """What the emission factor of the figures on the run means; empty when there are none."""
    unseen_s: float = 0.0
    """Run time before this session that nobody watched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One session of one run. Times are ISO 8601 in UTC; durations are from the monotonic clock."""

    run_id: str
    tracking_uri: str
    """Without its password."""
    origin: Origin
    opened_at: str
    process_id: int
    place: Place | None = None
    """Of a job on several hosts."""
    hardware: str = ""
    unseen_s: float = 0.0
    """Run time before we could watch: a run created with a start time in the past."""
    energy: RunEnergy | None = None
    ended_at: str = ""
    """"" while the run is open."""
    exit: Exit | None = None
    parent: bool = False
    """Other runs were nested in this one."""
    datasets: Sequence[Json] = ()
    """One object per dataset input, in the order logged."""
    troubles: Sequence[str] = ()
    """What we could not do, for the reader of the evidence."""
    base: Base | None = None
    """``None``: not read yet, so nothing of this session is on the run."""
    pushed: Mapping[str, float] = field(default_factory=dict)
    """Our metrics as this session last put them on the run; empty before the first time."""
    declared: Mapping[str, str | float] = field(default_factory=dict)
    """What was set of ``settings.OF_THE_RECORD``: whoever completes the record may have other settings."""


def range_to_json(value: Range | None) -> Json | None:
    """``{"low": ..., "mid": ..., "high": ...}``, or ``None``."""
    return None if value is None else {"low": value.low, "mid": value.mid, "high": value.high}


def _range(data: Json) -> Range:
    return Range(float(data["low"]), float(data["mid"]), float(data["high"]))


def energy_to_json(energy: RunEnergy, *, power_after_s: float = -1.0) -> Json:
    """The account as plain JSON, with the points of the power series after ``power_after_s``."""
    return {
        "duration_s": energy.duration_s,
        "measuring_cpu_s": energy.measuring_cpu_s,
        "components": [
            {
                "component": part.component.value,
                "method": part.method.value,
                "attributed_j": range_to_json(part.attributed_j),
                "boundary_j": range_to_json(part.boundary_j),
                "coverage": part.coverage,
                "largest_gap_s": part.largest_gap_s,
                "readings": part.readings,
                "meters": list(part.meters),
                "sensor_note": part.sensor_note,
            }
            for part in energy.components
        ],
        "unmeasured": [
            {"component": part.component.value, "reason": part.reason} for part in energy.unmeasured
        ],
        "power_w": [[p.at_s, p.power_w] for p in energy.power if p.at_s > power_after_s],
    }


def energy_from_json(data: Json) -> RunEnergy:
    """The account again.

    Raises:
        KeyError, TypeError, ValueError: the data is not what ``energy_to_json`` writes.
    """
    return RunEnergy(
        duration_s=float(data["duration_s"]),
        components=tuple(
            ComponentEnergy(
                component=Component(part["component"]),
                method=Method(part["method"]),
                attributed_j=_range(part["attributed_j"]),
                boundary_j=_range(part["boundary_j"]),
                coverage=float(part["coverage"]),
                largest_gap_s=float(part["largest_gap_s"]),
                readings=int(part["readings"]),
                meters=tuple(part["meters"]),
                sensor_note=str(part["sensor_note"]),
            )
            for part in data["components"]
        ),
        unmeasured=tuple(
            Unmeasured(Component(part["component"]), str(part["reason"]))
            for part in data["unmeasured"]
        ),
        power=tuple(PowerPoint(at_s=float(at), power_w=float(w)) for at, w in data["power_w"]),
        measuring_cpu_s=None if (spent := data.get("measuring_cpu_s")) is None else float(spent),
    )


def until(energy: RunEnergy, at_s: float) -> RunEnergy:
    """The part of an account up to ``at_s`` seconds after its start, shared out by the power series.

    Every component keeps its share of the whole: which one drew how much when is not in the series.
    """
    if at_s >= energy.duration_s:
        return energy
    total = _joules(energy.power, energy.duration_s)
    share = _joules(energy.power, at_s) / total if total else at_s / energy.duration_s
    return replace(
        energy,
        duration_s=at_s,
        components=tuple(
            replace(
                part,
                attributed_j=part.attributed_j.scaled(share),
                boundary_j=part.boundary_j.scaled(share),
                largest_gap_s=min(part.largest_gap_s, at_s),
            )
            for part in energy.components
        ),
        power=tuple(point for point in energy.power if point.at_s <= at_s),
    )


def _joules(power: Sequence[PowerPoint], until_s: float) -> float:
    """Integral of the series up to ``until_s``; the last point's power holds after it."""
    joules, since_s, last_w = 0.0, 0.0, 0.0
    for point in power:
        joules += point.power_w * max(0.0, min(point.at_s, until_s) - since_s)
        since_s, last_w = max(since_s, min(point.at_s, until_s)), point.power_w
    return joules + last_w * max(0.0, until_s - since_s)


def canonical(value: object) -> Any:
    """``value`` with what RFC 8785 has no form for as text: NaN, infinities, integers beyond 2**53."""
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**53:
        return str(value)
    return value
