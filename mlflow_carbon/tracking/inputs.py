"""Datasets on their way to a run: fingerprinted, described, and put on record in MLflow's own fields.

MLflow keeps the first entry for a name and digest and drops later ones, so
what we know must travel with the first; what it drops we still note (one
dataset in two roles).
"""

from __future__ import annotations

import json
import sys
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow_carbon.datasets.card import Card
from mlflow_carbon.datasets.cards import find_cards, merged
from mlflow_carbon.datasets.examine import Examination, Used, examine, leaks
from mlflow_carbon.datasets.examine import remember as remember_rows
from mlflow_carbon.datasets.quality import Quality
from mlflow_carbon.datasets.record import DatasetRecord, Declared, Fingerprint
from mlflow_carbon.datasets.rows import RowHashes
from mlflow_carbon.schema import InputTag
from mlflow_carbon.settings import Settings
from mlflow_carbon.tracking.edge import harmless
from mlflow_carbon.tracking.facts import Json
from mlflow_carbon.tracking.session import working_folder

TAG_LIMIT = 500
"""Characters of a dataset input tag's value."""

_live: dict[int, tuple[weakref.ref[Any], object]] = {}
"""Id of an entity -> the entity, weakly, and the dataset it was made from; gone with the entity.
Not an attribute of the entity: MLflow compares entities by their attributes."""

_TAGGED = {
    "license": InputTag.LICENSE,
    "origin": InputTag.ORIGIN,
    "collected": InputTag.COLLECTED,
    "sensitive": InputTag.SENSITIVE,
}
"""Fields of a dataset card that have an input tag of their own."""

_BYTES_PER_MB = 1_000_000

LOOK_BUDGET_S = 5.0
"""Looking at a dataset may take this long without a word; what took longer is told on the run."""

_NOT_SEEN = "only a description of the dataset was logged, not its content"


def remember(entity: Any, dataset: Any) -> None:
    """Keep the live dataset on the entity made from it until it is logged."""
    key = id(entity)
    _live[key] = (weakref.ref(entity, lambda _: _live.pop(key, None)), dataset)


def card_folders(settings: Settings) -> tuple[Path, ...]:
    """Where dataset cards are looked for: beside the script, in the working directory, where set."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    beside = [Path(script).parent] if script else []
    chosen = [settings.dataset_cards] if settings.dataset_cards is not None else []
    here = [Path(folder)] if (folder := working_folder()) else []
    return tuple(dict.fromkeys([*beside, *here, *chosen]))


def enrich(
    inputs: Iterable[Any], settings: Settings, folders: Sequence[Path], used: list[Used]
) -> tuple[list[Json], list[str]]:
    """Describe MLflow's ``DatasetInput`` objects in place; returns the records and what could not be done.

    ``used`` holds what the run used before, to notice shared rows; what it uses now is added.
    """
    records: list[Json] = []
    troubles: list[str] = []
    for item in inputs:
        with harmless("describe a dataset") as attempt:
            began = time.monotonic()
            record, rows = _described(item, settings, folders)
            _put_on(item, record)
            records.append(to_json(record) | _compared(record, rows, used))
            troubles += too_long(record.name, time.monotonic() - began)
        if attempt.failed:
            troubles.append(attempt.failed)
    return records, troubles


def too_long(name: str, looked_s: float) -> list[str]:
    """A word when looking at a dataset took more than the budget."""
    if looked_s <= LOOK_BUDGET_S:
        return []
    return [
        f"looking at dataset {name!r} took {looked_s:.1f} s of the run; "
        "set hash_limit_mb lower to have it sampled"
    ]


def _compared(record: DatasetRecord, rows: RowHashes | str, used: list[Used]) -> Json:
    """The rows the dataset shares with the run's other ones; nothing when there is none to compare with."""
    content = record.fingerprint.sha256 if record.fingerprint is not None else record.digest
    new = Used(name=record.name, context=record.context, content=content, rows=rows)
    found = leaks(new, used)
    remember_rows(new, used)
    return {} if found is None else {"leaks": [leak.to_json() for leak in found]}


def _described(
    item: Any, settings: Settings, folders: Sequence[Path]
) -> tuple[DatasetRecord, RowHashes | str]:
    entity = item.dataset
    live = _live.get(id(entity), (None, None))[1]
    name, digest = str(entity.name), str(entity.digest)
    seen = Examination(fingerprint=_NOT_SEEN, quality=None, rows=_NOT_SEEN)
    if live is not None:
        with harmless("fingerprint a dataset") as attempt:
            seen = examine(live, limit_bytes=int(settings.hash_limit_mb * _BYTES_PER_MB))
        if attempt.failed:
            seen = Examination(fingerprint=attempt.failed, quality=None, rows=attempt.failed)
    found = seen.fingerprint
    known = found if isinstance(found, Fingerprint) else None
    record = DatasetRecord(
        name=name,
        digest=digest,
        context=_context(item),
        fingerprint=known,
        unfingerprinted="" if known is not None else str(found),
        declared={**merged(_cards(live, name, known, folders)), **_given(item)},
        quality=seen.quality,
    )
    return record, seen.rows


