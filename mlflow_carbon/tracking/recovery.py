"""Records whose process died or could not reach MLflow: found in the spool, delivered to their runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import requests
from mlflow.exceptions import MlflowException
from mlflow.tracking._tracking_service.client import TrackingServiceClient
from sqlalchemy.exc import SQLAlchemyError

from mlflow_carbon.errors import CarbonError, DataError
from mlflow_carbon.redact import HIDDEN, redacted
from mlflow_carbon.schema import Metric, Tag
from mlflow_carbon.settings import Settings
from mlflow_carbon.tracking import several
from mlflow_carbon.tracking.delivery import conclude, deliver, our_metrics, read_base
from mlflow_carbon.tracking.desk import MS_PER_S, Desk
from mlflow_carbon.tracking.facts import Base, Exit, Facts, Json, Origin
from mlflow_carbon.tracking.nodes import parts_on
from mlflow_carbon.tracking.ranks import Place
from mlflow_carbon.tracking.record import ADDED_UP, Record
from mlflow_carbon.tracking.spool import Spool, in_progress, orphans
from mlflow_carbon.tracking.spooled import facts_from_lines, seal_of, sealed_from_lines

TOLERANCE_S = 1e-3
"""More run time than this on a run than we put there: somebody else did."""

LIVE_S = 300.0
"""A session publishes every minute; that it did so this long ago, by a clock of another host, means that it goes on."""

_WORKED_ON = "the run was taken up again and is being worked on."

_STATUS: Mapping[Exit | None, str] = {Exit.FINISHED: "FINISHED", Exit.FAILED: "FAILED"}

FAILURES = (MlflowException, requests.RequestException, SQLAlchemyError, OSError, CarbonError)


class Outcome(str, Enum):
    """What became of one spool file."""

    DELIVERED = "delivered"
    DROPPED = "dropped"
    """Nothing had been logged to the run by that process: there is nothing to deliver."""
    KEPT = "kept"
    """Could not be delivered; the file stays."""
    ENDED = "ended"
    """Had been delivered before; the run, still RUNNING, was ended now."""


class Recovered(NamedTuple):
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
            if in_progress(folder, facts.run_id, besides=spool.path):
                raise DataError(_WORKED_ON)
            outcome = complete(
                spool, facts, desk, lambda f: connect(_address(f, tracking_uri)), end_runs
            )
        except FAILURES as error:
            reason = " ".join(str(error).split())[:300]
            yield Recovered(name, run_id, Outcome.KEPT, reason)
        else:
            yield Recovered(name, run_id, outcome)


def complete(
    spool: Spool,
    facts: Facts,
    desk: Desk,
    connect: Callable[[Facts], Any],
    end_runs: bool = False,
) -> Outcome:
    """Deliver one record to its run, with the settings of the process that it is from.

    Raises:
        One of ``FAILURES``: the file stays as it is.
    """
    desk = desk.as_declared(facts)
    if not facts.tracking_uri:
        spool.remove()
        return Outcome.DROPPED
    client, ended = connect(facts), _ended(facts, spool)
    if facts.place is not None:
        another = _a_host_goes_on(client.store.get_run(facts.run_id), facts.place.node)
        _part(client, facts, desk, spool, facts.place)
        if end_runs and not another:
            _end(client, ended)
        return Outcome.DELIVERED
    sealed = sealed_from_lines(spool.lines())
    gone_on = _went_on(client, facts, sealed)
    if gone_on is not None and _is_worked_on(client.store.get_run(facts.run_id)):
        raise DataError(_WORKED_ON)  # it publishes sums that it began before this record
    if sealed is not None and gone_on is None:
        _again(client, facts.run_id, sealed, desk)
        spool.remove()
    else:
        _first(client, facts, desk, spool, gone_on)
    if end_runs:
        _end(client, ended)
    return Outcome.DELIVERED


def end_left_running(folders: Iterable[Path], client: Any) -> Iterator[Recovered]:
    """End the runs of a store whose process died and whose record was delivered before, by whom ever.

    Raises:
        One of ``FAILURES``.
    """
    places = list(folders)
    experiments = [e.experiment_id for e in _pages(client.search_experiments)]
    dead = (
        "attributes.status = 'RUNNING'"
        f" AND tags.`{Tag.EXIT}` = '{Exit.RECOVERED.value}' AND tags.`{Tag.STATUS}` = 'truncated'"
    )
    search = partial(client.search_runs, experiments, filter_string=dead)
    for run in list(_pages(search)) if experiments else []:
        run_id = run.info.run_id
        if any(in_progress(place, run_id, besides=place) for place in places):
            continue  # taken up again here, and not published yet
        if _a_host_goes_on(run):
            continue
        seconds = run.data.metrics.get(Metric.DURATION_S, 0.0)
        client.set_terminated(run_id, "KILLED", run.info.start_time + int(seconds * MS_PER_S))
        yield Recovered("", run_id, Outcome.ENDED)


def _pages(search: Callable[..., Any]) -> Iterator[Any]:
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        if not (token := page.token):
            return


def _went_on(client: Any, facts: Facts, sealed: Json | None) -> Base | None:
    """What stands on the run without this session, if another session added to the run after it."""
    now = read_base(client, facts.run_id, Origin.CREATED, datetime.fromisoformat(facts.opened_at))
    base = facts.base or Base()
    if sealed is None and facts.base is None:
        return None
    expected = {Metric.DURATION_S: 0.0, **base.metrics, **facts.pushed}
    extended = now.metrics.get(Metric.DURATION_S, 0.0) > expected[Metric.DURATION_S] + TOLERANCE_S
    if not extended or (sealed is not None and _is_on(client, facts.run_id, sealed)):
        return None
    return without(now, base, facts.pushed)


def _is_worked_on(run: Any) -> bool:
    """Whether another process has published figures just now, on whatever host."""
    measuring = run.data.tags.get(Tag.STATUS) == "measuring"
    return bool(run.info.status == "RUNNING" and measuring and _silent_s(run) < LIVE_S)


def _silent_s(run: Any) -> float:
    """Seconds since anybody published figures of ours."""
    latest_ms = max((metric.timestamp for metric in our_metrics(run)), default=0)
    return float(datetime.now(timezone.utc).timestamp() - latest_ms / MS_PER_S)


def _a_host_goes_on(run: Any, besides: str = "") -> bool:
    """Of a run on several hosts: whether another one has not said yet how it ended, and the run was heard of just now."""
    parts = parts_on(run.data.tags)
    others = any(part.status == "measuring" for name, part in parts.items() if name != besides)
    return others and _silent_s(run) < LIVE_S


def _is_on(client: Any, run_id: str, sealed: Json) -> bool:
    document = str(sealed.get("document", "")).encode()
    params = client.store.get_run(run_id).data.params
    return bool(params.get(sealed.get("param")) == hashlib.sha256(document).hexdigest())


def without(now: Base, base: Base, pushed: Mapping[str, float]) -> Base:
    """The figures on a run less what one session, begun on ``base``, had put there as ``pushed``."""
    if not pushed:
        return replace(now, unseen_s=0.0)
    metrics = dict(now.metrics)
    for name in (*ADDED_UP, Metric.DURATION_S):
        if name in metrics and name in pushed:
            metrics[name] -= pushed[name] - base.metrics.get(name, 0.0)
    covered_s = _covered_s(now.metrics) - _covered_s(pushed) + _covered_s(base.metrics)
    if whole_s := metrics.get(Metric.DURATION_S):
        metrics[Metric.COVERAGE] = min(1.0, max(0.0, covered_s / whole_s))
    return replace(now, metrics=metrics, unseen_s=0.0)


def _covered_s(metrics: Mapping[str, float]) -> float:
    return metrics.get(Metric.COVERAGE, 0.0) * metrics.get(Metric.DURATION_S, 0.0)


def _again(client: Any, run_id: str, sealed: Json, desk: Desk) -> None:
    """Send the very bytes that were sealed when the run ended."""
    try:
        seal = seal_of(sealed)
        recorded = json.loads(seal.document)["recorded"]
        record = Record(recorded["metrics"], recorded["tags"], int(sealed["step"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the spool file is damaged: {type(error).__name__}: {error}") from error
    deliver(client, run_id, record, seal, desk.settings, step=record.step)


def _part(client: Any, facts: Facts, desk: Desk, spool: Spool, place: Place) -> None:
    """Of one of several hosts: its part takes the place of the one it last published."""
    base = facts.base
    if base is None:
        base = several.own_base(client, facts.run_id, Base(), place)
    several.conclude(client, replace(_ended(facts, spool), base=base), desk, spool, place)


def _ended(facts: Facts, spool: Spool) -> Facts:
    """The facts with their end: without one the process died, when it last wrote."""
    if facts.exit is not None:
        return facts
    died_at = datetime.fromtimestamp(spool.path.stat().st_mtime, timezone.utc)
    ended_at = died_at.isoformat(timespec="milliseconds")
    return replace(facts, exit=Exit.RECOVERED, ended_at=ended_at)


def _first(client: Any, facts: Facts, desk: Desk, spool: Spool, gone_on: Base | None) -> None:
    opened_at = datetime.fromisoformat(facts.opened_at)
    facts = _ended(facts, spool)
    base = gone_on or facts.base or read_base(client, facts.run_id, facts.origin, opened_at)
    # The step after the last one on the run: how often the dead process published is not known.
    last = read_base(client, facts.run_id, Origin.CREATED, opened_at).step
    full = replace(facts, base=base)
    conclude(client, full, desk, spool, number=max(0, last - base.step), now_s=float("inf"))


def _end(client: Any, facts: Facts) -> None:
    """End the run as its process did or, if that died, as killed; at the moment that was."""
    if client.store.get_run(facts.run_id).info.status == "RUNNING":
        ended_ms = int(datetime.fromisoformat(facts.ended_at).timestamp() * MS_PER_S)
        client.set_terminated(facts.run_id, _STATUS.get(facts.exit, "KILLED"), ended_ms)


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
