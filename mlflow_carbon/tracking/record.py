"""From what was measured to what is written on the run: metrics and tags. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mlflow_carbon import __version__, schema
from mlflow_carbon.carbon.emissions import emissions_g
from mlflow_carbon.carbon.intensity import Factor
from mlflow_carbon.energy.ledger import RunEnergy
from mlflow_carbon.energy.meter import Component
from mlflow_carbon.schema import MIXED_BASES, Metric, Tag
from mlflow_carbon.settings import Settings
from mlflow_carbon.tracking.facts import (
    Base,
    Exit,
    Facts,
    Json,
)
from mlflow_carbon.tracking.provenance import license_of
from mlflow_carbon.units import G_PER_KG, kwh

TAG_LIMIT = 8000
"""Characters of a tag value; MLflow cuts longer ones without a word."""

MEASURED_SHARE = 0.9
"""Below this coverage a run is ``partial``."""

WATCHED_SHARE = 0.1
"""Below this share of its time watched, a run was logged after the fact: nothing to report."""

ADDED_UP = (
    Metric.ENERGY_KWH,
    Metric.ENERGY_KWH_LOW,
    Metric.ENERGY_KWH_HIGH,
    Metric.BOUNDARY_ENERGY_KWH,
    Metric.GPU_ENERGY_KWH,
    Metric.CPU_ENERGY_KWH,
    Metric.DRAM_ENERGY_KWH,
    Metric.EMISSIONS_KG,
    Metric.EMISSIONS_KG_LOW,
    Metric.EMISSIONS_KG_HIGH,
    Metric.MARKET_EMISSIONS_KG,
    Metric.MEASURING_CPU_S,
)


class Record(NamedTuple):
    """One push: what goes on the run."""

    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    step: int


def measured_energy(facts: Facts) -> RunEnergy | None:
    """The account, if it says anything: some energy, over more than a sliver of the run's time."""
    energy = facts.energy
    if energy is None or energy.attributed_j is None or energy.attributed_j.mid <= 0.0:
        return None
    whole_s = energy.duration_s + facts.unseen_s
    return energy if energy.duration_s >= WATCHED_SHARE * whole_s else None


def build(facts: Facts, base: Base, factor: Factor, settings: Settings) -> Record:
    """Metrics and tags for the run as far as it is known; an unknown figure is left out, never 0."""
    energy = measured_energy(facts)
    market = _market_metrics(energy, settings)
    metrics = _metrics(facts, base, energy, factor, market)
    tags = _tags(facts, metrics, energy)
    tags |= _settings_tags(settings)
    if energy is not None:
        tags |= factor_tags(factor) | _basis_tag(base, factor)
    return Record(metrics=metrics, tags=tags, step=base.step + 1)


def _metrics(
    facts: Facts,
    base: Base,
    energy: RunEnergy | None,
    factor: Factor,
    market: Mapping[str, float],
) -> dict[str, float]:
    figures: dict[str, float] = {}
    if energy is not None:
        figures = _energy_metrics(energy) | _emission_metrics(energy, factor) | dict(market)
    figures |= _cost_metric(facts)
    for name in ADDED_UP:
        if name in figures and name in base.metrics:
            figures[name] += base.metrics[name]
    # Far beyond what is known of any of them: the page of a run shows every digit there is.
    figures = {name: float(f"{value:.9g}") for name, value in figures.items()}
    return figures | _coverage_metrics(facts, base, energy)


def _cost_metric(facts: Facts) -> dict[str, float]:
    """What measuring has cost: at the end only, while the power takes the 15th place of a push before."""
    if facts.exit is None or facts.energy is None or facts.energy.measuring_cpu_s is None:
        return {}
    return {Metric.MEASURING_CPU_S: facts.energy.measuring_cpu_s}


