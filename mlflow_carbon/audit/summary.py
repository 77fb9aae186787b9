"""What an audit found, counted: states, energy and carbon, datasets. Every figure has its denominator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from mlflow_carbon.audit.baseline import Comparison, Past
from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.audit.power import PowerCurve
from mlflow_carbon.evidence.model import Attestation
from mlflow_carbon.evidence.sealed import SealCheck
from mlflow_carbon.policy.model import Pack, Rule, State
from mlflow_carbon.units import Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What was asked for and what could be read. ``store`` never contains a password."""

    store: str
    experiments: tuple[str, ...]
    filter: str
    models: tuple[str, ...]
    runs_selected: int
    runs_read: int
    failed_to_read: tuple[tuple[str, str], ...]
    """(run id, reason)."""
    earliest: datetime | None
    latest: datetime | None
    """Start times of the runs read, UTC."""
    since: datetime | None = None
    until: datetime | None = None
    """The time asked for."""
    workspace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSummary:
    """One rule over all its subjects. ``counts`` has all seven states; their sum is ``subjects``."""

    rule: Rule
    pack_id: str
    counts: Mapping[State, int]

    @property
    def subjects(self) -> int:
        """How many subjects the rule was put to."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnergyRow:
    """The energy and carbon of one run as it is on record; ``None`` where nothing is."""

    run_id: str
    name: str
    experiment: str
    status: str
    parent_id: str
    """Empty for a top-level run. A parent's figure contains what ran inside it at the same time."""
    model_name: str
    start_time: datetime | None
    duration_s: float | None
    energy_j: Range | None
    gpu_j: float | None
    cpu_j: float | None
    dram_j: float | None
    emissions_g: Range | None
    coverage: float | None
    method: str
    grade: str
    region: str
    factor: str
    """For a person: ``41.4 g/kWh, Ember 2026, 2025, lifecycle``."""
    quality: Mapping[str, float]
    """The run's own metrics (accuracy and the like), at most a dozen."""


@dataclass(frozen=True, slots=True)
class MeasuringCost:
    """What measuring took from the counted runs that have it on record."""

    cpu_s: float
    wall_s: float
    """How long these runs ran, all together."""
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyAccount:
    """Energy and carbon over the selection. Totals count each tree of runs once (top-level runs only)."""

    rows: tuple[RunEnergyRow, ...]
    total_j: Range | None
    measured_j: float
    """Part of ``total_j.mid`` that counters or sampled sensors gave."""
    modelled_j: float
    emissions_g: Range | None
    """``None`` also when the counted runs' factors mean different things (lifecycle, direct)."""
    runs_counted: int
    runs_inside_counted: int
    """Children whose energy is inside a counted parent."""
    runs_unmeasured: int
    """Runs without an energy figure; their energy is unknown, not 0."""
    failed_runs_j: float
    """Part of the total used by runs that failed or were killed."""
    factors: tuple[str, ...]
    """Every distinct factor used, for a person."""
    measuring: MeasuringCost | None = None
    """``None``: no counted run has it on record."""
    rows_left_out: int = 0
    """Runs that are in the totals but not in ``rows``: an audit of very many runs lists those that used most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRow:
    """One content of one dataset, over all runs that used it."""

    name: str
    digest: str
    sha256: str
    hash_scope: str
    rows: int | None
    license: str
    origin: str
    sensitive: str
    declared_by: str
    contexts: tuple[str, ...]
    runs: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The result of one audit: all that a report is made from."""

    as_of: datetime
    tool_version: str
    mlflow_version: str
    command: str
    """The command line that repeats this audit."""
    packs: tuple[Pack, ...]
    selection: Selection
    findings: tuple[Finding, ...]
    """Worst first: state, then severity, then rule and subject. Passes included."""
    rules: tuple[RuleSummary, ...]
    energy: EnergyAccount
    datasets: tuple[DatasetRow, ...]
    attestations: tuple[tuple[str, Attestation], ...]
    """(``name/version``, attestation)."""
    unused_waivers: tuple[str, ...] = ()
    findings_left_out: int = 0
    """Counted in ``rules`` but not in ``findings``: an audit of very many runs lists the worst."""
    datasets_left_out: int = 0
    """The same for ``datasets``: the most used are listed."""
    change: Comparison | None = None
    """Against an earlier audit; ``None``: none was given."""
    past: tuple[Past, ...] = ()
    """Earlier audits that asked the same, oldest first."""
    power: tuple[PowerCurve, ...] = ()
    """Power over time of the runs that used most, where the store has it."""
    seals: tuple[SealCheck, ...] | None = None
    """Each run read against its seal; ``None``: the seals were not looked at."""

    def count(self, state: State) -> int:
        """Findings in one state."""
        return sum(summary.counts.get(state, 0) for summary in self.rules)
