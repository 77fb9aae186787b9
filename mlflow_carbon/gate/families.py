"""MLflow's SQL tracking store, asked for a whole tree of runs at once.

A tuning parent can have hundreds of children, and each of them may have some. MLflow's search looks
through every nested run of the store for the children of one run; here it is one look for each level.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy
from mlflow.entities import ViewType
from mlflow.store.tracking.dbmodels.models import SqlTag

from mlflow_carbon.evidence.facts import PARENT_TAG

_AT_ONCE = 500
"""Run ids in one question: below the limit of bound values of every database MLflow takes."""


class SqlRuns:
    """The store's own answers, and ``descendants`` beside them."""

    def __init__(self, store: Any) -> None:
        """``store`` is MLflow's ``SqlAlchemyStore`` or a subclass."""
        self._store = store
        self._known: dict[str, list[str]] = {}

    def get_run(self, run_id: str) -> Any:
        """As the store."""
        return self._store.get_run(run_id)

    def get_experiment(self, experiment_id: str) -> Any:
        """As the store."""
        return self._store.get_experiment(experiment_id)

    def get_logged_model(self, model_id: str) -> Any:
        """As the store."""
        return self._store.get_logged_model(model_id)

    def search_runs(self, *args: Any, **kwargs: Any) -> Any:
        """As the store."""
        return self._store.search_runs(*args, **kwargs)

    def descendants(self, top: Any, most: int) -> Iterator[Any]:
        """Every run of the experiment below a run. Asked again, one look tells whether any was added."""
        known = self._known.get(top.info.run_id)
        if known is None or not set(self._children([top.info.run_id, *known])) <= set(known):
            known = self._known[top.info.run_id] = self._below(top.info.run_id, most)
        yield from self._read(known, top.info.experiment_id)

    def _below(self, top: str, most: int) -> list[str]:
        seen, level = [top], [top]
        while level and len(seen) <= most:
            level = [one for one in dict.fromkeys(self._children(level)) if one not in set(seen)]
            seen += level
        return seen[1:]

    def _children(self, parents: list[str]) -> Iterator[str]:
        with self._store.engine.connect() as connection:
            for some in _parts(parents):
                question = sqlalchemy.select(SqlTag.run_uuid).where(
                    SqlTag.key == PARENT_TAG, SqlTag.value.in_(some)
                )
                yield from connection.execute(question).scalars()

    def _read(self, run_ids: list[str], experiment_id: str) -> Iterator[Any]:
        """Through the store, which knows what the caller's workspace may see."""
        for some in _parts(run_ids):
            listed = ", ".join(f"'{run_id}'" for run_id in some)
            yield from self._store.search_runs(
                [experiment_id],
                f"attributes.run_id IN ({listed})",
                ViewType.ALL,
                len(some),
                None,
                None,
            )


def _parts(run_ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(run_ids), _AT_ONCE):
        yield run_ids[start : start + _AT_ONCE]


def with_families(store: Any) -> Any:
    """The store with ``descendants`` where it keeps its runs in a database; else as it is."""
    return SqlRuns(store) if hasattr(store, "engine") else store
