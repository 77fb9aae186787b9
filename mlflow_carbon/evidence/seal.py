"""Whether a run's record is as it was when the run ended.

At its end each run writes a document of its own state and puts the document's SHA-256 into a
param, which MLflow lets nobody change. Here the document is read again and compared with the
run as it is now: every key that was changed, removed or added since is named.

Where a signature lies beside the document it is checked, and where a witness saw the run (see
``witness.py``) its files are compared as well. Without those two, not seen: changed model files; a run
forged as a whole; a record that was sealed again by somebody who may write to the store.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlflow_carbon import schema
from mlflow_carbon.errors import StoreError
from mlflow_carbon.evidence import signature
from mlflow_carbon.evidence.client import hide_progress_bars
from mlflow_carbon.evidence.sealed import Change, Seal, SealCheck
from mlflow_carbon.evidence.store import Query, open_store
from mlflow_carbon.evidence.witness import Seen, compared, vanished
from mlflow_carbon.schema import Artifact, Metric, Param, Tag, signature_path
from mlflow_carbon.signing.trust import Trust

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
END_TOLERANCE_S = 120.0
"""The document is made just before MLflow writes the end time; both clocks may differ."""

_ABSENT = "RESOURCE_DOES_NOT_EXIST"
_LATER = (Tag.CARD_PREFIX, "mlflow.note.content")
"""Tags that are meant to be written after the run: dataset cards and the note of the MLflow UI."""


class Seals:
    """The seals of a store."""

    def __init__(self, uri: str, trust: Trust = Trust(), seen: Seen = Seen()) -> None:  # noqa: B008 - both are frozen
        """Open the store; waits some seconds at most. ``seen``: what a witness saw.

        Raises:
            StoreError: it cannot be read.
        """
        hide_progress_bars()
        self._store = open_store(uri)
        self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self._trust, self._seen = trust, seen

    def chosen(
        self, runs: Sequence[str] = (), experiments: Sequence[str] = (), models: Sequence[str] = ()
    ) -> Iterator[str]:
        """Run ids: those given, those behind ``name/version``, those of experiments; nothing given: all.

        Raises:
            StoreError: an experiment or a version does not exist, or a version names no run.
        """
        yield from runs
        for model in models:
            name, _, version = model.rpartition("/")
            run_id = self._store.version(name, version).facts.get("run.id")
            if run_id is None:
                raise StoreError(f"model version {model}: its training run is not known.")
            yield str(run_id.value)
        if experiments or not (runs or models):
            for evidence in self._store.runs(Query(experiments=tuple(experiments))):
                yield evidence.subject.key

    def check(self, run_id: str) -> SealCheck:
        """One run against its seal."""
        sighting = self._seen.runs.get(run_id)
        if sighting is not None and self._gone(run_id):
            return vanished(sighting)
        check = check_run(self._client, run_id, self._trust)
        return check if sighting is None else compared(check, sighting, self._client)

    def vanished(self) -> tuple[SealCheck, ...]:
        """The runs a witness saw that are gone for good."""
        return tuple(vanished(one) for key, one in self._seen.runs.items() if self._gone(key))

    def _gone(self, run_id: str) -> bool:
        try:
            self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == _ABSENT:
                return True
            raise StoreError(f"run {run_id}: cannot be read: {error.message}") from error
        return False


def check_run(client: Any, run_id: str, trust: Trust = Trust()) -> SealCheck:  # noqa: B008 - frozen
    """Compare one run with its seal. ``client`` is an ``MlflowClient``.

    Raises:
        StoreError: there is no such run, or the store does not answer.
    """
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise StoreError(f"run {run_id}: cannot be read: {error.message}") from error
    name = run.info.run_name or ""
    params = _seals(run.data.params)
    if not params:
        why = "the run has no seal: it was not recorded by mlflow-carbon, or has not ended"
        return SealCheck(run_id, name, Seal.UNSEALED, reason=why)
    documents: list[Mapping[str, Any]] = []
    for number, (param, digest) in enumerate(params, start=1):
        document, fault = _document(client, run_id, number, digest)
        if document is None:
            change = Change("document", _path(number), "changed", digest, fault)
            return SealCheck(run_id, name, Seal.ALTERED, (change,), f"{param}: {fault}")
        documents.append(document)
    changes = (
        *_chain(run_id, params, documents),
        *_files(client, run_id, documents),
        *_compare(documents, run),
    )
    last, digest = _path(len(params)), params[-1][1]
    envelope, _ = _artifact(client, run_id, signature_path(last))
    signed = signature.UNSIGNED
    if envelope is not None:
        signed = signature.check(envelope, run_id, last, digest, trust)
    again = f"sealed {len(params)} times: it was resumed, or somebody wrote a new record"
    return SealCheck(
        run_id,
        name,
        verdict(changes),
        tuple(sorted(changes)),
        again if len(params) > 1 else "",
        signed,
    )


def verdict(changes: tuple[Change, ...]) -> Seal:
    """The state of a sealed run with these differences."""
    if any(change.kind != "added" for change in changes):
        return Seal.ALTERED
    return Seal.EXTENDED if changes else Seal.SEALED


def _seals(params: Mapping[str, str]) -> list[tuple[str, str]]:
    """The params that hold digests, oldest first: ``...sha256``, ``...sha256.2``, ..."""
    found = []
    number = 1
    while (name := Param.EVIDENCE_SHA256 + ("" if number == 1 else f".{number}")) in params:
        found.append((name, params[name]))
        number += 1
    return found


def _path(number: int) -> str:
    stem, dot, extension = Artifact.EVIDENCE.rpartition(".")
    return Artifact.EVIDENCE if number == 1 else f"{stem}.{number}{dot}{extension}"


def _document(
    client: Any, run_id: str, number: int, digest: str
) -> tuple[Mapping[str, Any] | None, str]:
    """The document behind a digest, or why there is none that fits."""
    path = _path(number)
    content, fault = _named(client, run_id, path, digest)
    if content is None:
        return None, fault
    try:
        document = json.loads(content)
    except ValueError:
        return None, f"{path} is not JSON"
    return (
        (document, "") if isinstance(document, dict) else (None, f"{path} is no document of ours")
    )


def _named(client: Any, run_id: str, path: str, digest: str) -> tuple[bytes | None, str]:
    """The file with this digest, or why there is none."""
    content, fault = _artifact(client, run_id, path)
    if content is None:
        return None, fault
    actual = hashlib.sha256(content).hexdigest()
    if actual != digest:
        return None, f"{path} was overwritten: its SHA-256 is {actual}"
    return content, ""


def _files(client: Any, run_id: str, documents: list[Mapping[str, Any]]) -> Iterator[Change]:
    """The files beside the documents, each named with its digest in one of them."""
    for document in documents:
        for path, digest in _map(document, "files").items():
            content, fault = _named(client, run_id, str(path), str(digest))
            if content is None:
                yield Change("document", str(path), "changed", str(digest), fault)


def _artifact(client: Any, run_id: str, path: str) -> tuple[bytes | None, str]:
    """A file of ours, or why there is none."""
    folder = path.rpartition("/")[0]
    try:
        listed = {item.path: item.file_size for item in client.list_artifacts(run_id, folder)}
        if path not in listed:
            return None, f"{path} is gone"
        if (listed[path] or 0) > MAX_DOCUMENT_BYTES:
            return None, f"{path} is larger than any document we write"
        with tempfile.TemporaryDirectory(prefix="mlflow-carbon-") as scratch:
            return Path(client.download_artifacts(run_id, path, scratch)).read_bytes(), ""
    except (MlflowException, OSError) as error:
        raise StoreError(f"run {run_id}: its artifacts cannot be read: {error}") from error


def _chain(
    run_id: str, params: list[tuple[str, str]], documents: list[Mapping[str, Any]]
) -> list[Change]:
    """Each document names its run and the digest of the one before it."""
    found = []
    before: str | None = None
    for number, ((_, digest), document) in enumerate(zip(params, documents, strict=True), start=1):
        if document.get("run_id") != run_id:
            found.append(
                Change("document", _path(number), "changed", str(document.get("run_id")), run_id)
            )
        if document.get("previous_sha256") != before:
            found.append(
                Change(
                    "document",
                    f"{_path(number)} previous",
                    "changed",
                    str(document.get("previous_sha256")),
                    str(before),
                )
            )
        before = digest
    return found


def _compare(documents: list[Mapping[str, Any]], run: Any) -> list[Change]:
    """The last document has the user's part as it was last; ours is what all sessions wrote, in turn."""
    document = documents[-1]
    sealed = document.get("run") or {}
    ours: dict[str, Any] = {
        part: {
            key: v for one in documents for key, v in _map(one.get("recorded") or {}, part).items()
        }
        for part in ("metrics", "tags")
    }
    data, tags = run.data, _map(sealed, "tags")
    found = [
        *_differences(
            "metric", _map(sealed, "metrics"), _without(data.metrics, schema.PREFIX_METRIC)
        ),
        *_differences("metric", _map(ours, "metrics"), _our_metrics(data.metrics)),
        *_differences("tag", _without(tags, schema.PREFIX), _without(data.tags, schema.PREFIX)),
        *_differences(
            "tag",
            {**_only(tags, schema.PREFIX), **_map(ours, "tags")},
            _only(data.tags, schema.PREFIX),
        ),
        *_differences("param", _map(sealed, "params"), _without(data.params, schema.PREFIX)),
        *_differences("input", _inputs(sealed.get("inputs") or ()), _inputs(_inputs_now(run))),
        *_frame(document, sealed, run),
    ]
    return [
        change for change in found if not (change.place == "tag" and change.key.startswith(_LATER))
    ]


