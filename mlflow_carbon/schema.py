"""The names and units of everything written on a run: where the recording and the auditing half meet.

A name never changes meaning. What is added raises ``SCHEMA_VERSION``.
"""

from __future__ import annotations

SCHEMA_VERSION = 1

PREFIX_METRIC = "carbon/"
PREFIX = "mlflow_carbon."
"""Of every tag, param and dataset input tag we write."""


class Metric:
    """Metrics; the unit is in the name. ``low`` and ``high`` bound the figure at about 95 %."""

    ENERGY_KWH = "carbon/energy_kwh"
    ENERGY_KWH_LOW = "carbon/energy_kwh_low"
    ENERGY_KWH_HIGH = "carbon/energy_kwh_high"
    BOUNDARY_ENERGY_KWH = "carbon/boundary_energy_kwh"
    """Energy of all reserved devices while the run ran; what ISO/IEC 21031 (SCI) asks for."""
    GPU_ENERGY_KWH = "carbon/gpu_energy_kwh"
    CPU_ENERGY_KWH = "carbon/cpu_energy_kwh"
    DRAM_ENERGY_KWH = "carbon/dram_energy_kwh"
    POWER_W = "carbon/power_w"
    """A series: mean power since the point before."""
    EMISSIONS_KG = "carbon/emissions_kg"
    EMISSIONS_KG_LOW = "carbon/emissions_kg_low"
    EMISSIONS_KG_HIGH = "carbon/emissions_kg_high"
    MARKET_EMISSIONS_KG = "carbon/market_emissions_kg"
    """With the factor of a declared contract, beside ``EMISSIONS_KG``, never in its place."""
    COVERAGE = "carbon/coverage"
    """Measured share of the run's wall time, 0 to 1."""
    LARGEST_GAP_S = "carbon/largest_gap_s"
    DURATION_S = "carbon/duration_s"
    """Wall time that ``coverage`` is a share of: all sessions of the run, without the pauses between them.
    Hosts that worked at the same time count once."""
    MEASURING_CPU_S = "carbon/measuring_cpu_s"
    """CPU seconds that measuring and recording took, written when the run ends: our threads and our work in the
    user's calls, in the process that measured, while the run was open; the last delivery is not in it."""


class Tag:
    """Run tags. All values are text; lists are JSON."""

    SCHEMA = "mlflow_carbon.schema"
    VERSION = "mlflow_carbon.version"
    """Version of the plugin that wrote the record."""
    STATUS = "mlflow_carbon.status"
    """One of ``STATUSES``."""
    EXIT = "mlflow_carbon.exit"
    """How the run ended as we saw it: finished | failed | killed | exception | process-exit | recovered."""
    TREE = "mlflow_carbon.tree"
    """``inclusive``: a parent's figure contains what its children used at the same time."""
    GRADE = "mlflow_carbon.grade"
    """A (counters, coverage >= 95 %) to D (modelled)."""
    METHOD = "mlflow_carbon.method"
    """The method behind most of the energy: counter | sampled | modelled | declared | missing."""
    METHODS = "mlflow_carbon.methods"
    """JSON object: component -> method."""
    NOT_MEASURED = "mlflow_carbon.not_measured"
    """JSON object: component -> reason."""
    HARDWARE = "mlflow_carbon.hardware"
    NODES = "mlflow_carbon.nodes"
    """Of a run on several hosts, JSON: ``expected`` hosts, and how many of them are ``missing`` in the figures."""
    NODE_PREFIX = "mlflow_carbon.node."
    """+ name of a host: JSON with its own part of the figures. The run's metrics are their sum."""
    REGION = "mlflow_carbon.region"
    REGION_SOURCE = "mlflow_carbon.region_source"
    """How the region is known: setting | evidence | provider | guess | unknown."""
    FACTOR = "mlflow_carbon.factor"
    """Carbon intensity of electricity in gCO2e/kWh."""
    FACTOR_SOURCE = "mlflow_carbon.factor_source"
    """In a few words; the attribution line is in the evidence."""
    FACTOR_YEAR = "mlflow_carbon.factor_year"
    FACTOR_BASIS = "mlflow_carbon.factor_basis"
    """``lifecycle, annual average, location-based`` and the like; ``mixed: ...`` when sessions of a run differ."""
    FACTOR_LICENSE = "mlflow_carbon.factor_license"
    FACTOR_TABLE_SHA256 = "mlflow_carbon.factor_table_sha256"
    MARKET_FACTOR = "mlflow_carbon.market_factor"
    """gCO2e/kWh of a declared contract (market-based)."""
    MARKET_SOURCE = "mlflow_carbon.market_source"
    """What it rests on, in the user's words; not verified."""
    PUE = "mlflow_carbon.pue"
    """Power usage effectiveness if one was set; never folded into a figure."""
    DATASETS = "mlflow_carbon.datasets"
    """JSON list, one short record per dataset used: name, digest, context, sha256, rows, license."""
    PROVENANCE_SHA256 = "mlflow_carbon.provenance_sha256"
    """Of ``Artifact.PROVENANCE``, the full record of the datasets."""
    DATA_CONFLICT = "mlflow_carbon.data_conflict"
    """Names of datasets used in two roles in one run (training and testing), JSON list."""
    LEAKAGE = "mlflow_carbon.leakage"
    """JSON list: training and held-out datasets of the run that share rows, with the counts and the share."""
    LEAKAGE_SHARE = "mlflow_carbon.leakage_share"
    """Largest share of a held-out dataset's rows that was trained on, 0 to 1; not set when no two were compared."""
    PROJECT = "mlflow_carbon.project"
    PHASE = "mlflow_carbon.phase"
    INTENDED_USE = "mlflow_carbon.intended_use"
    OWNER = "mlflow_carbon.owner"
    CARD_PREFIX = "mlflow_carbon.card."
    """+ first 16 hex digits of a dataset's sha256: its card as JSON, declared after the run."""


