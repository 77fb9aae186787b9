"""What is written on the run of a session: figures while it is open, and the record at its end.

This works on the sender's thread and is loaded before, by the user's.
"""

from __future__ import annotations

import time
from dataclasses import replace

from mlflow_carbon.energy.ledger import RunEnergy
from mlflow_carbon.tracking import delivery, several
from mlflow_carbon.tracking.edge import harmless
from mlflow_carbon.tracking.facts import Facts
from mlflow_carbon.tracking.session import Session


def publish(session: Session, energy: RunEnergy) -> None:
    """Put the figures so far on the run."""
    facts = _with_base(session, session.facts(energy))
    record = session.desk.record(facts)
    power_w = session.power_since_last_push(energy)
    number = session.pushes
    session.pushed(energy, record.metrics)
    # Before the fact: what is on the run must be known even if we are killed in between.
    with harmless("keep a spool file"):
        session.spool_facts(session.facts(energy), now_s=time.monotonic())
    client, run_id, known = session.client, session.run_id, session.tags_on_run
    if session.place is not None:
        several.share(client, facts, session.desk, session.place)
        return
    delivery.push(client, run_id, record, known, number=number, power_w=power_w)
    session.tags_on_run = record.tags


def conclude(session: Session, facts: Facts) -> None:
    """Write the record."""
    full, now_s = _with_base(session, facts), time.monotonic()
    client, desk, spool = session.client, session.desk, session.spool
    if session.place is not None:
        several.conclude(client, full, desk, spool, session.place)
    else:
        delivery.conclude(client, full, desk, spool, number=session.pushes, now_s=now_s)


def _with_base(session: Session, facts: Facts) -> Facts:
    """What stood on the run before is read once, before anything of the session is written."""
    if session.base is None:
        run_id, client = session.run_id, session.client
        session.base = delivery.read_base(client, run_id, session.origin, session.opened_at)
        if session.place is not None:
            session.base = several.own_base(client, run_id, session.base, session.place)
    return replace(facts, base=session.base)