def _map(source: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = source.get(key)
    return dict(value) if isinstance(value, dict) else {}


def _without(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if not key.startswith(prefix)}


def _only(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key.startswith(prefix)}


def _our_metrics(values: Mapping[str, float]) -> dict[str, float]:
    """The power series is written while the run runs and has no final value to seal."""
    return {
        key: v for key, v in _only(values, schema.PREFIX_METRIC).items() if key != Metric.POWER_W
    }


def _differences(place: str, sealed: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    found = []
    for key in sorted({*sealed, *now}):
        if key not in now:
            found.append(Change(place, key, "removed", _told(sealed[key]), ""))
        elif key not in sealed:
            found.append(Change(place, key, "added", "", _told(now[key])))
        elif _told(sealed[key]) != _told(now[key]):
            found.append(Change(place, key, "changed", _told(sealed[key]), _told(now[key])))
    return found


def _told(value: object) -> str:
    """One form for a value from JSON and the same value from MLflow: 1 and 1.0 are one number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return repr(float(value))
    try:
        return (
            repr(float(value))
            if isinstance(value, str) and value in {"nan", "inf", "-inf"}
            else str(value)
        )
    except ValueError:
        return str(value)


def _inputs(items: Any) -> dict[str, str]:
    """Inputs by name, digest and role; the value is everything known about one."""
    found: dict[str, str] = {}
    for item in items:
        tags = item.get("tags") or {}
        key = f"{item.get('name')}/{item.get('digest')}/{tags.get(schema.InputTag.CONTEXT, '')}"
        found[key] = json.dumps(item, sort_keys=True, ensure_ascii=False)
    return found


def _inputs_now(run: Any) -> list[dict[str, Any]]:
    """In the form in which the recorder sealed them."""
    inputs = getattr(getattr(run, "inputs", None), "dataset_inputs", None) or []
    return [
        {
            "name": item.dataset.name,
            "digest": item.dataset.digest,
            "source_type": item.dataset.source_type,
            "source": item.dataset.source,
            "tags": {tag.key: tag.value for tag in item.tags},
        }
        for item in inputs
    ]


def _frame(document: Mapping[str, Any], sealed: Mapping[str, Any], run: Any) -> list[Change]:
    """Experiment, start and end of the run, and whether it is deleted."""
    info = run.info
    found = []
    if info.lifecycle_stage == "deleted":
        found.append(Change("run", "lifecycle_stage", "changed", "active", "deleted"))
    for key, now in (("experiment_id", info.experiment_id), ("start_time_ms", info.start_time)):
        if key in sealed and str(sealed[key]) != str(now):
            found.append(Change("run", key, "changed", str(sealed[key]), str(now)))
    session = document.get("session") or {}
    if session.get("exit") != "recovered" and session.get("ended_at") and info.end_time:
        ended = datetime.fromisoformat(session["ended_at"])
        if abs(ended.timestamp() - info.end_time / 1000.0) > END_TOLERANCE_S:
            told = datetime.fromtimestamp(info.end_time / 1000.0, ended.tzinfo).isoformat()
            found.append(Change("run", "end_time", "changed", session["ended_at"], told))
    return found