def _given(item: Any) -> dict[str, Declared]:
    """What the caller put into input tags of ours: nearer to the truth than any card."""
    tags = {tag.key: str(tag.value) for tag in item.tags}
    by = tags.get(InputTag.DECLARED_BY) or "tags given to log_input"
    return {key: Declared(tags[tag], by) for key, tag in _TAGGED.items() if tags.get(tag)}


def _context(item: Any) -> str:
    return next((str(tag.value) for tag in item.tags if tag.key == InputTag.CONTEXT), "")


def _cards(
    live: object, name: str, known: Fingerprint | None, folders: Sequence[Path]
) -> tuple[Card, ...]:
    """The cards that speak of the dataset, the nearest to the training code first."""
    from mlflow_carbon.tracking.describe import described_in_code

    cards: tuple[Card, ...] = ()
    with harmless("read the dataset cards"):
        said = described_in_code(live, name)
        cards = () if said is None else (said,)
        cards += find_cards(name, known.sha256 if known else None, list(folders))
    return cards


def to_json(record: DatasetRecord) -> Json:
    """The record as an object, for the provenance record and the run tag."""
    data: Json = {"name": record.name, "digest": record.digest, "context": record.context}
    if record.fingerprint is not None:
        data |= {
            "sha256": record.fingerprint.sha256,
            "rows": record.fingerprint.rows,
            "hash_scope": record.fingerprint.scope,
            "form": record.fingerprint.form,
        }
    else:
        data["unfingerprinted"] = record.unfingerprinted
    if record.quality is not None:
        data["quality"] = record.quality.to_json()
    data["declared"] = {
        key: {"value": said.value, "declared_by": said.by} for key, said in record.declared.items()
    }
    return data


def _put_on(item: Any, record: DatasetRecord) -> None:
    """Input tags for machines; keys in the profile because MLflow's UI shows those."""
    from mlflow.entities import InputTag as MlflowInputTag

    values = _input_tags(record)
    present = {tag.key for tag in item.tags}
    new = [MlflowInputTag(k, v[:TAG_LIMIT]) for k, v in values.items() if k not in present]
    item._tags = [*item.tags, *new]
    entity = item.dataset
    profile = _profile(entity.profile, values)
    if profile is not None:
        entity._profile = profile


def _input_tags(record: DatasetRecord) -> dict[str, str]:
    values: dict[str, str] = {}
    if record.fingerprint is not None:
        values[InputTag.SHA256] = record.fingerprint.sha256
        values[InputTag.HASH_SCOPE] = record.fingerprint.scope
        if record.fingerprint.rows is not None:
            values[InputTag.ROWS] = str(record.fingerprint.rows)
    if record.quality is not None:
        values |= _quality_tags(record.quality)
    values |= {
        tag: record.declared[key].value for key, tag in _TAGGED.items() if key in record.declared
    }
    if record.declared:
        values[InputTag.DECLARED_BY] = _who(record.declared)
    return values


def _who(declared: Mapping[str, Declared]) -> str:
    """One name, or who declared which fields: ``Kim: license, origin; the training code: collected``."""
    fields_of: dict[str, list[str]] = {}
    for key, said in declared.items():
        fields_of.setdefault(said.by, []).append(key)
    if len(fields_of) == 1:
        return next(iter(fields_of))
    return "; ".join(f"{by}: {', '.join(keys)}" for by, keys in fields_of.items())


def _quality_tags(quality: Quality) -> dict[str, str]:
    found = [f"{one.column} ({one.kind}, by {one.found_by})" for one in quality.sensitive]
    values = {
        InputTag.MISSING_CELLS: str(sum(quality.missing.values())),
        InputTag.SENSITIVE_FOUND: ", ".join(found) or "none",
    }
    if quality.duplicate_rows is not None:
        values[InputTag.DUPLICATE_ROWS] = str(quality.duplicate_rows)
    return values


def _profile(existing: str | None, values: dict[str, str]) -> str | None:
    """The profile with our keys added; ``None`` when it is not a JSON object and is left alone."""
    profile = json.loads(existing) if existing else {}
    if not isinstance(profile, dict):
        return None
    for key, value in values.items():
        profile.setdefault(key, value)
    return json.dumps(profile)
