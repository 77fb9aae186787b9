"""A store of runs and models behind any address MLflow takes, read as evidence.

SQLite, PostgreSQL and snapshots are read as tables; everything else goes through MLflow's own client.
"""

from __future__ import annotations

import heapq
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from mlflow_carbon.errors import StoreError
from mlflow_carbon.evidence.address import probe, redacted
from mlflow_carbon.evidence.model import Evidence, Fact
from mlflow_carbon.evidence.query import DEADLINE_S, Query, RegisteredModel, Store
from mlflow_carbon.evidence.revisions import READABLE, check_as_installed
from mlflow_carbon.evidence.trees import moment_of, text
from mlflow_carbon.schema import Tag

__all__ = ["Query", "RegisteredModel", "Store", "has_ended", "open_store", "with_other_digests"]

UNNAMED_DATASET = "dataset"
"""The name MLflow gives to a dataset that was logged without one."""
MAX_OTHER_DIGESTS = 20
"""Of one dataset name; that there are any is what a rule asks, and who reads needs no thousand."""


def open_store(
    uri: str,
    *,
    through_mlflow: bool = False,
    deadline_s: float = DEADLINE_S,
    apart: bool = False,
) -> Store:
    """The store behind an address; waits some seconds at most for one that does not answer.

    ``through_mlflow``: by MLflow's own calls, one after another, also where there is a faster way.
    ``deadline_s``: what a server may take for all it is asked. ``apart``: as for ``Snapshot``.

    Raises:
        StoreError: there is none, it cannot be reached, or opening it would change it.
    """
    from mlflow_carbon.evidence.snapshot import Snapshot, is_snapshot
    from mlflow_carbon.evidence.sql import Database, can_read

    if is_snapshot(uri):
        from mlflow_carbon.evidence.relational import TableStore

        if through_mlflow:
            raise StoreError(
                f"{uri}: is a snapshot, which MLflow does not read. Leave --engine out."
            )
        return TableStore(Snapshot(Path(uri), apart=apart))
    revision = probe(uri)
    tables = can_read(uri) and not through_mlflow
    if tables and revision in READABLE:
        from mlflow_carbon.evidence.relational import TableStore

        return TableStore(Database(uri))
    if revision:
        check_as_installed(uri, revision)
    if tables:
        warnings.warn(
            f"{redacted(uri)}: schema {revision} is not known to this version of mlflow-carbon; the "
            "store is read through MLflow instead, which is slower.",
            stacklevel=2,
        )
    from mlflow_carbon.evidence.client import open_client

    return open_client(uri, pages=not through_mlflow, deadline_s=deadline_s)


def has_ended(run: Evidence, as_of: datetime) -> bool:
    """Whether the run is over: MLflow says so, or our record of a killed process does."""
    end = moment_of(run, "run.end_time")
    if end is not None and end > as_of:
        return False
    over = text(run, "run.status") not in ("RUNNING", "SCHEDULED")
    return over or bool(text(run, f"tag.{Tag.EXIT}").strip())


STILL_RUNNING = "still running"
ENDS_LATER = "ends after the moment of the audit"
"""Its clock was ahead, or the audit is as of a moment at which it still ran."""


BEGINS_LATER = "begins after the moment of the audit"
"""Its clock was ahead, or it began while the audit read."""


def why_open(run: Evidence, as_of: datetime) -> str:
    """Why a run is not over that ``has_ended`` says is not, or that has not begun."""
    start = moment_of(run, "run.start_time")
    if start is not None and start > as_of:
        return BEGINS_LATER
    over = text(run, "run.status") not in ("RUNNING", "SCHEDULED")
    return ENDS_LATER if over else STILL_RUNNING


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
