"""Records whose process died or could not reach MLflow: found in the spool, delivered to their runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Any

import requests
from mlflow.exceptions import MlflowException
from mlflow.tracking._tracking_service.client import TrackingServiceClient
from sqlalchemy.exc import SQLAlchemyError

from mlflow_carbon.errors import CarbonError, DataError
from mlflow_carbon.redact import HIDDEN, redacted
from mlflow_carbon.settings import Settings
from mlflow_carbon.tracking.delivery import Desk, conclude, deliver, read_base
from mlflow_carbon.tracking.facts import Exit, Facts, Json, Origin
from mlflow_carbon.tracking.record import Record, Seal
from mlflow_carbon.tracking.spool import Spool, orphans
from mlflow_carbon.tracking.spooled import facts_from_lines, sealed_from_lines

FAILURES = (MlflowException, requests.RequestException, SQLAlchemyError, OSError, CarbonError)


class Outcome(str, Enum):
    """What became of one spool file."""

    DELIVERED = "delivered"
    DROPPED = "dropped"
    """Nothing had been logged to the run by that process: there is nothing to deliver."""
    KEPT = "kept"
    """Could not be delivered; the file stays."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """One spool file and what became of it; ``reason`` says why it was kept."""

    file: str
    run_id: str
    outcome: Outcome
    reason: str = ""


def recover(
    folder: Path,
    settings: Settings,
    *,
    tracking_uri: str,
    connect: Callable[[str], Any],
    end_runs: bool = False,
) -> Iterator[Recovered]:
    """Deliver every record whose process is gone, one after the other.

    ``tracking_uri`` is used where the record's own was stored without its password. ``connect``
    makes a client for an address. ``end_runs`` also sets runs left RUNNING by a dead process to KILLED.
    """
    desk = Desk(settings)
    for spool in orphans(folder):
        name = spool.path.name
        run_id = ""
        try:
            facts = facts_from_lines(spool.lines())
            run_id = facts.run_id
            outcome = _one(
                spool, facts, desk, lambda f: connect(_address(f, tracking_uri)), end_runs
            )
        except FAILURES as error:
            reason = " ".join(str(error).split())[:300]
            yield Recovered(name, run_id, Outcome.KEPT, reason)
        else:
            yield Recovered(name, run_id, outcome)


def _one(
    spool: Spool, facts: Facts, desk: Desk, connect: Callable[[Facts], Any], end_runs: bool
) -> Outcome:
    if not facts.tracking_uri:
        spool.remove()
        return Outcome.DROPPED
    client = connect(facts)
    sealed = sealed_from_lines(spool.lines())
    if sealed is not None:
        _again(client, facts.run_id, sealed)
        spool.remove()
    else:
        _first(client, facts, desk, spool)
    if end_runs:
        _end(client, facts.run_id)
    return Outcome.DELIVERED


def _again(client: Any, run_id: str, sealed: Json) -> None:
    """Send the very bytes that were sealed when the run ended."""
    try:
        document = str(sealed["document"])
        recorded = json.loads(document)["recorded"]
        record = Record(recorded["metrics"], recorded["tags"], int(sealed["step"]))
        seal = Seal(str(sealed["path"]), str(sealed["param"]), document.encode())
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the spool file is damaged: {type(error).__name__}: {error}") from error
    deliver(client, run_id, record, seal, step=record.step)


def _first(client: Any, facts: Facts, desk: Desk, spool: Spool) -> None:
    opened_at = datetime.fromisoformat(facts.opened_at)
    if facts.exit is None:
        died_at = datetime.fromtimestamp(spool.path.stat().st_mtime, timezone.utc)
        facts = replace(
            facts, exit=Exit.RECOVERED, ended_at=died_at.isoformat(timespec="milliseconds")
        )
    base = facts.base or read_base(client, facts.run_id, facts.origin, opened_at)
    # A step far beyond what the dead process can have used would make a gap in MLflow's charts.
    pushed = read_base(client, facts.run_id, Origin.CREATED, opened_at).step - base.step
    full = replace(facts, base=base)
    conclude(client, full, desk, spool, number=max(0, pushed), now_s=float("inf"))


def _end(client: Any, run_id: str) -> None:
    if client.store.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, "KILLED")


def _address(facts: Facts, tracking_uri: str) -> str:
    if HIDDEN not in facts.tracking_uri:
        return facts.tracking_uri
    if redacted(tracking_uri) == facts.tracking_uri:
        return tracking_uri
    raise DataError(
        f"the run is in {facts.tracking_uri}, whose password is not kept."
        " Give the whole address with --tracking-uri."
    )


def client_for(uri: str) -> TrackingServiceClient:
    """MLflow's own client for an address."""
    return TrackingServiceClient(uri)
