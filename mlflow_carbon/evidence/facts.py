"""What MLflow says about one run, as facts. Works on MLflow's entities from a client or a store alike."""

from __future__ import annotations

import json
import math
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from mlflow_carbon.evidence.model import Evidence, Fact, FactValue, Subject, SubjectKind
from mlflow_carbon.schema import InputTag, Tag

PARENT_TAG = "mlflow.parentRunId"
COMMIT_TAG = "mlflow.source.git.commit"

_STORED_INFINITY = 1.7976931348623157e308
"""MLflow's database stores write the largest double in place of infinity."""

COUNTED = {
    "rows": InputTag.ROWS,
    "duplicate_rows": InputTag.DUPLICATE_ROWS,
    "missing_cells": InputTag.MISSING_CELLS,
}
"""Key of a dataset fact -> the input tag that holds it: whole numbers."""

TOLD = {
    "context": InputTag.CONTEXT,
    "sha256": InputTag.SHA256,
    "hash_scope": InputTag.HASH_SCOPE,
    "sensitive_found": InputTag.SENSITIVE_FOUND,
}
"""The same for texts that were found."""

DECLARED = {
    "license": InputTag.LICENSE,
    "origin": InputTag.ORIGIN,
    "collected": InputTag.COLLECTED,
    "sensitive": InputTag.SENSITIVE,
    "declared_by": InputTag.DECLARED_BY,
}
"""The same for texts that somebody declared, with the run or afterwards on a card."""


_FIRST = datetime(1, 1, 1, tzinfo=timezone.utc)
_LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)


def number(stored: Any) -> float:
    """A number as it is.

    Raises:
        ValueError: it is none; SQLite takes anything into any column.
    """
    if isinstance(stored, int | float):
        return stored
    raise ValueError(f"{str(stored)[:50]!r} stands where a number belongs")


def moment(milliseconds: int | None) -> datetime | None:
    """MLflow's milliseconds since 1970 as an aware time; ``None`` where MLflow has none.

    What is beyond all calendars (nanoseconds taken for milliseconds, a broken clock) is their first or last moment.

    Raises:
        ValueError: it is no number.
    """
    if milliseconds is None:
        return None
    number(milliseconds)
    try:
        return datetime.fromtimestamp(milliseconds / 1000.0, tz=timezone.utc)
    except (OverflowError, ValueError, OSError):
        return _LAST if milliseconds > 0 else _FIRST


def metric_value(stored: float) -> float:
    """The number that was logged: MLflow's stand-in for infinity is infinity again."""
    if abs(number(stored)) >= _STORED_INFINITY:
        return math.copysign(math.inf, stored)
    return stored


def known(values: Iterable[tuple[str, FactValue | None]], read_from: str) -> dict[str, Fact]:
    """Facts of the values that are there."""
    return {key: Fact(value, read_from) for key, value in values if value is not None}


def run_evidence(run: Any, experiment: str) -> Evidence:
    """All that is known about a run; ``experiment`` is the name of the one it belongs to."""
    where = f"run {run.info.run_id}"
    facts = _logged(run.data, where)
    # Stores give them in any order; a finding says the same whichever way the run was read.
    inputs = sorted(run.inputs.dataset_inputs, key=_place) if run.inputs else []
    contexts = tuple(
        sorted({context for i in inputs if (context := _tags(i).get(InputTag.CONTEXT))})
    )
    facts.update(known(_attributes(run, experiment), where))
    facts["run.datasets"] = Fact(len(inputs), f"{where} inputs")
    facts["run.dataset_contexts"] = Fact(contexts, f"{where} inputs")
    subject = Subject(SubjectKind.RUN, run.info.run_id, run.info.run_name or run.info.run_id)
    members = tuple(_dataset_evidence(run, one, facts) for one in inputs)
    return Evidence(subject, facts, {"datasets": members})


