"""From a model version to every run behind it, and to the evidence a policy asks about.

``Runs`` and ``Registry`` name the few calls needed; ``MlflowClient`` has them all, and so have
MLflow's own tracking and registry stores, so that the gate reads the same way inside the server.
What a caller cannot be believed about is not believed: a version whose source and whose run id
name different runs has no training run.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from mlflow_carbon.errors import StoreError
from mlflow_carbon.evidence import attestation
from mlflow_carbon.evidence.facts import PARENT_TAG, known, moment, run_evidence
from mlflow_carbon.evidence.model import Evidence, Fact, FactValue, Subject, SubjectKind
from mlflow_carbon.evidence.trees import (
    count_once,
    emissions_g,
    energy_j,
    node_of,
    one_basis,
    text,
)
from mlflow_carbon.schema import Tag
from mlflow_carbon.units import G_PER_KG, Range, kwh

MAX_RUNS = 5_000
"""A lineage with more runs is not totalled: its energy is unknown rather than partly counted."""
_MAX_DEPTH = 16
_PAGE = 1_000
_ALL_RUNS = 3
"""``mlflow.entities.ViewType.ALL``, deleted runs too."""

_LOGGED_MODEL = re.compile(r"models:/(m-[0-9a-zA-Z]+)(?:/.*)?")
_REGISTERED = re.compile(r"models:/([^@]+)/(\d+)")
_RUN = re.compile(r"(?:runs:/|mlflow-artifacts:/+(?:[^/]*/)?\d+/)([0-9a-f]{32})(?:/.*)?")
_RUN_ID = re.compile(r"[0-9a-zA-Z_-]{1,64}")


class AbsentError(StoreError):
    """What was asked for is not in the store."""


def refused() -> tuple[type[Exception], ...]:
    """How a store says no. MLflow's own stores can only say it where MLflow is loaded, which costs seconds."""
    exceptions = sys.modules.get("mlflow.exceptions")
    return (AbsentError, exceptions.MlflowException) if exceptions else (AbsentError,)


class Runs(Protocol):
    """Where runs are read."""

    def get_run(self, run_id: str) -> Any:
        """One run, deleted ones included."""

    def get_experiment(self, experiment_id: str) -> Any:
        """One experiment."""

    def get_logged_model(self, model_id: str) -> Any:
        """One logged model (MLflow 3 only)."""

    def search_runs(
        self,
        experiment_ids: list[str],
        filter_string: str,
        run_view_type: int,
        max_results: int,
        order_by: list[str] | None,
        page_token: str | None,
    ) -> Any:
        """A page of runs."""


@runtime_checkable
class Families(Protocol):
    """Runs that can be asked for a whole tree at once: a question for each run of it takes seconds."""

    def descendants(self, top: Any, most: int) -> Iterable[Any]:
        """Every run below a run, deleted ones included; may stop after more than ``most``."""


