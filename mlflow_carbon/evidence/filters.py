"""Which runs a query means, as SQL on MLflow's tables; filters are read by MLflow's own parser.

The SQL says what ``SqlAlchemyStore.search_runs`` asks; every value is bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from mlflow_carbon.errors import FilterError
from mlflow_carbon.evidence.query import Query

_ENTITIES = {"metric": "latest_metrics", "parameter": "params", "tag": "tags"}
_COLUMNS = {"run_id": "run_uuid"}
_CONTEXT = "mlflow.data.context"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Where:
    """``sql`` is empty or begins with ``AND``; its ``?`` stand for ``values``."""

    sql: str = ""
    values: tuple[object, ...] = ()


def milliseconds(moment: datetime) -> int:
    """The last whole millisecond since 1970 that is not after the moment."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def in_mlflow_syntax(query: Query) -> str:
    """The filter with ``since`` and ``until`` added to it."""
    parts = [query.filter] if query.filter else []
    if query.since:
        parts.append(f"attributes.start_time >= {milliseconds(query.since)}")
    if query.until:
        parts.append(f"attributes.start_time <= {milliseconds(query.until)}")
    return " and ".join(parts)


def runs_where(query: Query) -> Where:
    """The runs asked for, besides their experiments.

    Raises:
        FilterError: the filter cannot be read.
    """
    parts = [_compared(one) for one in _parsed(query.filter)]
    if query.since:
        parts.append(Where("start_time >= ?", (milliseconds(query.since),)))
    if query.until:
        parts.append(Where("start_time <= ?", (milliseconds(query.until),)))
    sql = "".join(f" AND {one.sql}" for one in parts)
    return Where(sql, tuple(value for one in parts for value in one.values))


def _parsed(text: str) -> list[dict[str, Any]]:
    if not text:
        return []
    from mlflow.exceptions import MlflowException
    from mlflow.utils.search_utils import SearchUtils

    try:
        found: list[dict[str, Any]] = SearchUtils.parse_search_filter(text)
        for one in found:
            one["key"] = SearchUtils.translate_key_alias(one["key"])
            asked = one["type"], one["comparator"].upper()
            # Each of these refuses an operator that its kind does not have.
            SearchUtils.is_string_attribute(asked[0], one["key"], asked[1])
            SearchUtils.is_numeric_attribute(asked[0], one["key"], asked[1])
            for check in ("is_metric", "is_param", "is_tag", "is_dataset"):
                getattr(SearchUtils, check)(*asked)
    except MlflowException as error:
        raise FilterError(f"--filter {text!r}: {error.message}") from None
    return found


def _compared(one: dict[str, Any]) -> Where:
    kind, key, value = one["type"], one["key"], one["value"]
    comparator = one["comparator"].upper()
    if kind == "dataset":
        return _of_dataset(key, comparator, value)
    if kind == "attribute" and key != "run_name":
        return _comparison(f"runs.{_COLUMNS.get(key, key)}", comparator, value)
    if kind == "attribute":
        # As MLflow: the column is empty for runs of MLflow 1.
        kind, key = "tag", "mlflow.runName"
    table = _ENTITIES[kind]
    there = f"EXISTS (SELECT 1 FROM {table} e WHERE e.run_uuid = runs.run_uuid AND e.key = ?"
    if comparator in ("IS NULL", "IS NOT NULL"):
        return Where(f"{'NOT ' if comparator == 'IS NULL' else ''}{there})", (key,))
    met = _comparison("e.value", comparator, float(value) if kind == "metric" else value)
    sql = met.sql
    if kind == "metric":  # NaN is kept as 0, and only "!=" holds for it
        sql = f"({sql} OR e.is_nan)" if comparator == "!=" else f"{sql} AND NOT e.is_nan"
    return Where(f"{there} AND {sql})", (key, *met.values))


def _of_dataset(key: str, comparator: str, value: Any) -> Where:
    used = (
        "EXISTS (SELECT 1 FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id{}"
        " WHERE i.destination_id = runs.run_uuid AND {})"
    )
    if key != "context":
        met = _comparison(f"d.{key}", comparator, value)
        return Where(used.format("", met.sql), met.values)
    met = _comparison("t.value", comparator, value)
    tagged = f" JOIN input_tags t ON t.input_uuid = i.input_uuid AND t.name = '{_CONTEXT}'"
    return Where(used.format(tagged, met.sql), met.values)


def _comparison(column: str, comparator: str, value: Any) -> Where:
    if comparator in ("IN", "NOT IN"):
        holes = ", ".join("?" * len(value))
        return Where(f"{column} {comparator} ({holes})", tuple(value))
    if comparator == "ILIKE":
        return Where(f"lower({column}) LIKE lower(?)", (value,))
    return Where(f"{column} {comparator} ?", (value,))
