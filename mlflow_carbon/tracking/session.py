"""One run while this process works on it: what is held open for it, and its facts so far."""

from __future__ import annotations

import contextvars
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlflow_carbon.energy.ledger import Progress, RunEnergy
from mlflow_carbon.tracking.desk import Desk
from mlflow_carbon.tracking.facts import Base, Exit, Facts, Json, Origin, until
from mlflow_carbon.tracking.ranks import Place
from mlflow_carbon.tracking.spool import Spool
from mlflow_carbon.tracking.spooled import (
    absolute,
    energy_to_line,
    facts_to_line,
    power_end_s,
    progress_to_line,
)

if TYPE_CHECKING:
    from mlflow_carbon.datasets.examine import Used
    from mlflow_carbon.tracking.meters import Meters

NS_PER_S = 1e9
ACCOUNT_S = 30.0
"""In between only what came to the last account is kept in the spool: a tenth of the work."""


def working_folder() -> str:
    """The working directory; "" if it was removed under us."""
    try:
        return os.getcwd()  # noqa: PTH109 (once per run, and a path object is not needed)
    except FileNotFoundError:
        return ""


class Session:
    """State of one run in one process. Moments are ``time.monotonic_ns()`` and come as arguments."""

    def __init__(
        self, run_id: str, client: Any, origin: Origin, desk: Desk, *, opened: tuple[int, datetime]
    ) -> None:
        """``client`` may be ``None`` for an inherited run until the program touches it.

        ``opened``: the moment on the monotonic clock, in nanoseconds, and on the calendar.
        """
        self.run_id = run_id
        self.client = client
        self.origin = origin
        self.desk = desk
        self.opened_ns, self.opened_at = opened
        self.place: Place | None = None
        self.leads = True
        self.unseen_s = 0.0
        self.parent = False
        self.touched_ns: int | None = None
        self.spool: Spool | None = None
        self.base: Base | None = Base() if origin is Origin.CREATED else None
        self.hardware = ""
        self.push_waits = False
        """A push of this run is with the sender already."""
        self.pushes = 0
        self.pushed_metrics: Mapping[str, float] = {}
        self.tags_on_run: Mapping[str, str] = {}
        self.pushed_j = 0.0
        self.pushed_at_s = 0.0
        self.due_s = float("inf")
        self.context = contextvars.copy_context()
        self._folder = working_folder()
        self.datasets_used: list[Used] = []
        self._datasets: list[Json] = []
        self._troubles: list[str] = []
        self._spooled: Facts | None = None
        self._spooled_at_s = -1.0
        self._spooled_power_s = -1.0
        self._account_due_s = 0.0
        self._spooled_state: tuple[object, ...] = ()
        self._ended = False
        self._lock = threading.RLock()
        self._seen_exception: object = getattr(sys, "last_value", None)

    def facts(
        self, energy: RunEnergy | None, exit_: Exit | None = None, ended_at: str = ""
    ) -> Facts:
        """Everything known now."""
        with self._lock:
            return Facts(
                run_id=self.run_id,
                tracking_uri=absolute(getattr(self.client, "tracking_uri", "") or "", self._folder),
                origin=self.origin,
                opened_at=self.opened_at.isoformat(timespec="milliseconds"),
                process_id=os.getpid(),
                place=self.place,
                hardware=self.hardware,
                unseen_s=self.unseen_s,
                energy=energy,
                ended_at=ended_at,
                exit=exit_,
                parent=self.parent,
                datasets=tuple(self._datasets),
                troubles=tuple(self._troubles),
                base=self.base,
                pushed=self.pushed_metrics,
                declared=self.desk.declared,
            )

    def connect(self) -> None:
        """A rank that never logs works all the same: its host's part is put on the run it inherited."""
        if self.client is None and self.place is not None:
            from mlflow.tracking.client import MlflowClient

            self.client = MlflowClient()._tracking_client

    def trouble(self, text: str) -> None:
        """Note what could not be done, once."""
        if not text:
            return
        with self._lock:
            if text not in self._troubles:
                self._troubles.append(text)

    def add_datasets(self, records: Sequence[Json]) -> None:
        """Note datasets given to the run."""
        with self._lock:
            self._datasets.extend(records)

    def worked_s(self, now_ns: int) -> float:
        """Seconds from the start to the last log call."""
        last_ns = self.touched_ns if self.touched_ns is not None else self.opened_ns
        return (min(last_ns, now_ns) - self.opened_ns) / NS_PER_S

    def only_worked(self, energy: RunEnergy | None, now_ns: int) -> RunEnergy | None:
        """Of an attached run's account, the part up to the last log call: idle time after it is not the run's."""
        return None if energy is None else until(energy, self.worked_s(now_ns))

    def died_of_an_exception(self) -> bool:
        """Whether the script ended by an exception that nobody handled since the session began."""
        if "ipykernel" in sys.modules or hasattr(sys, "ps1"):
            return False  # there a failed cell or line is not the end of the program
        last = getattr(sys, "last_value", None)
        return last is not None and last is not self._seen_exception

    def spool_facts(self, facts: Facts, *, now_s: float) -> None:
        """Append the facts to the spool; once they tell of the end, nothing is added any more.

        Facts that another thread has overtaken are not: what is added to an account counts from the newest.

        Raises:
            OSError: no space, no quota.
        """
        with self._lock:
            at_s = -1.0 if facts.energy is None else facts.energy.duration_s
            overtaken = facts.exit is None and at_s < self._spooled_at_s
            if self.spool is None or self._ended or overtaken:
                return
            self._ended, self._spooled_at_s = facts.exit is not None, at_s
            rest = replace(facts, energy=None)
            after_s = self._spooled_power_s
            if self.spool.full:
                self.spool.restart(facts_to_line(facts, power_after_s=-1.0), now_s=now_s)
            elif facts.energy is not None and rest == self._spooled:
                self.spool.append(energy_to_line(facts.energy, power_after_s=after_s), now_s=now_s)
            else:
                self.spool.append(facts_to_line(facts, power_after_s=after_s), now_s=now_s)
            self._spooled, self._spooled_power_s = rest, power_end_s(facts.energy)
            self._account_due_s, self._spooled_state = now_s + ACCOUNT_S, self._state()

    def keep(self, meters: Meters, now_ns: int) -> bool:
        """Append what the run has used since; false when it is not open any more.

        Raises:
            OSError: no space, no quota.
        """
        now_s, attached = now_ns / NS_PER_S, self.origin is Origin.ATTACHED
        progress = None
        short = not attached and now_s < self._account_due_s
        if short and self._spooled_state == self._state():
            progress = meters.progress(self.run_id)
        if progress is not None:
            self._spool_progress(progress, now_s)
            return True
        if (energy := meters.account(self.run_id, last=False)) is None:
            return False
        self.hardware = meters.hardware
        if attached:
            energy = self.only_worked(energy, now_ns) or energy
        self.spool_facts(self.facts(energy), now_s=now_s)
        return True

    def _spool_progress(self, progress: Progress, now_s: float) -> None:
        with self._lock:
            if self.spool is not None and not self._ended:
                self.spool.append(progress_to_line(progress), now_s=now_s)

    def _state(self) -> tuple[object, ...]:
        """What tells that some fact has changed."""
        lengths = len(self._datasets), len(self._troubles), self.pushes
        facts = self.client, self.origin, self.hardware, self.unseen_s, self.parent, self.base
        return (*facts, *lengths)

    def idle_s(self, now_ns: int) -> float:
        """Seconds since the last log call, or since the start."""
        return (now_ns - self.opened_ns) / NS_PER_S - self.worked_s(now_ns)

    def power_since_last_push(self, energy: RunEnergy) -> float | None:
        """Mean power since the figures were last published; ``None`` when nothing is known."""
        total, span_s = energy.attributed_j, energy.duration_s - self.pushed_at_s
        if total is None or span_s <= 0:
            return None
        return max(0.0, total.mid - self.pushed_j) / span_s

    def pushed(self, energy: RunEnergy, metrics: Mapping[str, float]) -> None:
        """The figures are about to be put on the run."""
        self.pushes += 1
        self.pushed_metrics = metrics
        self.pushed_at_s = energy.duration_s
        self.pushed_j = energy.attributed_j.mid if energy.attributed_j else 0.0

    def set_aside(self) -> None:
        """Free the run's name in the spool: the run may be taken up again before the record is delivered."""
        with self._lock:
            if self.spool is not None:
                self.spool.rename(f"{self.run_id[:32]}-{os.getpid()}-{self.opened_ns}")

    def discard(self) -> None:
        """Nothing is to be kept of this session."""
        with self._lock:
            if self.spool is not None:
                self.spool.remove()
                self.spool = None

    def abandon(self) -> None:
        """Let go of the spool file and leave it where it is, for ``recover``."""
        with self._lock:
            self.after_fork()

    def after_fork(self) -> None:
        """The same in a forked child, where a thread that does not exist any more may hold the lock."""
        if self.spool is not None:
            self.spool.close()
            self.spool = None
