"""The meters of this process, looked for when the first run begins."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from mlflow_carbon.energy.ledger import Progress, RunEnergy
from mlflow_carbon.settings import Settings

if TYPE_CHECKING:
    from mlflow_carbon.energy.discover import Discovery
    from mlflow_carbon.energy.sampler import Sampler


class Meters:
    """The sampler, made on first use: looking for hardware takes time that ``import mlflow`` must not."""

    def __init__(self, settings: Settings, after_reading: Callable[[], None]) -> None:
        """Nothing is looked for yet. ``after_reading`` is called on the sampler's thread."""
        self._settings, self._after_reading = settings, after_reading
        self._sampler: Sampler | None = None
        self._found: Discovery | None = None
        self._lock = threading.Lock()

    def expect(self) -> int:
        """A run is about to begin: read the meters now. Returns the moment, on ``time.monotonic_ns()``."""
        return self._made().expect()

    def open(self, run_id: str, parent_id: str | None, since_ns: int | None) -> None:
        """Begin to measure a run, from now or from when it was expected."""
        self._made().open(run_id, parent_id, since_ns)

    @property
    def hardware(self) -> str:
        """What is measured, in words: it grows when a driver answers late. "" before the first run."""
        found, sampler = self._found, self._sampler
        return "" if found is None or sampler is None else found.hardware(sampler.meters)

    def _made(self) -> Sampler:
        with self._lock:
            if self._sampler is None:
                from mlflow_carbon.energy.discover import discover
                from mlflow_carbon.energy.sampler import Sampler

                self._found = found = discover(self._settings)
                self._sampler = Sampler(
                    found.meters,
                    found.unmeasured,
                    found.drivers,
                    period_s=self._settings.sample_period_s,
                    after_reading=self._after_reading,
                )
                self._sampler.open_drivers()
            return self._sampler

    def adopt(self, run_id: str, parent_id: str) -> None:
        """A run turns out to be nested in another."""
        if self._sampler is not None:
            self._sampler.adopt(run_id, parent_id)

    def account(self, run_id: str, *, last: bool) -> RunEnergy | None:
        """What the run used so far; ``last`` ends it. ``None`` when it is not open (any more)."""
        if self._sampler is None:
            return None
        with contextlib.suppress(KeyError):
            return self._sampler.close(run_id) if last else self._sampler.account(run_id)
        return None

    def progress(self, run_id: str) -> Progress | None:
        """What the run used since its last account; ``None`` where another account is needed."""
        return None if self._sampler is None else self._sampler.progress(run_id)

    def after_fork(self) -> None:
        """In a forked child: forget the parent's runs and threads."""
        self._lock = threading.Lock()
        if self._sampler is not None:
            self._sampler.after_fork()

    def shutdown(self) -> None:
        """Stop reading."""
        if self._sampler is not None:
            self._sampler.shutdown()
            self._sampler = None
