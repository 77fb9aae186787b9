"""The parts of ``mlflow-carbon audit`` that need keys: seals and witnesses, attestation files, signatures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlflow_carbon.settings import trusted_keys

if TYPE_CHECKING:
    from mlflow_carbon.audit.summary import Audit
    from mlflow_carbon.evidence.model import Attestation
    from mlflow_carbon.evidence.sealed import SealCheck
    from mlflow_carbon.signing.keys import SigningKey


def seal_check(store: str, ledger: Path | None) -> Callable[[str], SealCheck]:
    """Compares a run with its seal and, given a ledger, with what a witness saw."""
    from mlflow_carbon.evidence.ledger import Ledger
    from mlflow_carbon.evidence.seal import Seals  # imports MLflow: some seconds
    from mlflow_carbon.evidence.witness import Seen, read
    from mlflow_carbon.signing import trust

    trusted = trust.load(trusted_keys())
    seen = read(Ledger(ledger), trusted) if ledger else Seen()
    for fault in seen.faults:
        click.echo(f"ledger: {fault}", err=True)
    return Seals(store, trusted, seen).check


def attestations(files: Iterable[Path]) -> dict[str, tuple[Attestation, ...]]:
    """The signed statements in files, by what ties each to one version."""
    from mlflow_carbon.evidence.attestation import from_file

    found: dict[str, tuple[Attestation, ...]] = {}
    for file in files:
        for bound_to, made in from_file(file):
            found[bound_to] = (*found.get(bound_to, ()), made)
    return found


def sign(audit: Audit, written: Mapping[str, Path], key: SigningKey, folder: Path) -> Path:
    """Sign the report that was written; the envelope lies beside it."""
    from mlflow_carbon.report.signature import sign_report

    return sign_report(audit, written, key, folder, datetime.now(timezone.utc))
