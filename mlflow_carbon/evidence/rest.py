"""Runs of an MLflow server by its REST API: several pages at a time, each run once.

MLflow's servers count pages by offset, so a page can be asked for before the one before it has
come. Runs are ordered by their beginning, the newest last: one that begins meanwhile moves no
other. Pages overlap by some runs; where two neighbours share none, runs were deleted meanwhile
and one may have been passed over. Other servers, whose tokens say nothing, are read page after page.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import requests
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request, verify_rest_response
from mlflow.utils.search_utils import SearchUtils

AT_ONCE = 4
"""Pages asked for at once: as many as a server started without options has workers."""
PAGE = 1_000
_OVERLAP = 10
_ENDPOINT = "/api/2.0/mlflow/runs/search"


class Ask(Protocol):
    """Asks a server for one page; the empty token means the first."""

    def __call__(self, token: str) -> Mapping[str, Any]:
        """The answer: ``runs`` and, where there are more, ``next_page_token``.

        Raises:
            MlflowException: the server refuses, or did not answer after all retries.
            ValueError: the answer is no page of runs.
        """


def asking(uri: str, experiments: list[str], filter_: str) -> Ask:
    """Asks for these runs by MLflow's own request: its authentication, headers, TLS, retries with backoff."""

    def ask(token: str) -> Mapping[str, Any]:
        body = {
            "experiment_ids": experiments,
            "filter": filter_,
            "max_results": PAGE,
            "order_by": ["attributes.start_time ASC"],  # then by run id, says MLflow
            **({"page_token": token} if token else {}),
        }
        answer = http_request(get_default_host_creds(uri), _ENDPOINT, "POST", json=body)
        if answer.status_code == requests.codes.ok:
            with suppress(ValueError):
                return _page_of_runs(json.loads(answer.content))
        verify_rest_response(answer, _ENDPOINT)  # raises what the server says
        raise ValueError(f"HTTP {answer.status_code} without runs")

    return ask


def _page_of_runs(answer: Any) -> Mapping[str, Any]:
    """The answer of a server, if it is what it was asked for.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(answer, dict) or not all(
        isinstance(run, dict) and run.get("info", {}).get("run_id")
        for run in answer.get("runs", ())
    ):
        raise ValueError("no page of runs")
    return answer


def run_id_of(run: Mapping[str, Any]) -> str:
    """The id of a run as the API gives it."""
    return str(run["info"]["run_id"])


def read_pages(ask: Ask, until: float) -> Iterator[list[Mapping[str, Any]]]:
    """Every run once, some at a time; ``until`` is a moment of ``time.monotonic``.

    Raises:
        TimeoutError: not all had come by then.
        ValueError: runs were deleted meanwhile, and one may have been passed over.
        Exception: as ``ask``.
    """
    reader = _Reader(ask, until)
    reader.start(0, "")
    first = reader.take()
    if first.token and first.token != _token(PAGE):
        yield from _one_by_one(reader, first)
    else:
        yield from _at_once(reader, first)


@dataclass(frozen=True, slots=True)
class _Page:
    number: int
    runs: list[Mapping[str, Any]]
    token: str
    """Of the next page; empty: there is none."""


class _Reader:
    """Asks for each page in a thread that nobody waits for at the end.

    So a deadline holds, and Ctrl-C is obeyed, also while a server keeps a request open.
    """

    def __init__(self, ask: Ask, until: float) -> None:
        self._ask, self._until = ask, until
        self._came: SimpleQueue[_Page | BaseException] = SimpleQueue()

    def start(self, number: int, token: str) -> None:
        threading.Thread(target=self._fetch, args=(number, token), daemon=True).start()

    def take(self) -> _Page:
        try:
            came = self._came.get(timeout=max(0.0, self._until - time.monotonic()))
        except Empty:
            raise TimeoutError from None
        if isinstance(came, BaseException):
            raise came
        return came

    def _fetch(self, number: int, token: str) -> None:
        try:
            answer = self._ask(token)
            page = _Page(number, answer.get("runs", []), answer.get("next_page_token", ""))
        except BaseException as error:  # noqa: BLE001 (raised again by ``take``)
            self._came.put(error)
        else:
            self._came.put(page)


def _token(offset: int) -> str:
    token = SearchUtils.create_page_token(offset)
    return token.decode() if isinstance(token, bytes) else str(token)


def _one_by_one(reader: _Reader, page: _Page) -> Iterator[list[Mapping[str, Any]]]:
    seen: set[str] = set()
    while True:
        yield _unseen(page.runs, seen)
        if not page.token:
            return
        reader.start(page.number + 1, page.token)
        page = reader.take()


def _at_once(reader: _Reader, page: _Page) -> Iterator[list[Mapping[str, Any]]]:
    seen: set[str] = set()
    ids: dict[int, frozenset[str]] = {}
    promised: set[int] = set()
    """Pages that must have runs: the one before says that there are more."""
    begun, more = 1, True
    while True:
        ids[page.number] = frozenset(map(run_id_of, page.runs))
        promised |= {page.number + 1} if page.token else set()
        more = more and bool(page.token)
        while more and begun - len(ids) < AT_ONCE:
            reader.start(begun, _token(begun * (PAGE - _OVERLAP)))
            begun += 1
        yield _unseen(page.runs, seen)
        if len(ids) == begun:
            break
        page = reader.take()
    for before, number in pairwise(range(begun)):
        if (ids[number] or number in promised) and ids[number].isdisjoint(ids[before]):
            raise ValueError(
                "pages do not join: runs were deleted while they were read, and others may have been passed over. Try "
                "again."
            )


def _unseen(runs: list[Mapping[str, Any]], seen: set[str]) -> list[Mapping[str, Any]]:
    """Those not given before; notes them down."""
    new = {run_id_of(run): run for run in runs if run_id_of(run) not in seen}
    seen.update(new)
    return list(new.values())
