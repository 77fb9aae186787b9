"""Facts about subjects: the vocabulary policies are written in, and what an audit reads.

A fact's name is ``namespace.key``. Open namespaces (metric, param, tag, version_tag,
model_tag) take any key MLflow takes; closed ones only the keys listed in ``CLOSED_FACTS``.
A fact that is not there is *missing*: there is no default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

FactValue = bool | int | float | str | datetime | tuple[str, ...]


class SubjectKind(str, Enum):
    """What a rule can be about; the ``scope`` of the rule."""

    RUN = "run"
    DATASET_INPUT = "dataset_input"
    """One dataset as one run used it."""
    MODEL_VERSION = "model_version"
    """A version with its training run (namespaces metric, param, tag, run) and its lineage."""
    REGISTERED_MODEL = "registered_model"
    PAIR = "pair"
    """A candidate version against the version behind an alias (namespace prefix ``baseline.``)."""
    POLICY = "policy"
    """A policy pack itself: its owner, its review, its waivers. Its evidence is made by policy.about."""


class FactType(str, Enum):
    """The type a closed fact has."""

    NUMBER = "number"
    TEXT = "text"
    TIME = "time"
    FLAG = "flag"
    LIST = "list"


OPEN_NAMESPACES = ("metric", "param", "tag", "version_tag", "model_tag")
"""metric: numbers. The others: text. tag/param/metric are those of the run (the training run for versions)."""

_N, _T, _W, _F, _L = FactType.NUMBER, FactType.TEXT, FactType.TIME, FactType.FLAG, FactType.LIST

CLOSED_FACTS: Mapping[str, FactType] = {
    "run.id": _T,
    "run.name": _T,
    "run.status": _T,
    "run.user": _T,
    "run.experiment": _T,
    "run.start_time": _W,
    "run.end_time": _W,
    "run.duration_s": _N,
    "run.datasets": _N,
    "run.dataset_contexts": _L,
    "run.source_commit": _T,
    "dataset.name": _T,
    "dataset.digest": _T,
    "dataset.context": _T,
    "dataset.sha256": _T,
    "dataset.hash_scope": _T,
    "dataset.rows": _N,
    "dataset.source_type": _T,
    "dataset.source": _T,
    "dataset.license": _T,
    "dataset.origin": _T,
    "dataset.collected": _T,
    "dataset.sensitive": _T,
    "dataset.declared_by": _T,
    "dataset.other_digests": _L,
    "dataset.duplicate_rows": _N,
    "dataset.missing_cells": _N,
    "dataset.sensitive_found": _T,
    "version.name": _T,
    "version.version": _T,
    "version.description": _T,
    "version.source": _T,
    "version.run_id": _T,
    "version.created": _W,
    "version.user": _T,
    "version.aliases": _L,
    "version.stage": _T,
    "version.files": _T,
    "version.files_changed": _L,
    "model.name": _T,
    "model.description": _T,
    "model.versions": _N,
    "model.aliases": _L,
    "lineage.runs": _N,
    "lineage.failed_runs": _N,
    "lineage.unmeasured_runs": _N,
    "lineage.energy_kwh": _N,
    "lineage.emissions_kg": _N,
    "lineage.evaluation_runs": _N,
    "lineage.datasets": _N,
    "lineage.deleted_runs": _N,
    "seal.state": _T,
    "seal.changed": _L,
    "seal.signature": _T,
    "seal.signed_by": _T,
    "seal.witnessed": _W,
    "policy.id": _T,
    "policy.version": _T,
    "policy.owner": _T,
    "policy.reviewed": _W,
    "policy.review_every_days": _N,
    "policy.review_age_days": _N,
    "policy.rules": _N,
    "policy.waivers": _N,
    "policy.expired_waivers": _L,
    "policy.longest_waiver_days": _N,
    "policy.loosened": _L,
}
"""``lineage.*``: over the training run, its parents' trees, tuning children and evaluation runs of a version, each
counted once. ``seal.*``: whether a run is as it was sealed, what changed, and who signed and saw it, see
``evidence.sealed``; known only where the audit compared (``--seals``). ``version.files``: ``unchanged`` or
``changed`` since the last approval; an audit reads the files when a rule asks. ``policy.*``: about a pack, see
``policy.about``. ``dataset.other_digests``: content hashes the same dataset name had elsewhere in the store."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a finding is about. ``key`` is stable across audits; ``label`` is for people."""

    kind: SubjectKind
    key: str
    """run: run id. dataset_input: ``<run id>/<dataset name>/<digest>/<context>``. model_version:
    ``<name>/<version>``. registered_model: name. pair: ``<name>/<version>@<alias>``."""
    label: str


@dataclass(frozen=True, slots=True)
class Fact:
    """One value with the place it was read from."""

    value: FactValue
    read_from: str
    """For a person with the store at hand: ``run 4f3a metric carbon/energy_kwh``."""


@dataclass(frozen=True, slots=True)
class Attestation:
    """A named person's statement about one model version; its content is not verified by us."""

    statement: str
    by: str
    role: str
    made_at: datetime
    expires_at: datetime | None
    reason: str
    reference: str = ""
    """Where the document behind it can be found."""
    signed_by: str = ""
    """The key whose signature was checked; empty: it is not signed."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known about one subject."""

    subject: Subject
    facts: Mapping[str, Fact]
    members: Mapping[str, tuple[Evidence, ...]] = field(default_factory=dict)
    """For ``for_each``: ``datasets`` -> the dataset inputs of a run or of a version's training run."""
    attestations: tuple[Attestation, ...] = ()
