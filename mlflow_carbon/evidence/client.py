"""A store read through MLflow's own client: every store MLflow knows."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.environment_variables import (
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR,
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
)
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from mlflow_carbon.errors import FilterError, StoreError
from mlflow_carbon.evidence import lineage
from mlflow_carbon.evidence.address import in_short, redacted, scheme_of
from mlflow_carbon.evidence.facts import number, run_evidence
from mlflow_carbon.evidence.filters import in_mlflow_syntax
from mlflow_carbon.evidence.model import Evidence
from mlflow_carbon.evidence.query import DEADLINE_S, Query, RegisteredModel
from mlflow_carbon.evidence.relational import chosen_experiments, no_such_model
from mlflow_carbon.schema import AuditTag

_PAGE = 1_000
_WAIT_S = 30
"""For the first answer of a server."""
_UNAUTHORIZED = 401
_STATUS = re.compile(r"failed with error code (\d{3})|too many (\d{3}) error responses")
_WEB_PAGE = re.compile(r"<html|<!doctype html", re.IGNORECASE)


def open_client(uri: str, *, pages: bool = True, deadline_s: float = DEADLINE_S) -> ClientStore:
    """The store behind an address; waits a minute or two at most for a server that does not answer.

    ``pages``: ask a server for several pages at once. ``deadline_s``: how long it may take for all, this included.

    Raises:
        StoreError: it cannot be reached or read.
    """
    begun = time.monotonic()
    # MLflow's own patience (7 retries of 120 s) is for training, where nobody waits. A server that
    # has answered once may be busy for a while: then retries back off for half a minute.
    wait_s = min(_WAIT_S, math.ceil(deadline_s))
    patience = [
        (setting, first, later)
        for setting, first, later in (
            (MLFLOW_HTTP_REQUEST_MAX_RETRIES, 2 if deadline_s > 3 * _WAIT_S else 0, 4),
            (MLFLOW_HTTP_REQUEST_TIMEOUT, wait_s, 120),
        )
        if not setting.defined
    ]
    for setting, first, _ in patience:
        setting.set(first)
    try:
        with _told(uri):
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)  # a server of another kind shows itself here
    except StoreError:
        if time.monotonic() - begun > deadline_s:
            raise _late(redacted(uri), deadline_s) from None
        raise
    finally:
        for setting, _, later in patience:
            setting.set(later)
    if pages and scheme_of(uri) in ("http", "https"):
        from mlflow_carbon.evidence.server import Server

        return Server(uri, client, deadline_s, begun)
    return ClientStore(uri, client, deadline_s, begun)


def _late(shown: str, deadline_s: float) -> StoreError:
    return StoreError(
        f"{shown}: has not answered everything in {deadline_s:,.0f} s. Nothing was audited. Give it "
        "more time with --deadline, ask for fewer runs with --experiment or --since, or ask who runs it for a "
        "snapshot (`mlflow-carbon export evidence`)."
    )


def hide_progress_bars() -> None:
    """Unless the user set it: MLflow's bar for each of many small files would drown our answer."""
    if not MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.defined:
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)


@contextmanager
def _told(uri: str) -> Iterator[None]:
    # MLflow logs what it raises, with the whole traceback; who reads our message needs no second one.
    logged = logging.getLogger("mlflow.store.db.utils")
    before = logged.level
    logged.setLevel(logging.CRITICAL)
    try:
        yield
    except (
        MlflowException,
        requests.RequestException,
        SQLAlchemyError,
        OSError,
        ValueError,
    ) as error:
        said = " ".join(str(getattr(error, "message", None) or error).split())
        reason = _in_words(said) or f"cannot be read: {in_short(uri, said)}"
        raise StoreError(f"{redacted(uri)}: {reason}") from error
    finally:
        logged.setLevel(before)


@contextmanager
def filter_told(query: Query) -> Iterator[None]:
    """Runs are asked for; that a store does not understand the filter is the user's to mend.

    Raises:
        FilterError: it does not.
    """
    try:
        yield
    except MlflowException as error:
        if query.filter and error.error_code == "INVALID_PARAMETER_VALUE":
            raise FilterError(f"--filter {query.filter!r}: {error.message}") from None
        raise