class Registry(Protocol):
    """Where registered models are read."""

    def get_model_version(self, name: str, version: str) -> Any:
        """One version."""

    def get_registered_model(self, name: str) -> Any:
        """One registered model."""

    def get_model_version_by_alias(self, name: str, alias: str) -> Any:
        """The version an alias points to."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """The runs behind a version. ``complete`` is false when there are more than ``MAX_RUNS``."""

    training: Any | None
    runs: Mapping[str, Any]
    evaluations: frozenset[str]
    complete: bool


def read_version(
    runs: Runs, registry: Registry, name: str, version: str, *, whole: bool = True
) -> Evidence:
    """All that is known about a version: its own facts, its training run's, its lineage's.

    Without ``whole`` there are no ``lineage`` facts: the tree of runs is the costly part.

    ``members`` are ``datasets`` (of the training run), ``training_run`` (that run, or nothing) and
    ``lineage`` (every run behind the version).

    Raises:
        StoreError: there is no such version.
    """
    try:
        found = registry.get_model_version(name, version)
        model = registry.get_registered_model(name)
    except refused() as error:
        said = getattr(error, "message", error)
        raise StoreError(f"model {name!r} version {version}: {said}") from error
    lineage = trace(runs, registry, found, whole=whole)
    experiments = _ExperimentNames(runs)
    evidence = {
        run_id: run_evidence(run, experiments[run.info.experiment_id])
        for run_id, run in lineage.runs.items()
    }
    training = evidence[lineage.training.info.run_id] if lineage.training else None
    facts: dict[str, Fact] = dict(training.facts) if training else {}
    facts.update(model_facts(model))
    facts.update(_version_facts(found))
    facts.update(_lineage_facts(found, lineage, evidence))
    return Evidence(
        Subject(
            SubjectKind.MODEL_VERSION, f"{name}/{found.version}", f"{name} version {found.version}"
        ),
        facts,
        {
            "datasets": training.members["datasets"] if training else (),
            "training_run": (training,) if training else (),
            "lineage": tuple(evidence.values()),
        },
        attestation.in_tags(found),
    )


def model_evidence(model: Any, versions: int) -> Evidence:
    """A registered model and how many versions it has."""
    facts = model_facts(model)
    facts["model.versions"] = Fact(versions, f"registered model {model.name}")
    return Evidence(Subject(SubjectKind.REGISTERED_MODEL, model.name, model.name), facts)


def model_facts(model: Any) -> dict[str, Fact]:
    """What the registry says about a registered model itself."""
    where = f"registered model {model.name}"
    facts = known(
        (("model.name", model.name), ("model.description", model.description or None)), where
    )
    facts["model.aliases"] = Fact(tuple(sorted(model.aliases or ())), where)
    for key, value in model.tags.items():
        facts[f"model_tag.{key}"] = Fact(value, f"{where} tag {key}")
    return facts


def _version_facts(version: Any) -> Iterator[tuple[str, Fact]]:
    where = f"model {version.name} version {version.version}"
    values: tuple[tuple[str, FactValue | None], ...] = (
        ("version.name", version.name),
        ("version.version", str(version.version)),
        ("version.description", version.description or None),
        ("version.source", version.source or None),
        ("version.run_id", version.run_id or None),
        ("version.created", moment(version.creation_timestamp)),
        ("version.user", version.user_id or None),
        ("version.aliases", tuple(sorted(version.aliases or ()))),
        ("version.stage", version.current_stage or None),
    )
    yield from known(values, where).items()
    for key, value in version.tags.items():
        yield f"version_tag.{key}", Fact(value, f"{where} tag {key}")


def _lineage_facts(
    version: Any, lineage: Lineage, evidence: Mapping[str, Evidence]
) -> Iterator[tuple[str, Fact]]:
    """Nothing at all where the runs are not known, no total where one run has no figure."""
    if lineage.training is None or not lineage.complete:
        return
    counted = count_once({run_id: node_of(run) for run_id, run in evidence.items()})
    where = f"{len(evidence)} runs behind model {version.name} version {version.version}"
    failed = sum(run.info.status in ("FAILED", "KILLED") for run in lineage.runs.values())
    contents = {
        (one.facts["dataset.name"].value, one.facts["dataset.digest"].value)
        for run in evidence.values()
        for one in run.members["datasets"]
    }
    yield "lineage.runs", Fact(len(evidence), where)
    yield "lineage.failed_runs", Fact(failed, where)
    deleted = sum(run.info.lifecycle_stage == "deleted" for run in lineage.runs.values())
    yield "lineage.deleted_runs", Fact(deleted, where)
    yield "lineage.unmeasured_runs", Fact(len(counted.unmeasured), where)
    yield "lineage.evaluation_runs", Fact(len(lineage.evaluations), where)
    yield "lineage.datasets", Fact(len(contents), where)
    if counted.unmeasured:
        return
    energy = _total(energy_j(evidence[run_id]) for run_id in counted.counted)
    emissions = None
    # Grams over a life cycle and grams at the plant are not the same thing: no sum of both.
    if one_basis(text(evidence[run_id], f"tag.{Tag.FACTOR_BASIS}") for run_id in counted.counted):
        emissions = _total(emissions_g(evidence[run_id]) for run_id in counted.counted)
    if energy is not None:
        yield "lineage.energy_kwh", Fact(kwh(energy), where)
    if emissions is not None:
        yield "lineage.emissions_kg", Fact(emissions / G_PER_KG, where)


def _total(figures: Iterable[Range | None]) -> float | None:
    total = 0.0
    for figure in figures:
        if figure is None:
            return None
        total += figure.mid
    return total


class _ExperimentNames(dict[str, str]):
    def __init__(self, runs: Runs) -> None:
        super().__init__()
        self._runs = runs

    def __missing__(self, experiment_id: str) -> str:
        self[experiment_id] = str(self._runs.get_experiment(experiment_id).name)
        return self[experiment_id]


def trace(runs: Runs, registry: Registry, version: Any, *, whole: bool = True) -> Lineage:
    """The training run, everything in its tree from the topmost parent down, and the evaluation runs."""
    run_id, model_id = _origin(registry, version)
    model = _logged_model(runs, model_id) if model_id else None
    if model is not None and model.source_run_id:
        run_id = model.source_run_id if run_id in ("", model.source_run_id) else ""
    training = _run(runs, run_id)
    if training is None:
        return Lineage(None, {}, frozenset(), complete=True)
    if not whole:
        return Lineage(training, {training.info.run_id: training}, frozenset(), complete=False)
    found: dict[str, Any] = {}
    for run in _tree(runs, _topmost(runs, training)):
        found[run.info.run_id] = run
        if len(found) > MAX_RUNS:
            return Lineage(training, {training.info.run_id: training}, frozenset(), complete=False)
    found.setdefault(training.info.run_id, training)
    evaluations = set()
    for evaluated_in in sorted(
        {metric.run_id for metric in (model.metrics if model else None) or ()}
    ):
        run = found.get(evaluated_in) or _run(runs, evaluated_in)
        if run is not None and evaluated_in != training.info.run_id:
            found[evaluated_in] = run
            evaluations.add(evaluated_in)
    return Lineage(training, found, frozenset(evaluations), complete=True)


def _origin(registry: Registry, version: Any) -> tuple[str, str]:
    """Training run id and logged model id as the version's source tells; empty where it does not.

    The source decides. The run id of a version is what its creator said; it counts where the
    source names no run, and where both name different ones neither does.
    """
    claimed = version.run_id or ""
    for _ in range(_MAX_DEPTH):
        source = version.source or ""
        if match := _LOGGED_MODEL.fullmatch(source):
            return claimed, match[1]
        if match := _RUN.fullmatch(source):
            return (match[1] if claimed in ("", match[1]) else ""), ""
        if not (match := _REGISTERED.fullmatch(source)):
            return claimed, version.model_id if isinstance(
                getattr(version, "model_id", 0), str
            ) else ""
        try:
            version = registry.get_model_version(match[1], match[2])
        except refused():
            return claimed, ""
        if (version.run_id or "") != claimed:
            return "", ""
    return "", ""


def _logged_model(runs: Runs, model_id: str) -> Any | None:
    try:
        return runs.get_logged_model(model_id)
    except refused() as error:
        only_absent(error)
        return None


def _run(runs: Runs, run_id: str) -> Any | None:
    """The run, unless there is none or it was deleted."""
    if not _RUN_ID.fullmatch(run_id):
        return None
    try:
        run = runs.get_run(run_id)
    except refused() as error:
        only_absent(error)
        return None
    return run if run.info.lifecycle_stage == "active" else None


def only_absent(error: Exception) -> None:
    """Only "there is none" is an answer; everything else is trouble with the store."""
    if isinstance(error, AbsentError):
        return
    if getattr(error, "error_code", "") not in (
        "RESOURCE_DOES_NOT_EXIST",
        "INVALID_PARAMETER_VALUE",
    ):
        raise error


def _topmost(runs: Runs, run: Any) -> Any:
    seen = {run.info.run_id}
    for _ in range(_MAX_DEPTH):
        parent_id = run.data.tags.get(PARENT_TAG, "")
        parent = None if parent_id in seen else _run(runs, parent_id)
        if parent is None:
            return run
        seen.add(parent_id)
        run = parent
    return run


def _tree(runs: Runs, top: Any) -> Iterator[Any]:
    """The run and all below it, deleted ones included: what they used was used for this model."""
    if isinstance(runs, Families):
        yield top
        yield from runs.descendants(top, MAX_RUNS)
        return
    todo, seen = [top], {top.info.run_id}
    while todo:
        run = todo.pop()
        yield run
        for child in _children(runs, run):
            if child.info.run_id not in seen:
                seen.add(child.info.run_id)
                todo.append(child)


def _children(runs: Runs, run: Any) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = runs.search_runs(
            [run.info.experiment_id],
            f"tags.`{PARENT_TAG}` = '{run.info.run_id}'",
            _ALL_RUNS,
            _PAGE,
            None,
            token,
        )
        yield from page
        token = page.token
        if not token:
            return