STATUSES = ("measuring", "measured", "partial", "not-measured", "truncated")
"""``partial``: coverage under 90 %. ``not-measured``: a retrospective run, nothing ran while we watched.
``truncated``: the process died; energy up to its last tick."""


MIXED_BASES = "mixed: "
"""Start of ``Tag.FACTOR_BASIS`` where the figures of one run stand on several bases."""


class Param:
    """Write-once values."""

    EVIDENCE_SHA256 = "mlflow_carbon.evidence_sha256"
    """Of the bytes of ``Artifact.EVIDENCE``. A run that was resumed is sealed again: the second seal is
    ``mlflow_carbon.evidence_sha256.2`` over ``mlflow_carbon/evidence.2.json``, which names the first."""


class InputTag:
    """Tags of a dataset input; at most 500 characters each."""

    CONTEXT = "mlflow.data.context"
    SHA256 = "mlflow_carbon.sha256"
    """Of the full content in canonical form (see docs/provenance.md), 64 hex digits."""
    HASH_SCOPE = "mlflow_carbon.hash_scope"
    """``full``, or ``sampled: N of M rows``."""
    ROWS = "mlflow_carbon.rows"
    LICENSE = "mlflow_carbon.license"
    """SPDX expression, or LicenseRef-*."""
    ORIGIN = "mlflow_carbon.origin"
    COLLECTED = "mlflow_carbon.collected"
    SENSITIVE = "mlflow_carbon.sensitive"
    """``none`` or the declared classes of personal data."""
    DECLARED_BY = "mlflow_carbon.declared_by"
    """Who declared the fields; with several, who declared which."""
    DUPLICATE_ROWS = "mlflow_carbon.duplicate_rows"
    MISSING_CELLS = "mlflow_carbon.missing_cells"
    SENSITIVE_FOUND = "mlflow_carbon.sensitive_found"
    """Columns that look like personal data by name or values, ``none`` when none does: a hint, no verdict."""


class Artifact:
    """Paths in the run's artifacts."""

    EVIDENCE = "mlflow_carbon/evidence.json"
    SUMMARY = "mlflow_carbon/summary.html"
    """For a person: the same figures as a page; rewritten when a run is resumed."""
    PROVENANCE = "mlflow_carbon/provenance.json"
    """Everything known about the datasets and the base model. Named with its SHA-256 in the sealed evidence."""


def signature_path(document: str) -> str:
    """Where the signed envelope of an evidence document lies: ``evidence.dsse.json`` beside it."""
    return document.removesuffix(".json") + ".dsse.json"


class RegistryTag:
    """Tags of registered models and model versions that people or the auditor set."""

    OWNER = "owner"
    PURPOSE = "purpose"
    RISK_TIER = "risk_tier"
    ANY_BASIS = "mlflow_carbon.any_basis"
    """On a model version: who wants its emissions compared with ones on another basis, and why."""
    ATTESTATION_PREFIX = "mlflow_carbon.attestation."
    """+ statement: JSON of an attestation, on a model version."""
    MANIFEST = "mlflow_carbon.manifest"
    """The files of a model version as they were at the last approval (JSON, see ``evidence.manifest``)."""
    VERDICT = "mlflow_carbon.verdict"
    """Signed verdict of an audit on a model version (a DSSE envelope)."""


class AuditTag:
    """Tags of the experiment that audits are put on record in, and of its runs."""

    EXPERIMENT = "mlflow_carbon.audits"
    """On the experiment: an audit never reads it."""
    KEY = "mlflow_carbon.audit.key"
    """Audits with one key asked the same question."""
    AS_OF = "mlflow_carbon.audit.as_of"
