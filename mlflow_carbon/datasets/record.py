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


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRecord:
    """What is known. ``declared`` values come from a person or a card; ``declared_by`` names it per field."""

    name: str
    digest: str
    context: str
    fingerprint: Fingerprint | None
    unfingerprinted: str = ""
    """Why there is no fingerprint."""
    declared: Mapping[str, str] = field(default_factory=dict)
    """Fields of a dataset card: license, origin, collected, sensitive, issuer, ..."""
    declared_by: Mapping[str, str] = field(default_factory=dict)
    quality: Quality | None = None
