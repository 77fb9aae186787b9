"""From facts to the run in MLflow: what a push reads and writes, and in which order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mlflow_carbon import schema
from mlflow_carbon.schema import Artifact, Metric, Param, Tag, signature_path
from mlflow_carbon.settings import Settings
from mlflow_carbon.tracking.desk import MS_PER_S, Desk
from mlflow_carbon.tracking.edge import harmless
from mlflow_carbon.tracking.facts import Base, Facts, Json, Origin
from mlflow_carbon.tracking.provenance import provenance
from mlflow_carbon.tracking.ranks import is_launcher
from mlflow_carbon.tracking.record import Record
from mlflow_carbon.tracking.scratch import scratch
from mlflow_carbon.tracking.sealing import Seal, seal, with_provenance
from mlflow_carbon.tracking.signature import signed
from mlflow_carbon.tracking.spool import Spool
from mlflow_carbon.tracking.spooled import sealed_line
from mlflow_carbon.tracking.summary import page


def read_base(client: Any, run_id: str, origin: Origin, opened_at: datetime) -> Base:
    """What stands on the run already, and how much of its time nobody watched. One ``get_run``."""
    run = client.store.get_run(run_id)
    metrics = {k: v for k, v in run.data.metrics.items() if k.startswith(schema.PREFIX_METRIC)}
    seals = sorted(
        (k for k in run.data.params if k.startswith(Param.EVIDENCE_SHA256)),
        key=lambda name: int(name.rpartition(".")[2]) if name != Param.EVIDENCE_SHA256 else 1,
    )
    unseen_s = 0.0
    if not metrics and not is_launcher(run.data.tags) and origin is not Origin.CREATED:
        until_ms = run.info.end_time or opened_at.timestamp() * MS_PER_S
        unseen_s = max(0.0, (until_ms - run.info.start_time) / MS_PER_S)
    return Base(
        metrics=metrics,
        step=last_step(run),
        seals=len(seals),
        seal=run.data.params[seals[-1]] if seals else "",
        datasets=_earlier_datasets(run.data.tags.get(Tag.DATASETS, "")),
        basis=run.data.tags.get(Tag.FACTOR_BASIS, "") if Metric.EMISSIONS_KG in metrics else "",
        unseen_s=unseen_s,
    )


def last_step(run: Any) -> int:
    """Of our metrics on the run; -1 when there are none."""
    return max((int(m.step) for m in our_metrics(run)), default=-1)


def our_metrics(run: Any) -> list[Any]:
    """The latest point of each of our metrics on the run."""
    found = getattr(run.data, "_metric_objs", ())
    return [m for m in found if m.key.startswith(schema.PREFIX_METRIC)]


def _earlier_datasets(text: str) -> tuple[Json, ...]:
    try:
        found = json.loads(text) if text else []
    except ValueError:  # somebody else wrote the tag
        return ()
    known = ("name", "digest")
    return tuple(d for d in found if isinstance(d, dict) and all(k in d for k in known))


def state_of_run(run: Any) -> Json:
    """Params, metrics, tags and inputs as MLflow has them, ours left out: what the seal covers."""
    inputs = getattr(getattr(run, "inputs", None), "dataset_inputs", None) or []
    return {
        "experiment_id": run.info.experiment_id,
        "start_time_ms": run.info.start_time,
        "params": {k: v for k, v in run.data.params.items() if not k.startswith(schema.PREFIX)},
        "metrics": {
            k: v for k, v in run.data.metrics.items() if not k.startswith(schema.PREFIX_METRIC)
        },
        "tags": dict(
            run.data.tags
        ),  # users set some under our prefix (phase, owner); ours are replaced
        "inputs": [
            {
                "name": item.dataset.name,
                "digest": item.dataset.digest,
                "source_type": item.dataset.source_type,
                "source": item.dataset.source,
                "tags": {tag.key: tag.value for tag in item.tags},
            }
            for item in inputs
        ],
    }


def push(
    client: Any,
    run_id: str,
    record: Record,
    known: Mapping[str, str],
    *,
    number: int,
    power_w: float | None,
) -> None:
    """Put the figures so far on the run, and the tags that are not ``known`` to be there; one ``log_batch``."""
    metrics = dict(record.metrics)
    if power_w is not None:
        metrics[Metric.POWER_W] = float(f"{power_w:.9g}")
    tags = {name: value for name, value in record.tags.items() if known.get(name) != value}
    log(client, run_id, metrics, tags, step=record.step + number)


def conclude(
    client: Any, facts: Facts, desk: Desk, spool: Spool | None, *, number: int, now_s: float
) -> None:
    """The last push: figures, seal and evidence. The spool file goes once the run has everything.

    The document is kept in the spool before it is sent: a second try sends the same bytes, as the
    param that names them can be written only once.
    """
    base = facts.base or Base()
    record = desk.record(facts)
    record, document = sealed(facts, base, record, desk, client.store.get_run(facts.run_id))
    step = record.step + number
    with harmless("keep a spool file"):  # full or not, the store may well take the record
        if spool is not None:
            spool.append(sealed_line(document, step), now_s=now_s)
    deliver(client, facts.run_id, record, document, desk.settings, step=step)
    if spool is not None:
        spool.remove()


def sealed(facts: Facts, base: Base, record: Record, desk: Desk, run: Any) -> tuple[Record, Seal]:
    """The record with what it says of the datasets, and the document that seals both; ``run`` as it is now."""
    state = state_of_run(run)
    attached = provenance(facts.run_id, facts.datasets, state["params"], base.seals + 1)
    record = with_provenance(record, attached)
    return record, seal(facts, base, record, desk.factor_of(facts), state, attached)


def deliver(
    client: Any, run_id: str, record: Record, document: Seal, settings: Settings, *, step: int
) -> None:
    """Send a sealed record: first all figures in one ``log_batch``, then the documents."""
    params = {document.param: document.sha256}
    log(client, run_id, record.metrics, record.tags, step=step, params=params)
    _put(client, run_id, document.path, document.document)
    attached = document.provenance
    if attached is not None:
        _put(client, run_id, attached.path, attached.content)
    if settings.signing_key is not None:
        with harmless("sign the record"):  # it is sealed without
            envelope = signed(run_id, document, settings.signing_key)
            _put(client, run_id, signature_path(document.path), envelope)
    with harmless("write the summary page"):  # the record is whole without it
        datasets = [] if attached is None else json.loads(attached.content)["datasets"]
        summary = page(json.loads(document.document), document.sha256, document.path, datasets)
        _put(client, run_id, Artifact.SUMMARY, summary.encode())


def _put(client: Any, run_id: str, path: str, data: bytes) -> None:
    with scratch() as temporary:
        folder, _, name = path.rpartition("/")
        file = Path(temporary) / name
        file.write_bytes(data)
        client.log_artifact(run_id, str(file), folder)


def log(
    client: Any,
    run_id: str,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    *,
    step: int,
    params: Mapping[str, str] | None = None,
) -> None:
    """One ``log_batch`` straight on the store, past our own hooks and the client's async queue."""
    from mlflow import entities

    now_ms = int(datetime.now(timezone.utc).timestamp() * MS_PER_S)
    client.store.log_batch(
        run_id,
        metrics=[entities.Metric(k, v, now_ms, step) for k, v in metrics.items()],
        params=[entities.Param(k, v) for k, v in (params or {}).items()],
        tags=[entities.RunTag(k, v) for k, v in tags.items()],
    )
