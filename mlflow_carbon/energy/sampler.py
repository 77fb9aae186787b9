"""The sampler: reads the meters while runs are open and keeps the ledger.

Meters that cannot hang (files of the kernel) are read by the caller at a run's edges, exactly
then, and by one daemon thread in between. Meters that can (a driver, a program) have a thread of
their own, so that a hung call holds up neither the user's program nor the other meters.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence

from mlflow_carbon.energy.integrate import Track
from mlflow_carbon.energy.ledger import RunEnergy
from mlflow_carbon.energy.meter import Gap, Meter, MeterInfo, Reading, Unmeasured
from mlflow_carbon.energy.sharing import Ledger

log = logging.getLogger(__name__)

PERIOD_S = 1.0
EDGE_S, EDGE_PERIOD_S = 0.15, 0.02
"""After a run's start counters are polled this long and this often, to find the moment of a tick."""
PATIENCE_S = 0.02
"""How long the end of a run waits for a meter that can hang."""


class _Group:
    """Some meters and the thread that reads them while runs are open."""

    def __init__(self, sampler: Sampler, meters: Sequence[Meter], name: str) -> None:
        self.meters, self.name = meters, name
        self.wake = threading.Event()
        self.done_ns = 0
        """Every reading asked for before this moment has been delivered."""
        self._sampler = sampler
        self._reading = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Have the thread run; it reads at once."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            self._thread.start()
        self.wake.set()

    def _run(self) -> None:
        while (delay_s := self._sampler.delay_s(self)) is not None:
            self.wake.wait(delay_s if delay_s > 0 else None)
            self.wake.clear()
            if self._sampler.busy():
                self.read()

    def read(self) -> None:
        """Read every meter once and put the joules on the ledger."""
        with self._reading:
            started_ns = time.monotonic_ns()
            for meter in self.meters:
                reading = meter.read()
                self._sampler.take(meter, reading)
                if isinstance(reading, Gap) and reading.lost:
                    self._sampler.take(meter, meter.read())  # the new zero
        self._sampler.delivered(self, started_ns)


class Sampler:
    """Measures the runs of one process. Safe to call from any thread; raises nothing but ``KeyError``."""

    def __init__(
        self,
        meters: Sequence[Meter],
        unmeasured: Sequence[Unmeasured] = (),
        *,
        period_s: float = PERIOD_S,
    ) -> None:
        """Take the meters over; nothing is read and no thread runs before a run opens."""
        self._meters, self._unmeasured = tuple(meters), tuple(unmeasured)
        self._period_s = max(EDGE_PERIOD_S, period_s)
        self._stopped = False
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._ledger = Ledger()
        self._tracks: dict[str, Track] = {}
        self._edge_until_ns = 0
        plain = [meter for meter in self._meters if not meter.info.may_block]
        families: dict[str, list[Meter]] = {}
        for meter in self._meters:
            if meter.info.may_block:
                families.setdefault(meter.info.id.partition(":")[0], []).append(meter)
        self._plain = _Group(self, plain, "mlflow-carbon")
        self._blocking = [
            _Group(self, found, f"mlflow-carbon-{name}") for name, found in families.items()
        ]

    def open(self, run_id: str, parent_id: str | None = None) -> None:
        """Begin to measure a run; a run that is open already goes on."""
        now_ns = time.monotonic_ns()
        with self._lock:
            if self._stopped or run_id in self._ledger:
                return
            if not len(self._ledger):
                self._tracks = {
                    m.info.id: Track(m.info, now_ns, min(self._period_s, m.info.period_s))
                    for m in self._meters
                }
            self._edge_until_ns = now_ns + int(EDGE_S * 1e9)
        self._plain.read()
        with self._lock:
            self._ledger.open(run_id, now_ns, parent_id)
        for group in (self._plain, *self._blocking):
            if group.meters:
                group.start()

    def account(self, run_id: str) -> RunEnergy:
        """What the run has used so far.

        Raises:
            KeyError: no such run is open.
        """
        self._require(run_id)
        self._plain.read()
        with self._lock:
            now_ns = time.monotonic_ns()
            return self._ledger.account(run_id, now_ns, self._unmeasured, self._troubles(now_ns))

    def close(self, run_id: str) -> RunEnergy:
        """End a run: its final account, after at most 20 ms and one reading of the kernel's files.

        Raises:
            KeyError: no such run is open.
        """
        self._require(run_id)
        now_ns = time.monotonic_ns()
        for group in self._blocking:
            group.wake.set()
        self._plain.read()
        with self._lock:
            self._news.wait_for(
                lambda: all(group.done_ns >= now_ns for group in self._blocking), PATIENCE_S
            )
            now_ns = time.monotonic_ns()
            for track in self._tracks.values():
                if (interval := track.bridge(now_ns)) is not None:
                    self._ledger.hand_out(track.info, interval)
            account = self._ledger.account(
                run_id, now_ns, self._unmeasured, self._troubles(now_ns), last=True
            )
            self._ledger.close(run_id)
            return account

    def _require(self, run_id: str) -> None:
        with self._lock:
            if run_id not in self._ledger:
                raise KeyError(run_id)

    def _troubles(self, now_ns: int) -> dict[str, tuple[MeterInfo, str]]:
        return {
            meter_id: (track.info, track.trouble or f"silent for {track.silent_s(now_ns):.2f} s")
            for meter_id, track in self._tracks.items()
        }

    def after_fork(self) -> None:
        """In the child: forget the parent's runs, threads and locks. The parent goes on measuring."""
        self._begin()

    def shutdown(self) -> None:
        """Stop the threads and close the meters; open runs are dropped."""
        with self._lock:
            self._stopped = True
            self._ledger = Ledger()
        for group in (self._plain, *self._blocking):
            group.wake.set()
        for meter in self._meters:
            meter.close()

    # What the threads call.

    def busy(self) -> bool:
        """Whether a run is open."""
        return len(self._ledger) > 0

    def delay_s(self, group: _Group) -> float | None:
        """How long the group's thread sleeps; 0: until it is woken; ``None``: it ends."""
        if self._stopped:
            return None
        if not self.busy():
            return 0.0
        if group is not self._plain and time.monotonic_ns() < self._edge_until_ns:
            return EDGE_PERIOD_S
        shortest_s = min(meter.info.period_s for meter in group.meters)
        # Regular sampling of a regular load sees always the same phase of it: hence the jitter.
        jitter = random.uniform(0.7, 1.3) if shortest_s < 1 else 1.0  # noqa: S311
        return min(self._period_s, shortest_s * jitter)

    def take(self, meter: Meter, reading: Reading | Gap) -> None:
        """Put a reading on the ledger, or note the gap; one log line when trouble begins."""
        with self._lock:
            track = self._tracks.get(meter.info.id)
            if track is None:
                return
            track.info = meter.info
            if isinstance(reading, Gap):
                if track.trouble is None:
                    log.warning("cannot be measured at the moment: %s", reading.reason)
                track.gap(reading)
            elif (interval := track.add(reading)) is not None:
                self._ledger.hand_out(track.info, interval)
                self._ledger.note_power(interval.to_ns)

    def delivered(self, group: _Group, started_ns: int) -> None:
        """All meters of the group were read at or after ``started_ns``."""
        with self._lock:
            group.done_ns = started_ns
            self._news.notify_all()