def _logged(data: Any, where: str) -> dict[str, Fact]:
    facts: dict[str, Fact] = {}
    for key, value in data.metrics.items():
        facts[f"metric.{key}"] = Fact(metric_value(value), f"{where} metric {key}")
    for key, value in data.params.items():
        facts[f"param.{key}"] = Fact(value, f"{where} param {key}")
    for key, value in data.tags.items():
        facts[f"tag.{key}"] = Fact(value, f"{where} tag {key}")
    return facts


def _attributes(run: Any, experiment: str) -> Iterator[tuple[str, FactValue | None]]:
    info, tags = run.info, run.data.tags
    yield "run.id", info.run_id
    yield "run.name", info.run_name or None
    yield "run.status", info.status
    yield "run.user", info.user_id or tags.get("mlflow.user")
    yield "run.experiment", experiment
    yield "run.start_time", moment(info.start_time)
    yield "run.end_time", moment(info.end_time)
    if info.start_time is not None and info.end_time is not None:
        yield "run.duration_s", (info.end_time - info.start_time) / 1000.0
    yield "run.source_commit", tags.get(COMMIT_TAG)


def _place(dataset_input: Any) -> tuple[str, str, str]:
    one = dataset_input.dataset
    return one.name, one.digest, _tags(dataset_input).get(InputTag.CONTEXT, "")


def _tags(dataset_input: Any) -> dict[str, str]:
    return {tag.key: tag.value for tag in dataset_input.tags}


def whole_number(text: str) -> int | str:
    """The number, or the text as it stands: a rule that needs a number then says so."""
    return int(text) if len(text) <= 18 and text.isascii() and text.isdigit() else text


def card_of(run_tags: Mapping[str, str], sha256: str) -> Mapping[str, str]:
    """The dataset card declared after the run for this content; empty where none or not readable."""
    try:
        card = json.loads(run_tags.get(Tag.CARD_PREFIX + sha256[:16], "{}"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(card, dict) or card.get("sha256", sha256) != sha256:
        return {}
    return {key: text for key, text in card.items() if isinstance(text, str) and text}


def _dataset_evidence(run: Any, dataset_input: Any, run_facts: Mapping[str, Fact]) -> Evidence:
    dataset, tags = dataset_input.dataset, _tags(dataset_input)
    context, sha256 = tags.get(InputTag.CONTEXT, ""), tags.get(InputTag.SHA256, "")
    where = f"run {run.info.run_id} dataset {dataset.name}"
    facts = known(
        (
            ("dataset.name", dataset.name),
            ("dataset.digest", dataset.digest),
            ("dataset.source_type", dataset.source_type or None),
            ("dataset.source", dataset.source or None),
            *((f"dataset.{key}", tags.get(tag) or None) for key, tag in TOLD.items()),
        ),
        where,
    )
    for key, tag in COUNTED.items():
        if tag in tags:
            facts[f"dataset.{key}"] = Fact(whole_number(tags[tag]), f"{where} tag {tag}")
    facts.update(_declared(run, tags, sha256, where))
    key = f"{run.info.run_id}/{dataset.name}/{dataset.digest}/{context}"
    label = f"{dataset.name} ({context})" if context else str(dataset.name)
    subject = Subject(SubjectKind.DATASET_INPUT, key, f"{label} in {run.info.run_name}")
    return Evidence(subject, ChainMap(facts, run_facts))  # type: ignore[arg-type]  # only read


def _declared(
    run: Any, tags: Mapping[str, str], sha256: str, where: str
) -> Iterator[tuple[str, Fact]]:
    """What was declared with the run counts before what was declared afterwards."""
    card = card_of(run.data.tags, sha256) if sha256 else {}
    by, at = card.get("declared_by", "nobody named"), card.get("declared_at", "an unknown date")
    for field, tag in DECLARED.items():
        if text := tags.get(tag):
            yield f"dataset.{field}", Fact(text, f"{where} tag {tag}")
        elif text := card.get(field):
            source = f"run {run.info.run_id} tag {Tag.CARD_PREFIX}{sha256[:16]}"
            yield f"dataset.{field}", Fact(text, f"{source} (declared by {by} on {at})")