def _in_words(said: str) -> str:
    """What a server means that did not answer as MLflow does; empty: what it said is clear enough."""
    found = _STATUS.search(said)
    status = int(found[1] or found[2]) if found else 0
    if status == _UNAUTHORIZED:
        return (
            "asks who you are (HTTP 401). Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN, for somebody who may read."
        )
    if _WEB_PAGE.search(said):
        return (
            "answers with a web page and not as an MLflow server. Check the address; a login page or "
            "a proxy may stand in front of it."
        )
    if found and found[2]:
        return (
            f"still answered HTTP {status} after all retries. Nothing was audited. Try again later."
        )
    return ""


class ClientStore:
    """Evidence of runs, datasets, models and versions; reads only. ``shown`` holds no password."""

    def __init__(self, uri: str, client: MlflowClient, deadline_s: float, begun: float) -> None:
        """Open it with ``open_client``; a server has ``deadline_s`` from ``begun`` (monotonic) on."""
        self.shown = redacted(uri)
        self._deadline_s = deadline_s if scheme_of(uri) in ("http", "https") else math.inf
        self._until = begun + self._deadline_s
        self._uri = uri
        self._client = client
        self._inside = False

    def close(self) -> None:
        """Leave the workspace that was asked for."""
        if self._inside:
            mlflow.set_workspace(None)
            self._inside = False

    @contextmanager
    def _told(self) -> Iterator[None]:
        with _told(self._uri):
            try:
                self._check_time()
                yield
            except TimeoutError:
                raise _late(self.shown, self._deadline_s) from None

    def _check_time(self) -> None:
        if time.monotonic() > self._until:
            raise TimeoutError

    def _enter(self, workspace: str) -> None:
        """Go into a workspace: MLflow's clients have one for the whole process."""
        if not workspace:
            return
        if self._uri.startswith(("http:", "https:")) and hasattr(mlflow, "set_workspace"):
            mlflow.set_workspace(workspace)
            self._inside = True
        else:
            raise StoreError(
                f"{self.shown}: --workspace goes with a server of MLflow 3.10 or newer, or with a SQLite or "
                "PostgreSQL database without --engine plain."
            )

    def experiments(self, query: Query) -> dict[str, str]:
        """Id -> name of the experiments asked for.

        Raises:
            StoreError: one of them does not exist; names similar ones.
        """
        with self._told():
            self._enter(query.workspace)
            known = {
                one.experiment_id: one.name
                for one in self._pages("search_experiments")
                if AuditTag.EXPERIMENT not in one.tags  # audits on record are not what is audited
            }
        return chosen_experiments(self.shown, known, query.experiments)

    def runs(self, query: Query) -> Iterator[Evidence]:
        """Every run that is not deleted, with its datasets as members."""
        experiments = self.experiments(query)
        with self._told(), filter_told(query):
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
        with self._told():
            self._enter(query.workspace)
            if query.models:
                found = [self._model(name) for name in dict.fromkeys(query.models)]
            else:
                found = list(self._pages("search_registered_models"))
            for model in found:
                versions = self._versions(model.name)
                numbers = dict(sorted((int(one.version), one.run_id or "") for one in versions))
                aliases = {alias: str(number) for alias, number in (model.aliases or {}).items()}
                evidence = lineage.model_evidence(model, len(numbers))
                run_ids = {str(number): run_id for number, run_id in numbers.items()}
                yield RegisteredModel(evidence, run_ids, aliases)

    def _model(self, name: str) -> Any:
        try:
            return self._client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            known = [one.name for one in self._pages("search_registered_models")]
            raise no_such_model(self.shown, name, known) from None

    def _versions(self, name: str) -> Iterator[Any]:
        """The versions of a model. MLflow's filters have no way to escape a quotation mark."""
        mark = next((mark for mark in "'\"" if mark not in name), "")
        only = {"filter_string": f"name={mark}{name}{mark}"} if mark else {}
        for one in self._pages("search_model_versions", **only):
            if one.name == name:
                yield one

    def series(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """(Unix milliseconds, value) of every entry of a run's metric; empty where there is none."""
        with self._told():
            found = self._client.get_metric_history(run_id, metric)
            return [(int(number(one.timestamp)), number(one.value)) for one in found]

    def version(self, name: str, version: str) -> Evidence:
        """One model version with its lineage."""
        with self._told():
            return lineage.read_version(self._client, self._client, name, version)

    def _pages(self, method: str, **arguments: Any) -> Iterator[Any]:
        token: str | None = None
        while True:
            page = getattr(self._client, method)(max_results=_PAGE, page_token=token, **arguments)
            self._check_time()
            yield from page
            token = page.token
            if not token:
                return
