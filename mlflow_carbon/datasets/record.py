"""One dataset as one run used it, and who says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlflow_carbon.datasets.quality import Quality


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """SHA-256 over the content in canonical form.

    ``scope`` is ``full``, or ``sampled: N of M rows`` when the content was larger than the limit.
    """

    sha256: str
    rows: int | None
    scope: str
    form: str
    """Canonical form and its version, e.g. ``pandas/1``: hashes compare only within one form."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What somebody says about a dataset, and who."""

    value: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRecord:
    """What is known about one dataset in one role."""

    name: str
    digest: str
    context: str
    fingerprint: Fingerprint | None
    unfingerprinted: str = ""
    """Why there is no fingerprint."""
    declared: Mapping[str, Declared] = field(default_factory=dict)
    """By field of a dataset card: license, origin, collected, sensitive, issuer, ..."""
    quality: Quality | None = None
