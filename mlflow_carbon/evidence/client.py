"""A store read through MLflow's own client: servers, and every database MLflow knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from mlflow import MlflowClient
from mlflow.environment_variables import (
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR,
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
)
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from mlflow_carbon.errors import StoreError
from mlflow_carbon.evidence import lineage
from mlflow_carbon.evidence.address import redacted, without_secrets
from mlflow_carbon.evidence.facts import run_evidence
from mlflow_carbon.evidence.filters import in_mlflow_syntax
from mlflow_carbon.evidence.model import Evidence
from mlflow_carbon.evidence.query import Query, RegisteredModel
from mlflow_carbon.evidence.relational import chosen_experiments
from mlflow_carbon.schema import AuditTag

_PAGE = 1_000


def open_client(uri: str) -> ClientStore:
    """The store behind an address; waits some seconds at most for a server that does not answer.

    Raises:
        StoreError: it cannot be reached or read.
    """
    # MLflow's own patience (7 retries of 120 s) is for training, where nobody waits.
    if not MLFLOW_HTTP_REQUEST_MAX_RETRIES.defined:
        MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(2)
    if not MLFLOW_HTTP_REQUEST_TIMEOUT.defined:
        MLFLOW_HTTP_REQUEST_TIMEOUT.set(30)
    with _told(uri):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)  # a server of another kind shows itself here
    return ClientStore(uri, client)


def hide_progress_bars() -> None:
    """Unless the user set it: MLflow's bar for each of many small files would drown our answer."""
    if not MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.defined:
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)


@contextmanager
def _told(uri: str) -> Iterator[None]:
    try:
        yield
    except (MlflowException, requests.RequestException, SQLAlchemyError, OSError) as error:
        said = getattr(error, "message", None) or str(error)
        reason = without_secrets(uri, " ".join(str(said).split()))[:500]
        raise StoreError(f"{redacted(uri)}: cannot be read: {reason}") from error


class ClientStore:
    """Evidence of runs, datasets, models and versions; reads only. ``shown`` holds no password."""

    def __init__(self, uri: str, client: MlflowClient) -> None:
        """Open it with ``open_client``."""
        self.shown = redacted(uri)
        self._uri = uri
        self._client = client

    def experiments(self, query: Query) -> dict[str, str]:
        """Id -> name of the experiments asked for.

        Raises:
            StoreError: one of them does not exist; names similar ones.
        """
        with _told(self._uri):
            known = {
                one.experiment_id: one.name
                for one in self._pages("search_experiments")
                if AuditTag.EXPERIMENT not in one.tags  # audits on record are not what is audited
            }
        return chosen_experiments(self.shown, known, query.experiments)

    def runs(self, query: Query) -> Iterator[Evidence]:
        """Every run that is not deleted, with its datasets as members."""
        experiments = self.experiments(query)
        with _told(self._uri):
            for run in self._pages(
                "search_runs",
                experiment_ids=list(experiments),
                filter_string=in_mlflow_syntax(query),
            ):
                yield run_evidence(run, experiments[run.info.experiment_id])

    def models(self, query: Query) -> Iterator[RegisteredModel]:
        """Each registered model that is not a prompt.

        Raises:
            StoreError: a model asked for by name does not exist.
        """
        with _told(self._uri):
            if query.models:
                found = [self._client.get_registered_model(name) for name in query.models]
            else:
                found = list(self._pages("search_registered_models"))
            for model in found:
                name = model.name.replace("'", "\\'")
                versions = self._pages("search_model_versions", filter_string=f"name='{name}'")
                numbers = dict(sorted((int(one.version), one.run_id or "") for one in versions))
                aliases = {alias: str(number) for alias, number in (model.aliases or {}).items()}
                evidence = lineage.model_evidence(model, len(numbers))
                run_ids = {str(number): run_id for number, run_id in numbers.items()}
                yield RegisteredModel(evidence, run_ids, aliases)

    def series(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """(Unix milliseconds, value) of every entry of a run's metric; empty where there is none."""
        with _told(self._uri):
            found = self._client.get_metric_history(run_id, metric)
        return [(one.timestamp, one.value) for one in found]

    def version(self, name: str, version: str) -> Evidence:
        """One model version with its lineage."""
        with _told(self._uri):
            return lineage.read_version(self._client, self._client, name, version)

    def _pages(self, method: str, **arguments: Any) -> Iterator[Any]:
        token: str | None = None
        while True:
            page = getattr(self._client, method)(max_results=_PAGE, page_token=token, **arguments)
            yield from page
            token = page.token
            if not token:
                return