def _energy_metrics(energy: RunEnergy) -> dict[str, float]:
    total, boundary = energy.attributed_j, energy.boundary_j
    if total is None or boundary is None:
        return {}
    figures = {
        Metric.ENERGY_KWH: kwh(total.mid),
        Metric.ENERGY_KWH_LOW: kwh(total.low),
        Metric.ENERGY_KWH_HIGH: kwh(total.high),
        Metric.BOUNDARY_ENERGY_KWH: kwh(boundary.mid),
    }
    for component, name in (
        (Component.GPU, Metric.GPU_ENERGY_KWH),
        (Component.CPU, Metric.CPU_ENERGY_KWH),
        (Component.DRAM, Metric.DRAM_ENERGY_KWH),
    ):
        parts = [p.attributed_j.mid for p in energy.components if p.component is component]
        if parts:
            figures[name] = kwh(sum(parts))
    return figures


def _emission_metrics(energy: RunEnergy, factor: Factor) -> dict[str, float]:
    total = energy.attributed_j
    if total is None:
        return {}
    emitted = emissions_g(total, factor)
    return {
        Metric.EMISSIONS_KG: emitted.mid / G_PER_KG,
        Metric.EMISSIONS_KG_LOW: emitted.low / G_PER_KG,
        Metric.EMISSIONS_KG_HIGH: emitted.high / G_PER_KG,
    }


def _market_metrics(energy: RunEnergy | None, settings: Settings) -> dict[str, float]:
    """With the declared contract's factor; a factor whose contract is not named does not count."""
    total = None if energy is None else energy.attributed_j
    if total is None or settings.contract_g_per_kwh is None or not settings.contract:
        return {}
    return {Metric.MARKET_EMISSIONS_KG: kwh(total.mid) * settings.contract_g_per_kwh / G_PER_KG}


def _basis_tag(base: Base, factor: Factor) -> dict[str, str]:
    """Sums over sessions whose factors mean different things must not pass for either."""
    if base.basis in ("", factor.basis_text):
        return {}
    before = base.basis.removeprefix(MIXED_BASES)
    both = before if factor.basis_text in before.split("; ") else f"{before}; {factor.basis_text}"
    return {Tag.FACTOR_BASIS: MIXED_BASES + both}


def _coverage_metrics(facts: Facts, base: Base, energy: RunEnergy | None) -> dict[str, float]:
    """Over all sessions of the run: measured time by wall time, and that wall time."""
    watched_s = facts.energy.duration_s if facts.energy is not None else 0.0
    covered_s = energy.coverage * watched_s if energy is not None else 0.0
    before_s = base.metrics.get(Metric.DURATION_S, 0.0)
    whole_s = before_s + watched_s + facts.unseen_s + base.unseen_s
    covered_s += before_s * base.metrics.get(Metric.COVERAGE, 0.0)
    figures = {
        Metric.DURATION_S: whole_s,
        Metric.COVERAGE: min(1.0, covered_s / whole_s) if whole_s else 0.0,
    }
    if energy is not None:
        figures[Metric.LARGEST_GAP_S] = max(
            energy.largest_gap_s, base.metrics.get(Metric.LARGEST_GAP_S, 0.0)
        )
    return figures


def _status(facts: Facts, coverage: float, energy: RunEnergy | None) -> str:
    if facts.exit is Exit.RECOVERED:
        return "truncated"
    if facts.exit is None:
        return "measuring"
    if energy is None and coverage == 0.0:
        return "not-measured"
    return "measured" if coverage >= MEASURED_SHARE else "partial"


def _tags(facts: Facts, metrics: Mapping[str, float], energy: RunEnergy | None) -> dict[str, str]:
    tags = {
        Tag.SCHEMA: str(schema.SCHEMA_VERSION),
        Tag.VERSION: __version__,
        Tag.STATUS: _status(facts, metrics[Metric.COVERAGE], energy),
    }
    if facts.exit is not None:
        tags[Tag.EXIT] = facts.exit.value
    if facts.parent:
        tags[Tag.TREE] = "inclusive"
    if facts.hardware:
        tags[Tag.HARDWARE] = facts.hardware
    if energy is not None:
        tags[Tag.GRADE] = energy.grade
        tags[Tag.METHOD] = energy.method.value
        tags[Tag.METHODS] = _compact({p.component.value: p.method.value for p in energy.components})
    not_measured = not_measured_reasons(facts, energy)
    if not_measured:
        tags[Tag.NOT_MEASURED] = _compact(not_measured)
    if facts.datasets:
        tags[Tag.DATASETS] = _list_that_fits([_short(d) for d in facts.datasets])
        if conflicts := role_conflicts(facts.datasets):
            tags[Tag.DATA_CONFLICT] = _list_that_fits(list(conflicts))
        tags |= _leakage_tags(facts.datasets)
    return tags


