"""A store of runs and models behind any address MLflow takes, read as evidence."""

from __future__ import annotations

import difflib
import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import requests
from mlflow import MlflowClient
from mlflow.environment_variables import (
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
)
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from mlflow_carbon.errors import StoreError
from mlflow_carbon.evidence import lineage
from mlflow_carbon.evidence.address import probe, redacted, without_secrets
from mlflow_carbon.evidence.facts import run_evidence
from mlflow_carbon.evidence.model import Evidence, Fact
from mlflow_carbon.evidence.trees import moment_of, text
from mlflow_carbon.schema import AuditTag, Tag

_PAGE = 1_000
UNNAMED_DATASET = "dataset"
"""The name MLflow gives to a dataset that was logged without one."""
MAX_OTHER_DIGESTS = 20
"""Of one dataset name; that there are any is what a rule asks, and who reads needs no thousand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to read. Nothing given: every active experiment, every run, every registered model."""

    experiments: tuple[str, ...] = ()
    """Names or ids."""
    filter: str = ""
    """In MLflow's filter syntax."""
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A registered model and where its aliases point."""

    evidence: Evidence
    versions: Mapping[str, str]
    """Number -> the run it says it comes from (or the empty text), oldest first."""
    aliases: Mapping[str, str]


def open_store(uri: str) -> Store:
    """The store behind an address; waits some seconds at most for a server that does not answer.

    Raises:
        StoreError: there is none, it cannot be reached, or opening it would change it.
    """
    probe(uri)
    # MLflow's own patience (7 retries of 120 s) is for training, where nobody waits.
    if not MLFLOW_HTTP_REQUEST_MAX_RETRIES.is_set():
        MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(2)
    if not MLFLOW_HTTP_REQUEST_TIMEOUT.is_set():
        MLFLOW_HTTP_REQUEST_TIMEOUT.set(30)
    with _told(uri):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)  # a server of another kind shows itself here
    return Store(uri, client)


@contextmanager
def _told(uri: str) -> Iterator[None]:
    try:
        yield
    except (MlflowException, requests.RequestException, SQLAlchemyError, OSError) as error:
        said = getattr(error, "message", None) or str(error)
        reason = without_secrets(uri, " ".join(str(said).split()))[:500]
        raise StoreError(f"{redacted(uri)}: cannot be read: {reason}") from error


class Store:
    """Evidence of runs, datasets, models and versions; reads only. ``shown`` holds no password."""

    def __init__(self, uri: str, client: MlflowClient) -> None:
        """Open stores with ``open_store``."""
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
        if not query.experiments:
            return known
        by_name = {name: experiment_id for experiment_id, name in known.items()}
        chosen = {}
        for wanted in query.experiments:
            experiment_id = by_name.get(wanted, wanted)
            if experiment_id not in known:
                similar = difflib.get_close_matches(wanted, by_name, n=3)
                hint = f" Did you mean {' or '.join(map(repr, similar))}?" if similar else ""
                raise StoreError(f"{self.shown}: there is no active experiment {wanted!r}.{hint}")
            chosen[experiment_id] = known[experiment_id]
        return chosen

    def runs(self, query: Query) -> Iterator[Evidence]:
        """Every run that is not deleted, with its datasets as members."""
        experiments = self.experiments(query)
        with _told(self._uri):
            for run in self._pages(
                "search_runs", experiment_ids=list(experiments), filter_string=query.filter
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


def has_ended(run: Evidence, as_of: datetime) -> bool:
    """Whether the run is over: MLflow says so, or our record of a killed process does."""
    end = moment_of(run, "run.end_time")
    if end is not None and end > as_of:
        return False
    over = text(run, "run.status") not in ("RUNNING", "SCHEDULED")
    return over or bool(text(run, f"tag.{Tag.EXIT}").strip())


def with_other_digests(runs: Sequence[Evidence]) -> list[Evidence]:
    """The same runs; each dataset knows which other contents its name had in the same role.

    A dataset that was never named has no such history, nor has one without a content hash.
    """
    contents: dict[tuple[str, str], set[str]] = defaultdict(set)
    for run in runs:
        for one in run.members["datasets"]:
            if sha256 := text(one, "dataset.sha256"):
                contents[_role(one)].add(sha256)
    return [
        replace(
            run,
            members={"datasets": tuple(_aware(one, contents) for one in run.members["datasets"])},
        )
        for run in runs
    ]


def _role(dataset: Evidence) -> tuple[str, str]:
    return text(dataset, "dataset.name"), text(dataset, "dataset.context")


def _aware(dataset: Evidence, contents: dict[tuple[str, str], set[str]]) -> Evidence:
    name, sha256 = text(dataset, "dataset.name"), text(dataset, "dataset.sha256")
    if not sha256 or name == UNNAMED_DATASET:
        return dataset
    history = contents[_role(dataset)]
    # One more than asked for, in case the dataset's own is among them.
    nearest = heapq.nsmallest(MAX_OTHER_DIGESTS + 1, history)
    others = tuple(one for one in nearest if one != sha256)[:MAX_OTHER_DIGESTS]
    fact = Fact(others, f"the runs read that used a dataset named {name}")
    return replace(dataset, facts={**dataset.facts, "dataset.other_digests": fact})
