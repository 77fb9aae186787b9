"""The book of one process: what its meters said, laid along time and shared between its runs.

No threads and no clock: the moments come with the calls, so that the book can be checked
against a rig in simulated time.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from mlflow_carbon.energy.integrate import Track
from mlflow_carbon.energy.ledger import Progress, RunEnergy
from mlflow_carbon.energy.meter import Component, Gap, Meter, MeterInfo, Reading, Unmeasured
from mlflow_carbon.energy.sharing import Ledger

_jitter = random.Random()  # noqa: S311 (no secret)
"""Our own: drawing from the shared one would change what a seeded training script draws."""

SLOWEST_S = 10.0
"""However much a reading takes, the meters are read this often: a process that is killed loses no more."""
_LOSS = 1 / 20
_SPENT = 1 / 2000
"""Meters are read less often than every second where reading takes more than this part of a core (the energy counter
of an H200 takes 4 ms), but so often that at most that other part of the run is lost with its process."""

_MOST_WAITING = 500
"""Readings wait to be put on the ledger together, at ten times less cost; at most so many."""

EDGE_S, EDGE_PERIOD_S = 0.15, 0.02
"""After a run's start counters are polled at most this long and this often, to see a tick happen."""


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
        self._began_ns: int | None = None
        """When the tracks began."""
        self._waiting: list[tuple[MeterInfo, Reading | Gap]] = []
        self._now: dict[str, tuple[MeterInfo, Reading]] = {}
        """The last reading of each meter, and below the last one that is on the ledger."""
        self._settled: dict[str, tuple[MeterInfo, Reading]] = {}
        self._settlements = 0
        self._told_of: dict[str, tuple[int, RunEnergy]] = {}
        """The last account of each run, and after how many settlements."""
        self.reading_cpu_s = 0.0
        """What reading all meters once takes."""
        self._edge_until_ns = 0
        self._ticked: dict[str, int] = {}
        """Meters whose counter changed between two polls of the present edge, and polls since."""
        self._told: set[str] = set()
        self.troubles: deque[str] = deque()
        """Why meters cannot be read, once each, to be logged by who holds no lock."""

    def __contains__(self, run_id: str) -> bool:
        """Whether the run is open."""
        return run_id in self._ledger

    def __len__(self) -> int:
        """How many runs are open."""
        return len(self._ledger)

    def expect(self, now_ns: int) -> None:
        """Before the readings at a run's start: begin the tracks if no run is open."""
        self._settle()
        if not len(self):
            self._tracks = {m.info.id: Track(m.info, now_ns) for m in self._meters}
            self._began_ns = now_ns
            self._now, self._settled = {}, {}
        self._edge_until_ns = now_ns + int(EDGE_S * 1e9)
        self._ticked.clear()

    def join(
        self, meters: Sequence[Meter], unmeasured: Sequence[Unmeasured], now_ns: int
    ) -> set[str]:
        """Take over meters that were opened since, and say anew what is unmeasured.

        Returns the ids of meters whose place they take: what those counted is taken back.
        """
        self._settle()
        inside = {component for meter in meters for component in meter.info.contains}
        given_up = {m.info.id for m in self._meters if m.info.component in inside}
        for meter_id in given_up:
            for known in (self._tracks, self._now, self._settled):
                known.pop(meter_id, None)
            self._ledger.forget(meter_id)
        kept = [meter for meter in self._meters if meter.info.id not in given_up]
        self._meters, self._unmeasured = (*kept, *meters), tuple(unmeasured)
        if self._began_ns is not None:
            self._tracks |= {m.info.id: Track(m.info, self._began_ns) for m in meters}
            self._edge_until_ns = now_ns + int(EDGE_S * 1e9)
        return given_up

    def open(self, run_id: str, at_ns: int, parent_id: str | None = None) -> None:
        """Begin a run, from a moment at or after which all meters were read."""
        self._settle()
        self._ledger.open(run_id, at_ns, parent_id)

    def adopt(self, run_id: str, parent_id: str) -> None:
        """A run turns out to be nested in another."""
        self._settle()
        self._ledger.adopt(run_id, parent_id)

    def take(self, meter: Meter, reading: Reading | Gap) -> None:
        """Take a reading, or note the gap; one word of trouble for each meter."""
        info = meter.info
        if info.id not in self._tracks:
            return
        self._waiting.append((info, reading))
        if isinstance(reading, Reading):
            if reading.at_ns < self._edge_until_ns:
                self._look_for_a_tick(info, reading)
            self._now[info.id] = (info, reading)
        if isinstance(reading, Gap) or len(self._waiting) >= _MOST_WAITING:
            self._settle()

    def _look_for_a_tick(self, info: MeterInfo, reading: Reading) -> None:
        """See a counter change between two polls so close that the track knows its beat; it needs one more after it."""
        _, before = self._now.get(info.id, (info, reading))
        close = reading.at_ns - before.at_ns <= info.tick_s / 2 * 1e9
        if info.id in self._ticked or (close and reading.energy_j != before.energy_j):
            self._ticked[info.id] = self._ticked.get(info.id, -1) + 1

    def _settle(self) -> None:
        """Put on the ledger what was read since the last time."""
        waiting, self._waiting = self._waiting, []
        for info, reading in waiting:
            track = self._tracks[info.id]
            track.follow(info)
            if isinstance(reading, Gap):
                if info.id not in self._told:
                    self._told.add(info.id)
                    self.troubles.append(reading.reason)
                track.gap(reading)
            elif (interval := track.add(reading)) is not None:
                self._ledger.hand_out(track.info, interval)
                self._ledger.note_power(interval.to_ns)
        self._settled = dict(self._now)
        self._settlements += 1

    def account(self, run_id: str, now_ns: int) -> RunEnergy:
        """The account so far.

        Raises:
            KeyError: the run is not open.
        """
        if self._waiting:
            self._settle()
        account = self._account(run_id, now_ns)
        self._told_of[run_id] = (self._settlements, account)
        return account

    def progress(self, run_id: str) -> Progress | None:
        """What the run used since its last account; ``None`` where only another account can tell.

        It costs a tenth of one. An account is needed when a run began or ended, or a meter was silent, since.
        """
        settlements, account = self._told_of.get(run_id, (-1, None))
        if account is None or settlements != self._settlements:
            return None
        part = self._ledger.part_of(run_id)
        added: dict[Component, list[float]] = {c.component: [0.0] * 6 for c in account.components}
        last_ns = first_ns = 0
        for meter_id, (info, now) in self._now.items():
            before = self._settled.get(meter_id)
            figures = added.get(info.component)
            if before is None or before[1] is now or before[0] is not info or figures is None:
                return None
            _add(figures, info.sensor_error, (now, before[1]), part)
            first_ns, last_ns = max(first_ns, before[1].at_ns), max(last_ns, now.at_ns)
        if (
            Component.SYSTEM in added or not last_ns
        ):  # the wall holds the others: an account takes them off
            return None
        return Progress(
            after_s=account.duration_s,
            duration_s=(last_ns - self._ledger.opened_ns(run_id)) / 1e9,
            covered_s=(last_ns - first_ns) / 1e9,
            added_j=added,
        )

    def close(self, run_id: str, now_ns: int) -> RunEnergy:
        """Bridge every track up to now and end the run.

        Raises:
            KeyError: the run is not open.
        """
        self._settle()
        for track in self._tracks.values():
            if (interval := track.bridge(now_ns, self.pace_s(now_ns))) is not None:
                self._ledger.hand_out(track.info, interval)
        account = self._account(run_id, now_ns, last=True)
        self._ledger.close(run_id)
        self._told_of.pop(run_id, None)
        return account

    def _account(self, run_id: str, now_ns: int, *, last: bool = False) -> RunEnergy:
        """The ledger's, and of which meters nothing is known of the run's beginning, not even a bound."""
        account = self._ledger.account(
            run_id, now_ns, self._unmeasured, self._troubles(now_ns), last=last
        )
        opened_ns = self._ledger.opened_ns(run_id)
        late = [
            Unmeasured(
                track.info.component,
                f"{track.info.describe}: first read {(track.unknown_until_ns - opened_ns) / 1e9:.1f} s"
                " after the run began; how much it can draw is not known",
            )
            for track in self._tracks.values()
            if track.unknown_until_ns > opened_ns
        ]
        return replace(account, unmeasured=(*account.unmeasured, *late)) if late else account

    def pace_s(self, now_ns: int) -> float:
        """Between two readings now: one second, or up to five for an old run where reading is costly."""
        age_s = (now_ns - self._ledger.youngest_ns) / 1e9
        return max(self._period_s, min(SLOWEST_S, age_s * _LOSS, self.reading_cpu_s / _SPENT))

    def delay_s(self, meters: Sequence[Meter], now_ns: int) -> float:
        """How long to wait before reading these meters again."""
        if now_ns < self._edge_until_ns and any(
            meter.info.tick_s and not self._ticked.get(meter.info.id) for meter in meters
        ):
            return EDGE_PERIOD_S
        shortest_s = min((meter.info.period_s for meter in meters), default=SLOWEST_S)
        # Regular sampling of a regular load sees always the same phase of it: hence the jitter.
        jitter = _jitter.uniform(0.7, 1.3) if shortest_s < 1 else 1.0
        return min(self.pace_s(now_ns), shortest_s * jitter)

    @property
    def unattributed_j(self) -> dict[str, float]:
        """What no run got, per meter id."""
        self._settle()
        return dict(self._ledger.unattributed_j)

    def _troubles(self, now_ns: int) -> dict[str, tuple[MeterInfo, str]]:
        return {
            meter_id: (track.info, track.why_silent(now_ns, self.pace_s(now_ns)))
            for meter_id, track in self._tracks.items()
        }


def _add(
    figures: list[float], error: float, readings: tuple[Reading, Reading], part: float
) -> None:
    """Add what was used between two readings: low, mid and high of the run's part, then of the whole."""
    now, before = readings
    for place, (late, early) in enumerate(
        (
            (now.own_j or now.energy_j, before.own_j or before.energy_j),
            (now.energy_j, before.energy_j),
        )
    ):
        share, at = (1.0 if place else part), 3 * place
        figures[at] += (late.low - early.low) * share * (1 - error)
        figures[at + 1] += (late.mid - early.mid) * share
        figures[at + 2] += (late.high - early.high) * share * (1 + error)
