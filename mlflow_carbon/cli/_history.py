"""``audit --compare`` and ``--record``: the last audit and the next."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow_carbon
from mlflow_carbon.audit.baseline import Earlier, Past, compare, read_report
from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.errors import DataError
from mlflow_carbon.policy.model import Pack, State
from mlflow_carbon.units import G_PER_KG, kwh

if TYPE_CHECKING:
    from mlflow_carbon.evidence.history import History

LAST = "last"


def key_of(packs: Sequence[Pack], query: object) -> str:
    """What an audit asks: audits with one key had the same policies, by name, and the same selection."""
    # Not in ``evidence.history``: that loads MLflow, a second of processor time for each audit.
    parts = [sorted(pack.id for pack in packs), str(query)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def last_moment(store: str, *questions: str) -> datetime | None:
    """The moment of the last audit on record that asked one of these (``key_of``); ``None``: this is the first."""
    from mlflow_carbon.evidence.history import History

    history = History(store)
    return max((one.as_of for key in questions for one in history.past(key)), default=None)


def first_of_its_kind(on_record: bool) -> str:
    """What is said where ``last`` was asked for and no audit that asked the same is on record."""
    told = (
        "First audit on record with these policies and this selection"
        if on_record
        else "No audit with these policies and this selection is on record; --record keeps this one"
    )
    return f"{told}: everything selected was read, nothing is compared."


def compared(audit: Audit, given: str, key: str, store: str) -> Audit:
    """The audit with its comparison to an earlier report: a file, or ``last`` on record.

    The first audit of a series has nothing to be compared with and comes back as it is.

    Raises:
        DataError: the file is no report of ours.
        StoreError: the recorded report cannot be read, or was changed.
    """
    if given != LAST:
        return _with(audit, read_report(_read(Path(given)), given), ())
    from mlflow_carbon.evidence.history import History

    history = History(store)
    past = [one for one in history.past(key) if one.as_of < audit.as_of]
    if not past:
        return audit
    figures = tuple(
        Past(one.as_of, {State(name): n for name, n in one.counts.items()}) for one in past
    )
    return _with(audit, read_report(history.report(past[-1]), LAST), figures)


def _with(audit: Audit, earlier: Earlier, past: tuple[Past, ...]) -> Audit:
    change = compare(audit.findings, audit.findings_left_out, earlier)
    return replace(audit, change=change, past=past)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from None


def record(audit: Audit, files: Sequence[Path], key: str, store: str) -> str:
    """Put the audit on record in the store it audited; answers with where.

    Raises:
        StoreError: the store refuses.
    """
    from mlflow_carbon.evidence.history import EXPERIMENT, AuditRecord, History

    mlflow_carbon.disable()  # an audit is no training
    history: History = History(store)
    account = audit.energy
    figures = {"runs": float(audit.selection.runs_read), "audit_cpu_s": time.process_time()}
    if account.total_j is not None:
        figures["energy_kwh"] = kwh(account.total_j.mid)
    if account.emissions_g is not None:
        figures["emissions_kg"] = account.emissions_g.mid / G_PER_KG
    run_id = history.record(
        AuditRecord(
            key=key,
            as_of=audit.as_of,
            counts={state.value: audit.count(state) for state in State},
            figures=figures,
            tags={
                "policies": ", ".join(
                    f"{pack.id} {pack.version} {pack.sha256}" for pack in audit.packs
                )
            },
            files=files,
        )
    )
    return f"experiment {EXPERIMENT!r}, run {run_id}"
