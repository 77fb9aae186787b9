"""The daemon thread of a measuring process that talks to MLflow, and may be stuck doing so."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from mlflow_carbon.energy import cost
from mlflow_carbon.tracking.edge import harmless


class Job:
    """One piece of work for the sender."""

    def __init__(self, work: Callable[[], None]) -> None:
        """``work`` runs once, on the sender's thread."""
        self._work = work
        self._done = threading.Event()

    def run(self) -> None:
        """Do the work; nothing it raises gets out."""
        try:
            with harmless("write to MLflow"):
                self._work()
        finally:
            self._done.set()

    def wait(self, timeout_s: float) -> bool:
        """Whether the work is done, waiting for it at most so long."""
        return self._done.wait(timeout_s)


class Sender:
    """Does jobs in order on one thread, so that a slow server never holds up the user's."""

    def __init__(self) -> None:
        """Start the thread: this cannot be left to process exit, when no thread can be started."""
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._busy_since_s: float | None = None
        self._thread = threading.Thread(target=self._loop, name="mlflow-carbon-sender", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], None]) -> Job:
        """Queue ``work``."""
        job = Job(work)
        self._jobs.put(job)
        return job

    @property
    def waiting(self) -> int:
        """How many jobs are queued behind the one in hand."""
        return self._jobs.qsize()

    def stuck(self, after_s: float) -> bool:
        """Whether the job in hand has taken longer than ``after_s``: waiting for the next is no use."""
        since_s = self._busy_since_s
        return since_s is not None and time.monotonic() - since_s > after_s

    def _loop(self) -> None:
        while True:
            job = self._jobs.get()
            self._busy_since_s = time.monotonic()
            job.run()
            cost.count()
            self._busy_since_s = None
