"""Which keys of a store a pattern means, looked up before its runs are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import re2

from mlflow_carbon.evidence.rows import rows_of
from mlflow_carbon.evidence.sql import Source

MAX_KEYS = 200
"""Matched by one pattern; each becomes a column. Of more, the runs are gone through one by one."""


class NotInColumnsError(Exception):
    """A rule goes through keys that cannot all become columns, or asks what stands in no column."""


@lru_cache(maxsize=512)
def pattern(text: str) -> Any:
    """A compiled pattern of the RE2 engine: linear time on every input, no backreferences.

    Raises:
        ValueError: not a pattern RE2 accepts.
    """
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        why = error.args[0] if error.args else "unreadable"
        raise ValueError(
            why.decode(errors="replace") if isinstance(why, bytes) else str(why)
        ) from None


@dataclass(frozen=True, slots=True)
class Keys:
    """Of one key-value table."""

    there: Sequence[str]
    """Those asked for that any run has, in the order of their columns."""
    matched: frozenset[str]
    """Those of them that patterns asked for."""


def keys_there(source: Source, table: str, namespace: str, wanted: Iterable[str]) -> Keys:
    """Of the facts wanted, the keys of a namespace: ``metric.KEY`` means one, ``metrics PATTERN`` all it matches.

    Raises:
        NotInColumnsError: a pattern matches more than ``MAX_KEYS``.
        StoreError: the store cannot be read.
    """
    one, many = f"{namespace}.", f"{namespace}s "
    facts = list(wanted)
    patterns = [fact.removeprefix(many) for fact in facts if fact.startswith(many)]
    matched = _matched(source, table, patterns)
    asked = [fact.removeprefix(one) for fact in facts if fact.startswith(one)]
    named = _existing(source, table, [key for key in asked if key not in matched])
    return Keys([*named, *matched], frozenset(matched))


def _existing(source: Source, table: str, keys: Sequence[str]) -> list[str]:
    """Those of the keys that any run has: a look into the index for each."""
    if not keys:
        return []
    query = " UNION ALL ".join(
        f"SELECT {i} AS k WHERE EXISTS (SELECT 1 FROM {table} WHERE key = ?)"
        for i in range(len(keys))
    )
    return [keys[int(row["k"])] for row in rows_of(source, query, keys)]


def _matched(source: Source, table: str, patterns: Sequence[str]) -> list[str]:
    if not patterns:
        return []
    keys = [str(row["key"]) for row in rows_of(source, f"SELECT DISTINCT key FROM {table}")]
    found: set[str] = set()
    for text in patterns:
        matched = {key for key in keys if pattern(text).search(key) is not None}
        if len(matched) > MAX_KEYS:
            what = table.removeprefix("latest_")
            raise NotInColumnsError(
                f"{what} that match {text!r}: {len(matched):,} keys, more than {MAX_KEYS}"
            )
        found |= matched
    return sorted(found)
