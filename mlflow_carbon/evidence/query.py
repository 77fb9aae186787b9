"""What of a store is read, and what every way of reading it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from mlflow_carbon.evidence.model import Evidence

DEADLINE_S = 3_600.0
"""What a server may take for all it is asked, unless the user says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to read. Nothing given: every active experiment, every run, every registered model."""

    experiments: tuple[str, ...] = ()
    """Names or ids."""
    filter: str = ""
    """In MLflow's filter syntax."""
    since: datetime | None = None
    until: datetime | None = None
    """Only runs that began in this time, both ends included."""
    models: tuple[str, ...] = ()
    workspace: str = ""
    """For stores that MLflow divides into workspaces; empty: the only one in use."""

    @property
    def narrows_runs(self) -> bool:
        """Whether some runs are asked for and not all, other than by naming models."""
        return bool(self.experiments or self.filter or self.since or self.until)

    @property
    def models_only(self) -> bool:
        """Whether runs are asked for by nothing but the models they are behind."""
        return bool(self.models) and not self.narrows_runs


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A registered model and where its aliases point."""

    evidence: Evidence
    versions: Mapping[str, str]
    """Number -> the run it says it comes from (or the empty text), oldest first."""
    aliases: Mapping[str, str]


class Store(Protocol):
    """Evidence of runs, datasets, models and versions; reads only."""

    @property
    def shown(self) -> str:
        """The address without a password."""

    def experiments(self, query: Query) -> dict[str, str]:
        """Id -> name of the experiments asked for.

        Raises:
            StoreError: one of them does not exist; names similar ones.
        """

    def runs(self, query: Query) -> Iterator[Evidence]:
        """Every run that is not deleted, with its datasets as members."""

    def models(self, query: Query) -> Iterator[RegisteredModel]:
        """Each registered model that is not a prompt.

        Raises:
            StoreError: a model asked for by name does not exist.
        """

    def series(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """(Unix milliseconds, value) of every entry of a run's metric; empty where there is none."""
        ...

    def version(self, name: str, version: str) -> Evidence:
        """One model version with its lineage."""

    def close(self) -> None:
        """Let go of what is held open for it."""


@runtime_checkable
class Remote(Store, Protocol):
    """A store whose runs have to be fetched before many can be looked at together."""

    def fetched(
        self, query: Query, came: Callable[[int], None] = ...
    ) -> AbstractContextManager[Store]:
        """The same store with the runs asked for at hand; ``came`` is told how many there are so far.

        Raises:
            StoreError: the store failed, or took too long.
        """
