"""What processes that died left in the spool, delivered by the next one that works with the same store.

Done on the sender's thread some seconds after a run began, a few records at a time, and each record is
tried once by a process: what cannot be delivered waits for ``mlflow-carbon recover``.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow_carbon.redact import redacted
from mlflow_carbon.tracking import spool as spools
from mlflow_carbon.tracking.desk import Desk
from mlflow_carbon.tracking.edge import harmless
from mlflow_carbon.tracking.scratch import remove_left
from mlflow_carbon.tracking.session import working_folder
from mlflow_carbon.tracking.spooled import absolute, facts_from_lines

FIRST_S, AGAIN_S = 5.0, 60.0
"""After a run began, and after the last look: scripts that take seconds do not look at all."""

MOST = 8
"""Records delivered at one look; each takes some 30 ms of CPU time."""

REST_S = 60.0
"""A file written to since is left alone: where locks do not reach other hosts, its process may live there."""


class Late:
    """When to look into the spool, and what was tried already."""

    def __init__(self) -> None:
        """Nothing is due before a run has begun."""
        self._folder: Path | None = None
        self._due_s = float("inf")
        self._tried: set[Path] = set()
        self._tidied = False

    def expect(self, folder: Path, now_s: float) -> None:
        """A run has begun; ``now_s`` is the monotonic clock."""
        if self._folder is None:
            self._folder, self._due_s = folder, now_s + FIRST_S

    def is_due(self, now_s: float) -> bool:
        """Whether it is time for a look; then it is not again for a while."""
        if now_s < self._due_s:
            return False
        self._due_s = now_s + AGAIN_S
        return True

    def deliver(self, client: Any, desk: Desk, *, now: datetime) -> None:
        """Deliver what was left for the store of ``client``; ``now`` compares with the files' times."""
        if self._folder is None:
            return
        if not self._tidied:
            self._tidied = True
            remove_left(now.timestamp())
        tried = 0
        for spool in spools.orphans(self._folder):
            if now.timestamp() - spool.path.stat().st_mtime < REST_S or spool.path in self._tried:
                continue
            self._tried.add(spool.path)
            _deliver(spool, client, desk, taken_up=False)
            tried += 1
            if tried == MOST:
                return


def deliver_left(path: Path, client: Any, desk: Desk) -> None:
    """Deliver what a dead process left of a run that was just taken up again here."""
    with spools.orphan(path) as spool:
        _deliver(spool, client, desk, taken_up=True)


def _deliver(spool: spools.Spool, client: Any, desk: Desk, *, taken_up: bool) -> None:
    from mlflow_carbon.tracking.recovery import complete

    with harmless("deliver the record of a process that died"):
        facts = facts_from_lines(spool.lines())
        if facts.tracking_uri != redacted(absolute(client.tracking_uri, working_folder())):
            return
        folder = spool.path.parent
        if taken_up or not spools.in_progress(folder, facts.run_id, besides=spool.path):
            complete(spool, facts, desk, lambda _: client)
