"""What every export is made of: one model version, its runs added up by phase, in joules and grams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mlflow_carbon.datasets.examine import HELD_OUT
from mlflow_carbon.evidence.facts import run_evidence
from mlflow_carbon.evidence.lineage import Registry, Runs, model_facts, read_version, trace
from mlflow_carbon.evidence.model import Evidence
from mlflow_carbon.evidence.trees import (
    count_once,
    emissions_g,
    energy_j,
    node_of,
    number,
    one_basis,
    parent_of,
    text,
)
from mlflow_carbon.schema import Metric, Tag
from mlflow_carbon.units import J_PER_KWH, Range

TRAINING, EVALUATION, WHOLE = "training", "evaluation", "training and evaluation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """The runs of one phase, tuning children and failed ones included."""

    name: str
    runs: int
    child_runs: int
    """Runs nested in another one of the phase: tuning, folds, stages."""
    failed_runs: int
    unmeasured_runs: int
    """Runs without a figure: the sums are lower bounds where there are any."""
    energy_j: Range | None
    boundary_j: float | None
    """Of all reserved devices, where every counted run has that figure."""
    emissions_g: Range | None
    no_emissions: str
    """Why there are none."""
    duration_s: float | None
    """Of the counted runs, one after another."""

    @property
    def note(self) -> str:
        """What a reader must know beside the figure, or ``""``."""
        if not self.unmeasured_runs:
            return ""
        return f"lower bound: {self.unmeasured_runs} of {self.runs} runs have no energy on record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One dataset of the training run; an empty text means nobody said."""

    name: str
    digest: str
    context: str = ""
    sha256: str = ""
    rows: int | None = None
    license: str = ""
    origin: str = ""
    collected: str = ""
    sensitive: str = ""
    declared_by: str = ""
    source: str = ""
    source_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """One model version. Texts are empty, and figures ``None``, where nothing is on record."""

    name: str
    version: str
    created: datetime | None
    source: str = ""
    description: str = ""
    owner: str = ""
    license: str = ""
    purpose: str = ""
    run_id: str = ""
    phases: Mapping[str, Phase] = field(default_factory=dict)
    whole: Phase | None = None
    """All runs of all phases, each counted once."""
    datasets: tuple[Dataset, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    """Of the training run."""

    @property
    def key(self) -> str:
        """Name and version, as identifiers are made of."""
        return f"{self.name}/{self.version}"

    def tag(self, name: str) -> str:
        """A tag of the training run, or ``""``."""
        return self.tags.get(name, "")


def read_record(runs: Runs, registry: Registry, name: str, version: str) -> ModelRecord:
    """Everything about a version that the exports use.

    Raises:
        StoreError: there is no such version.
    """
    whole = read_version(runs, registry, name, version)
    found = registry.get_model_version(name, version)
    lineage = trace(runs, registry, found)
    evidence = {run_id: run_evidence(run, "") for run_id, run in lineage.runs.items()}
    groups = {
        TRAINING: {k: v for k, v in evidence.items() if k not in lineage.evaluations},
        EVALUATION: {k: v for k, v in evidence.items() if k in lineage.evaluations},
    }
    training = evidence[lineage.training.info.run_id] if lineage.training is not None else None
    data = lineage.training.data if lineage.training is not None else None
    model = model_facts(registry.get_registered_model(name))
    return ModelRecord(
        name=name,
        version=str(found.version),
        created=_moment(whole),
        source=text(whole, "version.source"),
        description=text(whole, "version.description") or text(whole, "model.description"),
        owner=_said(whole, model, "owner") or text(whole, f"tag.{Tag.OWNER}"),
        license=_said(whole, model, "license"),
        purpose=_said(whole, model, "purpose") or text(whole, f"tag.{Tag.INTENDED_USE}"),
        run_id=training.subject.key if training is not None else "",
        phases={group: phase(group, members) for group, members in groups.items() if members},
        whole=phase(WHOLE, evidence) if evidence else None,
        datasets=tuple(_dataset(one) for one in training.members["datasets"]) if training else (),
        params=dict(data.params) if data is not None else {},
        metrics=dict(data.metrics) if data is not None else {},
        tags=dict(data.tags) if data is not None else {},
    )


def phase(name: str, runs: Mapping[str, Evidence]) -> Phase:
    """Add up runs so that nothing counts twice; emissions only where all stand on the same basis."""
    counted = count_once({run_id: node_of(run) for run_id, run in runs.items()})
    members = [runs[run_id] for run_id in counted.counted]
    bases = {text(run, f"tag.{Tag.FACTOR_BASIS}") for run in members}
    emitted = [found for run in members if (found := emissions_g(run)) is not None]
    reason = ""
    if members and not one_basis(bases):
        reason = "the runs' emission factors mean different things: " + "; ".join(sorted(bases))
    elif len(emitted) < len(members) or not members:
        reason = "some runs have no emissions on record" if members else "no run was measured"
    return Phase(
        name=name,
        runs=len(runs),
        child_runs=sum(parent_of(run) in runs for run in runs.values()),
        failed_runs=sum(text(run, "run.status") in ("FAILED", "KILLED") for run in runs.values()),
        unmeasured_runs=len(counted.unmeasured),
        energy_j=_sum(energy_j(run) for run in members),
        boundary_j=_plain_sum(members, Metric.BOUNDARY_ENERGY_KWH, J_PER_KWH),
        emissions_g=None if reason else _sum(emitted),
        no_emissions=reason,
        duration_s=_plain_sum(members, Metric.DURATION_S, 1.0),
    )


def _sum(figures: Iterable[Range | None]) -> Range | None:
    total: Range | None = None
    for figure in figures:
        if figure is not None:
            total = figure if total is None else total + figure
    return total


def _plain_sum(runs: Iterable[Evidence], metric: str, factor: float) -> float | None:
    values = [number(run, f"metric.{metric}") for run in runs]
    known = [value for value in values if value is not None]
    return sum(known) * factor if known and len(known) == len(values) else None


def _said(version: Evidence, model: Mapping[str, Any], key: str) -> str:
    """A tag of the version, else of the registered model."""
    if found := text(version, f"version_tag.{key}"):
        return found
    fact = model.get(f"model_tag.{key}")
    return str(fact.value) if fact is not None else ""


def _moment(version: Evidence) -> datetime | None:
    fact = version.facts.get("version.created")
    return fact.value if fact is not None and isinstance(fact.value, datetime) else None


def held_out(dataset: Dataset) -> bool:
    """Whether the dataset was used to test, not to train."""
    return dataset.context.lower() in HELD_OUT


def _dataset(one: Evidence) -> Dataset:
    rows = number(one, "dataset.rows")
    keys = ("license", "origin", "collected", "sensitive", "declared_by", "source", "source_type")
    return Dataset(
        name=text(one, "dataset.name"),
        digest=text(one, "dataset.digest"),
        context=text(one, "dataset.context"),
        sha256=text(one, "dataset.sha256"),
        rows=None if rows is None else int(rows),
        **{key: text(one, f"dataset.{key}") for key in keys},
    )
