"""Audits on record in MLflow itself: one run for each audit, in an experiment of their own.

So staff find reports where they work, MLflow's own charts show the trend, and the next audit
knows the last. The experiment is never part of what an audit reads.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from mlflow_carbon.errors import StoreError
from mlflow_carbon.evidence.address import redacted
from mlflow_carbon.evidence.client import hide_progress_bars
from mlflow_carbon.evidence.store import open_store
from mlflow_carbon.schema import AuditTag

EXPERIMENT = "mlflow-carbon audits"
REPORT = "report.json"
_PAST = 24
_STATE = "answers/"


@dataclass(frozen=True, slots=True)
class PastAudit:
    """One audit on record. ``counts`` is by the name of the state."""

    run_id: str
    as_of: datetime
    counts: Mapping[str, int]
    report_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """What is written about one audit."""

    key: str
    as_of: datetime
    counts: Mapping[str, int]
    figures: Mapping[str, float]
    """Further metrics, by name with unit."""
    tags: Mapping[str, str]
    files: Sequence[Path]


class History:
    """The audits on record in a store."""

    def __init__(self, uri: str) -> None:
        """Open the store.

        Raises:
            StoreError: it cannot be read.
        """
        hide_progress_bars()
        open_store(uri)
        self.shown = redacted(uri)
        self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def past(self, key: str) -> list[PastAudit]:
        """The latest audits with this key, oldest first."""
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return []
        runs = self._client.search_runs(
            [experiment.experiment_id],
            filter_string=f"tags.`{AuditTag.KEY}` = '{key}' and attributes.status = 'FINISHED'",
            max_results=_PAST,
            order_by=["attributes.start_time DESC"],
        )
        found = [past for past in map(_past, runs) if past is not None]
        return sorted(found, key=lambda past: past.as_of)

    def recorded(self, name: str, sha256: str) -> PastAudit | None:
        """The audit on record that has a file of this name and digest."""
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        if experiment is None or "`" in name:
            return None
        runs = self._client.search_runs(
            [experiment.experiment_id],
            filter_string=f"params.`sha256/{name}` = '{sha256}'",
            max_results=1,
        )
        return next((past for past in map(_past, runs) if past is not None), None)

    def report_of(self, run_id: str) -> bytes:
        """The ``report.json`` recorded with one audit, by its run.

        Raises:
            StoreError: there is no such run, it is no audit on record, or the file was changed.
        """
        try:
            past = _past(self._client.get_run(run_id))
        except MlflowException as error:
            raise StoreError(
                f"{self.shown}: run {run_id!r} cannot be read: {error.message}"
            ) from error
        if past is None:
            raise StoreError(
                f"{self.shown}: run {run_id!r} is no audit on record. They are in the experiment {EXPERIMENT!r}."
            )
        return self.report(past)

    def report(self, past: PastAudit) -> bytes:
        """The recorded ``report.json``.

        Raises:
            StoreError: it cannot be read, or is not the one that was recorded.
        """
        where = f"{self.shown}: audit of {past.as_of.isoformat()} (run {past.run_id})"
        try:
            with tempfile.TemporaryDirectory(prefix="mlflow-carbon-") as scratch:
                path = self._client.download_artifacts(past.run_id, REPORT, scratch)
                content = Path(path).read_bytes()
        except (MlflowException, OSError) as error:
            raise StoreError(f"{where}: its {REPORT} cannot be read: {error}") from error
        if hashlib.sha256(content).hexdigest() != past.report_sha256:
            raise StoreError(f"{where}: its {REPORT} was changed after it was recorded.")
        return content

    def record(self, audit: AuditRecord) -> str:
        """Put an audit on record; answers with its run id.

        Raises:
            StoreError: the store refuses; the report's files are not touched.
        """
        try:
            run = self._client.create_run(
                self._experiment(),
                run_name=f"audit {audit.as_of:%Y-%m-%d %H:%M}",
                tags={
                    **audit.tags,
                    AuditTag.KEY: audit.key,
                    AuditTag.AS_OF: audit.as_of.isoformat(),
                },
            )
            run_id: str = run.info.run_id
            now_ms = int(audit.as_of.timestamp() * 1000)
            figures = {f"{_STATE}{name}": float(n) for name, n in audit.counts.items()} | dict(
                audit.figures
            )
            digests = {
                f"sha256/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest()
                for file in audit.files
            }
            self._client.log_batch(
                run_id,
                metrics=[Metric(name, value, now_ms, 0) for name, value in figures.items()],
                params=[Param(name, digest) for name, digest in digests.items()],
            )
            for file in audit.files:
                self._client.log_artifact(run_id, str(file))
            self._client.set_terminated(run_id)
        except (MlflowException, OSError) as error:
            said = getattr(error, "message", None) or str(error)
            raise StoreError(
                f"{self.shown}: the audit could not be put on record: {said}"
            ) from error
        return run_id

    def _experiment(self) -> str:
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return str(
                self._client.create_experiment(EXPERIMENT, tags={AuditTag.EXPERIMENT: "true"})
            )
        return str(experiment.experiment_id)


def _past(run: Any) -> PastAudit | None:
    """``None`` for a run that somebody else made in our experiment."""
    try:
        as_of = datetime.fromisoformat(run.data.tags[AuditTag.AS_OF])
        digest = run.data.params[f"sha256/{REPORT}"]
    except (KeyError, ValueError):
        return None
    counts = {
        name.removeprefix(_STATE): int(value)
        for name, value in run.data.metrics.items()
        if name.startswith(_STATE)
    }
    return PastAudit(run.info.run_id, as_of, counts, digest)
