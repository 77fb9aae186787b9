"""The gate's own record: one promotion at a time on this host, each with an entry in the ledger."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mlflow_carbon.errors import OutputError
from mlflow_carbon.evidence.ledger import Chain, Ledger
from mlflow_carbon.gate import caller


class Record:
    """A ledger, and the lock file beside it that server processes take turns with."""

    def __init__(self, path: Path) -> None:
        """Nothing is written before the first decision."""
        self.ledger = Ledger(path)
        self._lock = path.with_name(path.name + ".lock")

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the gate: nobody else on this host decides or promotes meanwhile.

        Raises:
            OutputError: the folder cannot be written.
        """
        import fcntl  # POSIX only, like the servers that keep a ledger

        try:
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            file = self._lock.open("a")
        except OSError as error:
            raise OutputError(
                f"{self._lock}: cannot be opened ({error.strerror}). Set MLFLOW_CARBON_GATE_LEDGER to a "
                "file that the server may write."
            ) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def promoted(self, name: str, alias: str) -> str | None:
        """The version last promoted to the alias; ``None`` when the ledger knows of none."""
        return next(promotions(self.ledger.read(), name, alias), None)

    def add(self, outcome: str, said: Mapping[str, Any]) -> None:
        """Enter who asked for what and how it went.

        Raises:
            OutputError: it could not be written.
        """
        who = caller.current()
        entry = {
            "outcome": outcome,
            **said,
            "by": who.user,
            "identity": "proven" if who.proven else "not proven",
            "route": who.route,
            "workspace": _workspace(),
        }
        self.ledger.append(entry, datetime.now(timezone.utc))


def promotions(chain: Chain, name: str, alias: str) -> Iterator[str]:
    """The versions that were promoted to the alias and not taken back at once, the last one first."""
    action = f"Alias '{alias}' for '{name}' version "  # as GateMixin words it
    undone = False
    for entry in reversed(chain.entries):
        if not str(entry.said.get("action", "")).startswith(action):
            continue
        outcome = entry.said.get("outcome")
        if outcome in ("allowed", "overridden") and not undone:
            yield str(entry.said["version"])
        undone = outcome in ("withdrawn", "failed")


def _workspace() -> str:
    context = sys.modules.get("mlflow.utils.workspace_context")  # MLflow 3.10 and later
    return str(context.get_request_workspace() or "") if context else ""
