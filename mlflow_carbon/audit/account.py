"""The energy account and the dataset register of an audit, built from the evidence of its runs."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from mlflow_carbon.audit.exact import total as exact_total
from mlflow_carbon.audit.summary import DatasetRow, EnergyAccount, MeasuringCost, RunEnergyRow
from mlflow_carbon.evidence.model import Evidence
from mlflow_carbon.evidence.trees import (
    Counted,
    count_once,
    emissions_g,
    energy_j,
    moment_of,
    node_of,
    number,
    one_basis,
    parent_of,
    text,
)
from mlflow_carbon.schema import PREFIX_METRIC, Metric, Tag
from mlflow_carbon.units import J_PER_KWH, Range

MEASURED = ("counter", "sampled")
_METHODS = (*MEASURED, "modelled", "declared")
FAILED = ("FAILED", "KILLED")
FAILED_EXITS = ("failed", "killed", "exception")
_QUALITY_METRICS = 12
_NOT_QUALITY = (PREFIX_METRIC, "system/")


def energy_account(runs: Sequence[Evidence], model_names: Mapping[str, str]) -> EnergyAccount:
    """Add up the runs, each tree once. ``model_names``: run id -> the versions it trained, in words.

    Every run is in exactly one of: counted, inside a counted one, unmeasured.
    """
    by_id = {run.subject.key: run for run in runs}
    groups = count_once({run_id: node_of(run) for run_id, run in by_id.items()})
    counted = [by_id[run_id] for run_id in groups.counted]
    energies = [energy for run in counted if (energy := energy_j(run)) is not None]
    total = _added(energies) if energies else None
    measured = exact_total(_measured_j(run) for run in counted)
    emissions = [found for run in counted if (found := emissions_g(run)) is not None]
    bases = {text(run, f"tag.{Tag.FACTOR_BASIS}") for run in counted if emissions_g(run)}
    return EnergyAccount(
        rows=tuple(energy_row(run, model_names.get(run.subject.key, "")) for run in runs),
        total_j=total,
        measured_j=measured,
        modelled_j=max((total.mid if total else 0.0) - measured, 0.0),
        emissions_g=_added(emissions) if one_basis(bases) else None,
        runs_counted=len(groups.counted),
        runs_inside_counted=len(groups.inside),
        runs_unmeasured=len(groups.unmeasured),
        failed_runs_j=_failed_j(by_id, groups),
        factors=tuple(sorted({factor for run in counted if (factor := _factor(run))})),
        measuring=_measuring(counted),
    )


def _measuring(counted: Sequence[Evidence]) -> MeasuringCost | None:
    """The sum over the runs that tell both what measuring took and how long they ran."""
    told = [
        (cpu_s, wall_s)
        for run in counted
        if (cpu_s := number(run, f"metric.{Metric.MEASURING_CPU_S}")) is not None
        and cpu_s >= 0
        and (wall_s := number(run, "run.duration_s")) is not None
    ]
    if not told:
        return None
    cpu_s, wall_s = (exact_total(values) for values in zip(*told, strict=True))
    return MeasuringCost(cpu_s, wall_s, len(told))


def _added(ranges: Sequence[Range]) -> Range:
    return Range(
        exact_total(one.low for one in ranges),
        exact_total(one.mid for one in ranges),
        exact_total(one.high for one in ranges),
    )


def energy_row(run: Evidence, model_name: str) -> RunEnergyRow:
    """The energy and carbon of one run as it is on record."""
    return RunEnergyRow(
        run_id=run.subject.key,
        name=text(run, "run.name") or run.subject.key,
        experiment=text(run, "run.experiment"),
        status=text(run, "run.status"),
        parent_id=parent_of(run),
        model_name=model_name,
        start_time=moment_of(run, "run.start_time"),
        duration_s=number(run, "run.duration_s"),
        energy_j=energy_j(run),
        gpu_j=_component_j(run, Metric.GPU_ENERGY_KWH),
        cpu_j=_component_j(run, Metric.CPU_ENERGY_KWH),
        dram_j=_component_j(run, Metric.DRAM_ENERGY_KWH),
        emissions_g=emissions_g(run),
        coverage=number(run, f"metric.{Metric.COVERAGE}"),
        method=method if (method := text(run, f"tag.{Tag.METHOD}")) in _METHODS else "missing",
        grade=text(run, f"tag.{Tag.GRADE}"),
        region=text(run, f"tag.{Tag.REGION}"),
        factor=_factor(run),
        quality=_quality(run),
    )


def _component_j(run: Evidence, metric: str) -> float | None:
    energy_kwh = number(run, f"metric.{metric}")
    return None if energy_kwh is None else energy_kwh * J_PER_KWH


def _measured_j(run: Evidence) -> float:
    """The part of a run's energy that came from counters and sensors.

    Where the record tells method and energy of each component, the total is split like
    them; otherwise the method behind most of the energy stands for all of it.
    """
    total = energy_j(run)
    if total is None:
        return 0.0
    parts = {
        "gpu": _component_j(run, Metric.GPU_ENERGY_KWH),
        "cpu": _component_j(run, Metric.CPU_ENERGY_KWH),
        "dram": _component_j(run, Metric.DRAM_ENERGY_KWH),
    }
    methods = methods_of(text(run, f"tag.{Tag.METHODS}"))
    known = {name: part for name, part in parts.items() if part is not None and name in methods}
    if (whole := sum(known.values())) > 0:
        measured = sum(part for name, part in known.items() if methods[name] in MEASURED)
        return total.mid * measured / whole
    return total.mid if text(run, f"tag.{Tag.METHOD}") in MEASURED else 0.0


def methods_of(json_text: str) -> Mapping[str, object]:
    """Component -> method as a run's tag tells; empty where it cannot be read."""
    try:
        found = json.loads(json_text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _failed_j(runs: Mapping[str, Evidence], groups: Counted) -> float:
    """What runs that failed used, a failed run inside a failed one only once."""
    measured = {*groups.counted, *groups.inside}
    return exact_total(
        energy.mid
        for run_id in measured
        if _failed(runs[run_id])
        and (energy := energy_j(runs[run_id])) is not None
        and not _inside_failed(run_id, runs, groups)
    )


def _failed(run: Evidence) -> bool:
    return text(run, "run.status") in FAILED or text(run, f"tag.{Tag.EXIT}") in FAILED_EXITS


def _inside_failed(run_id: str, runs: Mapping[str, Evidence], groups: Counted) -> bool:
    while run_id in groups.inside:
        run_id = parent_of(runs[run_id])
        if _failed(runs[run_id]) and energy_j(runs[run_id]) is not None:
            return True
    return False


def _factor(run: Evidence) -> str:
    tags = (Tag.FACTOR, Tag.FACTOR_SOURCE, Tag.FACTOR_YEAR, Tag.FACTOR_BASIS)
    return factor_text(*(text(run, f"tag.{tag}") for tag in tags))


def factor_text(value: str, *origin: str) -> str:
    """A factor for a person: ``41.4 g/kWh, Ember 2026, 2025, lifecycle``; empty without a value."""
    return ", ".join([f"{value} g/kWh", *filter(None, origin)]) if value else ""


def _quality(run: Evidence) -> Mapping[str, float]:
    names = sorted(
        key.removeprefix("metric.")
        for key, fact in run.facts.items()
        if key.startswith("metric.")
        and not key.removeprefix("metric.").startswith(_NOT_QUALITY)
        and isinstance(fact.value, int | float)
        and math.isfinite(fact.value)
    )
    return {name: number(run, f"metric.{name}") or 0.0 for name in names[:_QUALITY_METRICS]}


def dataset_register(runs: Sequence[Evidence]) -> tuple[DatasetRow, ...]:
    """Each content of each dataset once, with the number of runs that used it."""
    uses: dict[tuple[str, str, str], list[tuple[str, Evidence]]] = defaultdict(list)
    for run in runs:
        for one in run.members["datasets"]:
            key = (
                text(one, "dataset.name"),
                text(one, "dataset.digest"),
                text(one, "dataset.sha256"),
            )
            uses[key].append((run.subject.key, one))
    return tuple(_dataset_row(key, uses[key]) for key in sorted(uses))


def _dataset_row(key: tuple[str, str, str], uses: Sequence[tuple[str, Evidence]]) -> DatasetRow:
    def said(fact: str) -> str:
        """What was said of it; every differing word of different runs."""
        return " | ".join(sorted({text(one, fact) for _, one in uses} - {""}))

    rows = {number(one, "dataset.rows") for _, one in uses} - {None}
    only = rows.pop() if len(rows) == 1 else None
    return DatasetRow(
        name=key[0],
        digest=key[1],
        sha256=key[2],
        hash_scope=said("dataset.hash_scope"),
        rows=None if only is None else int(only),
        license=said("dataset.license"),
        origin=said("dataset.origin"),
        sensitive=said("dataset.sensitive"),
        declared_by=said("dataset.declared_by"),
        contexts=tuple(sorted({text(one, "dataset.context") for _, one in uses} - {""})),
        runs=len({run_id for run_id, _ in uses}),
        source=said("dataset.source"),
    )