def _leakage_tags(datasets: Sequence[Json]) -> dict[str, str]:
    """Shared rows of training and held-out data; no tag at all when nothing could be compared."""
    if not any("leaks" in item for item in datasets):
        return {}
    found = [leak for item in datasets for leak in item.get("leaks", ())]
    tags = {Tag.LEAKAGE_SHARE: f"{max((leak['share'] for leak in found), default=0.0):g}"}
    if found:
        tags[Tag.LEAKAGE] = _list_that_fits(found)
    return tags


def not_measured_reasons(facts: Facts, energy: RunEnergy | None) -> dict[str, str]:
    """Component -> why there is no figure for it; ``run`` when there is none at all."""
    reasons: dict[str, str] = {}
    if facts.energy is not None:
        for part in facts.energy.unmeasured:
            name = part.component.value
            reasons[name] = "; ".join(filter(None, (reasons.get(name), part.reason)))
    if energy is None:
        reasons["run"] = _why_nothing(facts)
    return reasons


def _why_nothing(facts: Facts) -> str:
    if facts.energy is None:
        return facts.troubles[0] if facts.troubles else "no meter could be opened"
    if facts.unseen_s > facts.energy.duration_s:
        return "logged after the fact: the work was done before the run was created"
    if not facts.energy.components:
        return "no meter on this host"
    return "too short for any meter to advance"


def factor_tags(factor: Factor) -> dict[str, str]:
    """The factor's record, as tags."""
    return {
        Tag.REGION: factor.region,
        Tag.REGION_SOURCE: factor.region_source,
        Tag.FACTOR: f"{factor.g_per_kwh.mid:g}",
        Tag.FACTOR_SOURCE: factor.title,
        Tag.FACTOR_YEAR: str(factor.year),
        Tag.FACTOR_BASIS: factor.basis_text,
        Tag.FACTOR_LICENSE: factor.license,
        Tag.FACTOR_TABLE_SHA256: factor.table_sha256,
    }


def _settings_tags(settings: Settings) -> dict[str, str]:
    values = {
        Tag.PUE: _plain(settings.pue),
        Tag.MARKET_FACTOR: None
        if settings.contract is None
        else _plain(settings.contract_g_per_kwh),
        Tag.MARKET_SOURCE: None if settings.contract_g_per_kwh is None else settings.contract,
        Tag.PROJECT: settings.project,
        Tag.PHASE: settings.phase,
        Tag.INTENDED_USE: settings.intended_use,
        Tag.OWNER: settings.owner,
    }
    return {name: value for name, value in values.items() if value}


def _plain(figure: float | None) -> str | None:
    return None if figure is None else f"{figure:g}"


def role_conflicts(datasets: Sequence[Json]) -> tuple[str, ...]:
    """Names of datasets whose content was used in two roles; MLflow itself keeps only the first role."""
    roles: dict[str, set[str]] = {}
    names: dict[str, str] = {}
    for item in datasets:
        content = item.get("sha256") or f"{item['name']}/{item['digest']}"
        names.setdefault(content, item["name"])
        if item.get("context"):
            roles.setdefault(content, set()).add(item["context"])
    return tuple(names[content] for content, seen in roles.items() if len(seen) > 1)


def _short(item: Json) -> Json:
    """What the tag shows of one dataset."""
    keep = ("name", "digest", "context", "sha256", "rows")
    short = {key: item[key] for key in keep if item.get(key) not in (None, "")}
    return short | ({"license": found} if (found := license_of(item)) else {})


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _list_that_fits(items: list[object] | list[Json] | list[str]) -> str:
    """As many entries as fit a tag, then how many more there are."""
    kept: list[object] = list(items)
    text = json.dumps(kept, separators=(",", ":"), ensure_ascii=False)
    while len(text) > TAG_LIMIT and kept:
        kept = kept[: len(kept) * 3 // 4]
        more: list[object] = [{"more": len(items) - len(kept)}]
        text = json.dumps(kept + more, separators=(",", ":"), ensure_ascii=False)
    return text
