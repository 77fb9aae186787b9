"""The book of one process: what its meters said, laid along time and shared between its runs.

No threads and no clock: the moments come with the calls, so that the book can be checked
against a rig in simulated time.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence

from mlflow_carbon.energy.integrate import Track
from mlflow_carbon.energy.ledger import RunEnergy
from mlflow_carbon.energy.meter import Gap, Meter, MeterInfo, Reading, Unmeasured
from mlflow_carbon.energy.sharing import Ledger

_jitter = random.Random()  # noqa: S311 (no secret)
"""Our own: drawing from the shared one would change what a seeded training script draws."""

log = logging.getLogger(__name__)

SLOWEST_S = 5.0
"""However long a run lasts, its meters are read this often: a process that is killed loses no more."""
_LOSS = 1 / 60
"""As a run grows older they are read less often, so that at most this part of it is lost then."""

EDGE_S, EDGE_PERIOD_S = 0.15, 0.02
"""After a run's start counters are polled this long and this often, to see a tick happen."""


class Book:
    """Tracks and ledger of the runs that are open."""

    def __init__(
        self, meters: Sequence[Meter], unmeasured: Sequence[Unmeasured], period_s: float
    ) -> None:
        """No runs yet; a young run's meters are to be read every ``period_s``, or as often as they need."""
        self._meters, self._unmeasured = tuple(meters), tuple(unmeasured)
        self._period_s = max(EDGE_PERIOD_S, period_s)
        self._ledger = Ledger()
        self._tracks: dict[str, Track] = {}
        self._edge_until_ns = 0
        self._told: set[str] = set()

    def __contains__(self, run_id: str) -> bool:
        """Whether the run is open."""
        return run_id in self._ledger

    def __len__(self) -> int:
        """How many runs are open."""
        return len(self._ledger)

    def expect(self, now_ns: int) -> None:
        """Before the readings at a run's start: begin the tracks if no run is open."""
        if not len(self):
            self._tracks = {m.info.id: Track(m.info, now_ns) for m in self._meters}
        self._edge_until_ns = now_ns + int(EDGE_S * 1e9)

    def open(self, run_id: str, at_ns: int, parent_id: str | None = None) -> None:
        """Begin a run, from a moment at or after which all meters were read."""
        self._ledger.open(run_id, at_ns, parent_id)

    def adopt(self, run_id: str, parent_id: str) -> None:
        """A run turns out to be nested in another."""
        self._ledger.adopt(run_id, parent_id)

    def take(self, meter: Meter, reading: Reading | Gap) -> None:
        """Put a reading on the ledger, or note the gap; one log line for each meter in trouble."""
        track = self._tracks.get(meter.info.id)
        if track is None:
            return
        track.follow(meter.info)
        if isinstance(reading, Gap):
            if meter.info.id not in self._told:
                self._told.add(meter.info.id)
                log.warning("energy is not measured at the moment: %s", reading.reason)
            track.gap(reading)
        elif (interval := track.add(reading)) is not None:
            self._ledger.hand_out(track.info, interval)
            self._ledger.note_power(interval.to_ns)

    def account(self, run_id: str, now_ns: int) -> RunEnergy:
        """The account so far.

        Raises:
            KeyError: the run is not open.
        """
        return self._ledger.account(run_id, now_ns, self._unmeasured, self._troubles(now_ns))

    def close(self, run_id: str, now_ns: int) -> RunEnergy:
        """Bridge every track up to now and end the run.

        Raises:
            KeyError: the run is not open.
        """
        for track in self._tracks.values():
            if (interval := track.bridge(now_ns, self.pace_s(now_ns))) is not None:
                self._ledger.hand_out(track.info, interval)
        account = self._ledger.account(
            run_id, now_ns, self._unmeasured, self._troubles(now_ns), last=True
        )
        self._ledger.close(run_id)
        return account

    def pace_s(self, now_ns: int) -> float:
        """Between two readings now: one second, and from the youngest run's second minute on up to five."""
        age_s = (now_ns - self._ledger.youngest_ns) / 1e9
        return max(self._period_s, min(SLOWEST_S, age_s * _LOSS))

    def delay_s(self, meters: Sequence[Meter], now_ns: int) -> float:
        """How long to wait before reading these meters again."""
        if now_ns < self._edge_until_ns and any(meter.info.tick_s for meter in meters):
            return EDGE_PERIOD_S
        shortest_s = min((meter.info.period_s for meter in meters), default=SLOWEST_S)
        # Regular sampling of a regular load sees always the same phase of it: hence the jitter.
        jitter = _jitter.uniform(0.7, 1.3) if shortest_s < 1 else 1.0
        return min(self.pace_s(now_ns), shortest_s * jitter)

    @property
    def unattributed_j(self) -> dict[str, float]:
        """What no run got, per meter id."""
        return dict(self._ledger.unattributed_j)

    def _troubles(self, now_ns: int) -> dict[str, tuple[MeterInfo, str]]:
        return {
            meter_id: (track.info, track.why_silent(now_ns, self.pace_s(now_ns)))
            for meter_id, track in self._tracks.items()
        }
