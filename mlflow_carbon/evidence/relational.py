"""A store read from MLflow's tables: runs, registered models, versions, and what is behind them."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from mlflow_carbon.errors import StoreError
from mlflow_carbon.evidence import lineage
from mlflow_carbon.evidence.facts import PARENT_TAG, run_evidence
from mlflow_carbon.evidence.filters import Where, runs_where
from mlflow_carbon.evidence.lineage import AbsentError
from mlflow_carbon.evidence.model import Evidence
from mlflow_carbon.evidence.query import Query, RegisteredModel
from mlflow_carbon.evidence.rows import Run, read_runs, rows_of, with_numbers
from mlflow_carbon.evidence.sql import Source
from mlflow_carbon.schema import AuditTag

_PROMPT_TAG = "mlflow.prompt.is_prompt"
_DELETED = "Deleted_Internal"
"""The stage MLflow gives to a version that was deleted."""
_DEFAULT = "default"


class TableStore:
    """Evidence from the tables; a ``query.Store``, and for ``lineage`` where runs and versions are read."""

    def __init__(self, source: Source, workspace: str = "") -> None:
        """``workspace``: empty for the only one in use."""
        self.source = source
        self.shown = source.shown
        self._workspace = workspace

    def close(self) -> None:
        """Let go of the store."""
        self.source.close()

    def experiments(self, query: Query) -> dict[str, str]:
        """Id -> name of the experiments asked for.

        Raises:
            StoreError: one of them does not exist; names similar ones.
        """
        self._choose(query.workspace)
        audits = {
            row["experiment_id"]
            for row in self._rows(
                "SELECT experiment_id FROM experiment_tags WHERE key = ?", AuditTag.EXPERIMENT
            )
        }
        known = {
            str(row["experiment_id"]): row["name"]
            for row in self._rows(
                "SELECT experiment_id, name FROM experiments"
                f" WHERE lifecycle_stage = 'active'{self._here('experiments')} ORDER BY experiment_id"
            )
            if row["experiment_id"] not in audits
        }
        return chosen_experiments(self.shown, known, query.experiments)

    def where(self, query: Query) -> Where:
        """The runs of a query as a condition on MLflow's table ``runs``."""
        return runs_where(query)

    def runs(self, query: Query) -> Iterator[Evidence]:
        """Every run that is not deleted, with its datasets as members."""
        experiments = self.experiments(query)
        where = self.where(query)
        rows = self._rows(
            "SELECT run_uuid, experiment_id FROM runs WHERE lifecycle_stage = 'active'"
            f"{where.sql} ORDER BY start_time DESC, run_uuid",
            *where.values,
        )
        wanted = [row["run_uuid"] for row in rows if str(row["experiment_id"]) in experiments]
        for run in read_runs(self.source, wanted):
            yield run_evidence(run, experiments[run.info.experiment_id])

    def models(self, query: Query) -> Iterator[RegisteredModel]:
        """Each registered model that is not a prompt.

        Raises:
            StoreError: a model asked for by name does not exist.
        """
        self._choose(query.workspace)
        names = query.models or tuple(
            name for name in self._models if not self._models[name].prompt
        )
        for name in dict.fromkeys(names):
            if name not in self._models:
                raise no_such_model(self.shown, name, self._models)
            model = self._models[name]
            numbers = self._versions.get(name, {})
            evidence = lineage.model_evidence(model, len(numbers))
            yield RegisteredModel(
                evidence,
                {str(number): numbers[number] for number in sorted(numbers)},
                model.aliases,
            )

    def series(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """(Unix milliseconds, value) of every entry of a run's metric; empty where there is none."""
        rows = self._rows(
            "SELECT timestamp AS at_ms, value FROM metrics WHERE run_uuid = ? AND key = ?",
            run_id,
            metric,
        )
        with_numbers(self.source, rows, "at_ms", "value")
        return [(int(row["at_ms"]), float(row["value"])) for row in rows]

    def version(self, name: str, version: str) -> Evidence:
        """One model version with its lineage."""
        return lineage.read_version(self, self, name, version)

    def _rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        return rows_of(self.source, query, values)

    def _choose(self, workspace: str) -> None:
        """Settle on a workspace; stores that were never divided have none.

        Raises:
            StoreError: several are in use and none was chosen, or the one chosen is not there.
        """
        if self._workspace or "workspace" not in self.source.columns["experiments"]:
            return
        found = {
            row["workspace"]
            for table in ("experiments", "registered_models")
            for row in self._rows(f"SELECT DISTINCT workspace FROM {table}")
        }
        if workspace and workspace not in found:
            raise StoreError(
                f"{self.shown}: nothing is in workspace {workspace!r}. In use: {', '.join(sorted(found))}."
            )
        if not workspace and found - {_DEFAULT}:
            raise StoreError(
                f"{self.shown}: is divided into the workspaces {', '.join(sorted(found))}. "
                "Choose one with --workspace."
            )
        self._workspace = workspace or _DEFAULT

    def _here(self, table: str) -> str:
        """SQL: in the workspace chosen."""
        if "workspace" not in self.source.columns[table]:
            return ""
        quoted = (self._workspace or _DEFAULT).replace("'", "''")
        return f" AND {table}.workspace = '{quoted}'"

    @cached_property
    def _models(self) -> dict[str, _Model]:
        found = {
            row["name"]: _Model(row["name"], row["description"], {}, {})
            for row in self._rows(
                f"SELECT name, description FROM registered_models WHERE 1 = 1{self._here('registered_models')}"
                " ORDER BY name"
            )
        }
        for row in self._rows(
            "SELECT name, key, COALESCE(value, '') AS value FROM registered_model_tags"
            f" WHERE 1 = 1{self._here('registered_model_tags')}"
        ):
            found[row["name"]].tags[row["key"]] = row["value"]
        for row in self._rows(
            "SELECT name, alias, version FROM registered_model_aliases"
            f" WHERE 1 = 1{self._here('registered_model_aliases')}"
        ):
            found[row["name"]].aliases[row["alias"]] = str(row["version"])
        return found

    @cached_property
    def _versions(self) -> dict[str, dict[int, str]]:
        """Model -> number -> the run it says it comes from."""
        found: defaultdict[str, dict[int, str]] = defaultdict(dict)
        rows = self._rows(
            "SELECT name, version, COALESCE(run_id, '') AS run_id FROM model_versions"
            f" WHERE current_stage <> '{_DELETED}'{self._here('model_versions')}"
        )
        for row in with_numbers(self.source, rows, "version"):
            found[row["name"]][int(row["version"])] = row["run_id"]
        return found

    # What ``lineage`` asks.

    def get_run(self, run_id: str) -> Run:
        """One run, deleted ones included."""
        for run in read_runs(self.source, [run_id]):
            return run
        raise AbsentError(f"there is no run {run_id!r}")

    def get_experiment(self, experiment_id: str) -> Any:
        """One experiment."""
        for row in self._rows(
            "SELECT name FROM experiments WHERE experiment_id = ?", int(experiment_id)
        ):
            return SimpleNamespace(name=row["name"])
        raise AbsentError(f"there is no experiment {experiment_id!r}")

    def get_logged_model(self, model_id: str) -> Any:
        """One logged model with the runs that scored it."""
        if "logged_models" not in self.source.columns:
            raise AbsentError("this store has no logged models")
        found = self._rows(
            "SELECT source_run_id FROM logged_models WHERE model_id = ?"
            " AND lifecycle_stage = 'active'", model_id
        )  # fmt: skip
        if not found:
            raise AbsentError(f"there is no logged model {model_id!r}")
        scores = self._rows(
            "SELECT DISTINCT run_id FROM logged_model_metrics WHERE model_id = ?", model_id
        )
        return SimpleNamespace(
            source_run_id=found[0]["source_run_id"],
            metrics=[SimpleNamespace(run_id=row["run_id"]) for row in scores],
        )

    def search_runs(self, *_: object) -> Any:
        """Not needed: ``descendants`` is asked instead."""
        raise NotImplementedError

    def descendants(self, top: Any, most: int) -> Iterator[Any]:
        """Every run of the experiment below a run, deleted ones included; may stop after ``most``."""
        seen, level = {top.info.run_id: None}, [top.info.run_id]
        while level and len(seen) <= most:
            below = [child for parent in level for child in self._children.get(parent, ())]
            level = [child for child in dict.fromkeys(below) if child not in seen]
            seen.update(dict.fromkeys(level))
        for run in read_runs(self.source, list(seen)[1:]):
            if run.info.experiment_id == top.info.experiment_id:
                yield run

    @cached_property
    def _children(self) -> dict[str, list[str]]:
        found: defaultdict[str, list[str]] = defaultdict(list)
        with self.source.batches(
            "SELECT run_uuid, value FROM tags WHERE key = ?", [PARENT_TAG]
        ) as batches:
            for batch in batches:
                for child, parent in zip(*(column.to_pylist() for column in batch), strict=True):
                    found[parent].append(child)
        return found

    def get_registered_model(self, name: str) -> Any:
        """One registered model."""
        if name not in self._models:
            raise AbsentError(f"Registered Model with name={name} not found")
        return self._models[name]

    def get_model_version(self, name: str, version: str) -> Any:
        """One version."""
        found = self._rows(
            "SELECT name, version, creation_time, description, user_id, current_stage, source, run_id"
            f" FROM model_versions WHERE name = ? AND version = ? AND current_stage <> '{_DELETED}'"
            f"{self._here('model_versions')}",
            name, int(version),
        )  # fmt: skip
        if not found:
            raise AbsentError(f"Model Version (name={name}, version={version}) not found")
        tags = self._rows(
            "SELECT key, COALESCE(value, '') AS value FROM model_version_tags"
            f" WHERE name = ? AND version = ?{self._here('model_version_tags')}",
            name, int(version),
        )  # fmt: skip
        (row,) = with_numbers(self.source, found[:1], "creation_time")
        aliases = self._models[name].aliases
        return SimpleNamespace(
            name=row["name"],
            version=str(row["version"]),
            description=row["description"],
            source=row["source"],
            run_id=row["run_id"],
            creation_timestamp=row["creation_time"],
            user_id=row["user_id"],
            current_stage=row["current_stage"],
            aliases=[alias for alias, number in aliases.items() if number == str(row["version"])],
            tags={tag["key"]: tag["value"] for tag in tags},
        )

    def get_model_version_by_alias(self, name: str, alias: str) -> Any:
        """The version an alias points to."""
        number = self.get_registered_model(name).aliases.get(alias)
        if number is None:
            raise AbsentError(f"Registered model alias {alias} not found")
        return self.get_model_version(name, number)


@dataclass(frozen=True, slots=True)
class _Model:
    """As MLflow's ``RegisteredModel``."""

    name: str
    description: str | None
    tags: dict[str, str]
    aliases: dict[str, str]

    @property
    def prompt(self) -> bool:
        return self.tags.get(_PROMPT_TAG, "").lower() == "true"


def _similar(name: str, known: Iterable[str]) -> str:
    similar = difflib.get_close_matches(name, known, n=3)
    return f" Did you mean {' or '.join(map(repr, similar))}?" if similar else ""


def no_such_model(shown: str, name: str, known: Iterable[str]) -> StoreError:
    """A model asked for by name does not exist; names similar ones."""
    return StoreError(f"{shown}: there is no registered model {name!r}.{_similar(name, known)}")


def chosen_experiments(shown: str, known: dict[str, str], wanted: Sequence[str]) -> dict[str, str]:
    """Those asked for by name or id; all where nothing is asked for.

    Raises:
        StoreError: one of them does not exist; names similar ones.
    """
    if not wanted:
        return known
    by_name = {name: experiment_id for experiment_id, name in known.items()}
    chosen = {}
    for one in wanted:
        experiment_id = by_name.get(one, one)
        if experiment_id not in known:
            raise StoreError(
                f"{shown}: there is no active experiment {one!r}.{_similar(one, by_name)}"
            )
        chosen[experiment_id] = known[experiment_id]
    return chosen
