"""What one of several hosts writes on the run they share: its own part, and the sum of all parts."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from mlflow.exceptions import MlflowException

from mlflow_carbon.schema import Tag
from mlflow_carbon.tracking.delivery import deliver, last_step, log, read_base, sealed
from mlflow_carbon.tracking.desk import Desk
from mlflow_carbon.tracking.facts import Base, Exit, Facts, Origin
from mlflow_carbon.tracking.nodes import EARLIER, earlier, part_of, parts_on, tag_of, together
from mlflow_carbon.tracking.ranks import Place
from mlflow_carbon.tracking.record import Record
from mlflow_carbon.tracking.spool import Spool

_TRIES = 20
"""How often a host tries to seal a run while others do."""


def own_base(client: Any, run_id: str, base: Base, place: Place) -> Base:
    """What this host itself had recorded before; time before it joined is nobody's to account for."""
    part = parts_on(client.store.get_run(run_id).data.tags).get(place.node)
    return replace(base, metrics=part.metrics if part else {}, unseen_s=0.0)


def share(client: Any, facts: Facts, desk: Desk, place: Place) -> None:
    """Publish this host's part; the first host also the sum of all parts so far."""
    mine = desk.record(facts)
    if place.first:
        found = _sum(_read(client, facts.run_id), mine, place)
        log(client, facts.run_id, found.metrics, found.tags, step=found.step)
    else:
        log(client, facts.run_id, {}, tag_of(place.node, part_of(mine, place)), step=0)


_SETTLING_S = 0.5
"""MLflow stores the metrics of a ``log_batch`` some milliseconds before its tags (over a busy server more): who reads the
run between the two sees figures without the host they are from, and must look again before taking them for an earlier session's."""


def conclude(client: Any, facts: Facts, desk: Desk, spool: Spool | None, place: Place) -> None:
    """The last push of one host.

    The seal's number can be taken once: of two hosts that end at the same moment one is refused,
    reads what the other has written, and adds to that.
    """
    for attempt in range(1, _TRIES + 1):
        run = _read(client, facts.run_id)
        base = read_base(client, facts.run_id, Origin.CREATED, datetime.now(timezone.utc))
        record = _sum(run, desk.record(facts), place)
        record, document = sealed(facts, base, record, desk, run)
        try:
            deliver(client, facts.run_id, record, document, desk.settings, step=record.step)
            break
        except MlflowException:
            taken = client.store.get_run(facts.run_id).data.params.get(document.param)
            if attempt == _TRIES or taken in (None, document.sha256):
                raise
            time.sleep(random.uniform(0.0, 0.1 * attempt))  # noqa: S311 (no secret)
    if spool is not None:
        spool.remove()


def _read(client: Any, run_id: str) -> Any:
    """The run with what the other hosts have written, figures and tags alike: MLflow stores the figures first."""
    run = client.store.get_run(run_id)
    if earlier(run.data.tags, run.data.metrics) is not None:
        time.sleep(_SETTLING_S)
        run = client.store.get_run(run_id)
    return run


def _sum(run: Any, mine: Record, place: Place) -> Record:
    parts = parts_on(run.data.tags)
    written = {}
    if (before := earlier(run.data.tags, run.data.metrics)) is not None:
        parts[EARLIER] = before
        written = tag_of(EARLIER, before)
    parts[place.node] = part_of(mine, place)
    found = together(mine, parts, step=last_step(run) + 1)
    tags = {**found.tags, **written, **tag_of(place.node, parts[place.node])}
    if not place.first and tags.get(Tag.EXIT) == Exit.PROCESS_EXIT.value:
        del tags[Tag.EXIT]  # it left the run as it was: how that ends, the first host tells
    return found._replace(tags=tags)
