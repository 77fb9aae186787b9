"""The sampler: reads the meters while runs are open and keeps the book.

Meters that cannot hang (files of the kernel) are read by the caller at a run's edges, exactly
then, and by a daemon thread in between. Meters that can hang (a driver, a program) have a thread
of their own, so that a hung call holds up neither the user's program nor the other meters. As
waking a thread takes as much as reading a meter, one thread does a period's work: the GPU
driver's if there is one, while another is there for the time it hangs. A driver is opened by the
thread that will read its meters, so a run begins whether or not the driver is there already.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace

from mlflow_carbon.energy import cost
from mlflow_carbon.energy.book import Book
from mlflow_carbon.energy.ledger import Progress, RunEnergy
from mlflow_carbon.energy.meter import (
    Component,
    Driver,
    Gap,
    Meter,
    Opened,
    Reading,
    Unmeasured,
)

log = logging.getLogger(__name__)

PERIOD_S = 1.0
_UNTIL_WOKEN_S = threading.TIMEOUT_MAX
PATIENCE_S = 0.1
"""The start of the first run and the end of each wait so long at most for what can hang. A driver takes 4 ms to tell an energy counter, and
20 ms where other programs ask it too (H200, driver 580)."""

_GPUS = (Component.GPU, Component.MODULE)
_LATE = 2.0
"""So many periods a driver may be late before the others are read without it."""
_MOST_EXPECTED = 64


class _Bell:
    """Wakes one thread. What ``threading.Event`` does takes twice the CPU time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self, timeout_s: float) -> bool:
        """Whether it rang; false when the time is over."""
        return self._lock.acquire(timeout=timeout_s)

    def ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has rung already
            self._lock.release()


class _Group:
    """Some meters and the thread that reads them while runs are open, in time or when told.

    A group with a ``driver`` has no meters yet: its thread opens the driver first.
    """

    def __init__(
        self, sampler: Sampler, meters: Sequence[Meter], name: str, driver: Driver | None = None
    ) -> None:
        self.meters, self.name, self.driver = tuple(meters), name, driver
        self._bell = _Bell()
        self._asked = False
        self.done_ns = time.monotonic_ns()
        """Every reading asked for before this moment has been delivered."""
        self._sampler = sampler
        self._reading, self._starting = threading.Lock(), threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Have the thread run, and look at once what there is to do."""
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread.start()
        self._bell.ring()

    def ask(self) -> None:
        """Have the meters read now."""
        self._asked = True
        self._bell.ring()

    def wake(self) -> None:
        """Have the thread look what there is to do."""
        self._bell.ring()

    def give_up(self, meter_ids: Container[str]) -> None:
        """Read these meters no more."""
        with self._reading:
            for meter in self.meters:
                if meter.info.id in meter_ids:
                    meter.close()
            self.meters = tuple(m for m in self.meters if m.info.id not in meter_ids)

    def _run(self) -> None:
        if self.driver is not None:
            self._sampler.opened(self, self.driver, self.driver.opened())
            if not self.meters:
                return
        while (delay_s := self._sampler.delay_s(self)) is not None:
            cost.count()
            asked, self._asked = self._asked, False
            if asked:
                self.read()
            elif delay_s <= 0 or not self._bell.wait(delay_s):
                self._sampler.turn(self)

    def read(self) -> None:
        """Read every meter once and put the joules on the ledger."""
        with self._reading:
            started_ns = time.monotonic_ns()
            readings = [(meter, meter.read()) for meter in self.meters]
            for meter, reading in tuple(readings):
                if isinstance(reading, Gap) and reading.lost:
                    readings.append((meter, meter.read()))  # the new zero
        self._sampler.delivered(self, started_ns, readings)


def _waited_for(drivers: Iterable[Driver]) -> list[Unmeasured]:
    return [
        missing
        for driver in drivers
        for missing in driver.missing(f"{driver.name} has not answered yet")
    ]


class Sampler:
    """Measures the runs of one process. Safe to call from any thread; raises nothing but ``KeyError``."""

    def __init__(
        self,
        meters: Sequence[Meter],
        unmeasured: Sequence[Unmeasured] = (),
        drivers: Sequence[Driver] = (),
        *,
        period_s: float = PERIOD_S,
        after_reading: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the meters over; nothing is read or opened and no thread runs before a run opens.

        ``after_reading`` is called on the sampler's thread whenever it has read all the meters.
        """
        self.meters, self._unmeasured = tuple(meters), tuple(unmeasured)
        self._drivers = tuple(drivers)
        """Those that have not been opened."""
        self._told_of_drivers = False
        self._after_reading = after_reading
        self._period_s = period_s
        self.stopped = False
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._book = Book(self.meters, self.unmeasured, self._period_s)
        self._cost_s: dict[str, float] = {}
        """What measuring had cost before the run began, by run, and by moment for those expected."""
        self._expected: dict[int, float] = {}
        plain = [meter for meter in self.meters if not meter.info.may_block]
        families: dict[str, list[Meter]] = {}
        for meter in self.meters:
            if meter.info.may_block:
                families.setdefault(meter.info.id.partition(":")[0], []).append(meter)
        self._plain = _Group(self, plain, "mlflow-carbon")
        self._blocking = [
            _Group(self, found, f"mlflow-carbon-{name}") for name, found in families.items()
        ]
        self._blocking += [_Group(self, (), "mlflow-carbon-driver", d) for d in self._drivers]
        self._choose_pace()

    def _choose_pace(self) -> None:
        gpus = [g for g in self._blocking if any(m.info.component in _GPUS for m in g.meters)]
        self._pace = gpus[0] if gpus else self._plain

    @property
    def unmeasured(self) -> tuple[Unmeasured, ...]:
        """What no meter covers, and why: also what a driver has to tell that has not answered yet."""
        return (*self._unmeasured, *_waited_for(self._drivers))

    def open_drivers(self, patience_s: float = PATIENCE_S) -> None:
        """Have the drivers opened, and wait so long at most until they are."""
        for group in self._blocking:
            if group.driver is not None:
                group.start()
        with self._lock:
            self._news.wait_for(lambda: not self._drivers, patience_s)

    def expect(self) -> int:
        """A run is about to begin: read every meter once, so that it can be opened from this moment on.

        Returns the moment. Nothing is to be undone when the run does not begin after all.
        """
        now_ns = time.monotonic_ns()
        with self._lock:
            if self.stopped:
                return now_ns
            self._book.expect(now_ns)
            if len(self._expected) >= _MOST_EXPECTED:  # runs that did not begin after all
                self._expected.clear()
            self._expected[now_ns] = cost.cpu_before_s()
        self._plain.read()
        for group in self._blocking:
            group.ask()
            group.start()
        return now_ns

    def open(self, run_id: str, parent_id: str | None = None, since_ns: int | None = None) -> None:
        """Begin to measure a run, from now or from what ``expect`` returned; an open run goes on.

        A run's figure contains what runs that name it as parent used while it was open.
        """
        with self._lock:
            if self.stopped or run_id in self._book:
                return
        if since_ns is None:
            since_ns = self.expect()
        with self._lock:
            self._book.open(run_id, since_ns, parent_id)
            self._cost_s[run_id] = self._expected.pop(since_ns, cost.cpu_before_s())
        for group in (self._plain, *self._blocking):
            group.start()

    def adopt(self, run_id: str, parent_id: str) -> None:
        """A run that is open turns out to be nested in another one that is; else nothing happens."""
        with self._lock:
            self._book.adopt(run_id, parent_id)

    def account(self, run_id: str) -> RunEnergy:
        """What the run has used up to the last reading.

        Raises:
            KeyError: no such run is open.
        """
        with self._lock:
            account = self._book.account(run_id, time.monotonic_ns())
            account = self._with_cost(run_id, account)
            self._note_drivers()
        self._warn()
        return account

    def progress(self, run_id: str) -> Progress | None:
        """What the run used since its last account, cheaply; ``None`` where another account is needed."""
        with self._lock:
            return self._book.progress(run_id) if run_id in self._book else None

    def close(self, run_id: str) -> RunEnergy:
        """End a run: its final account, after at most 20 ms and one reading of the kernel's files.

        Raises:
            KeyError: no such run is open.
        """
        self._require(run_id)
        self._read_all()
        with self._lock:
            account = self._book.close(run_id, time.monotonic_ns())
            account = self._with_cost(run_id, account)
            del self._cost_s[run_id]
            self._note_drivers()
        self._warn()
        return account

    def _note_drivers(self) -> None:
        if self._drivers and not self._told_of_drivers:
            self._told_of_drivers = True
            self._book.troubles.append("; ".join(p.reason for p in _waited_for(self._drivers)))

    def _warn(self) -> None:
        """Log what is new. With no lock held: a program's own handler may wait for others, or begin a run."""
        while self._book.troubles:
            with contextlib.suppress(IndexError):  # another thread was faster
                trouble = self._book.troubles.popleft()
                log.warning("energy is not measured at the moment: %s", trouble)

    def _with_cost(self, run_id: str, account: RunEnergy) -> RunEnergy:
        return replace(account, measuring_cpu_s=cost.cpu_s() - self._cost_s[run_id])

    def _read_all(self) -> None:
        """Read the kernel's files, and wait a little for the meters that can hang."""
        asked_ns = time.monotonic_ns()
        for group in self._blocking:
            group.ask()
        self._plain.read()
        with self._lock:
            self._news.wait_for(
                lambda: all(g.done_ns >= asked_ns for g in self._blocking if g.driver is None),
                PATIENCE_S,
            )

    def _require(self, run_id: str) -> None:
        with self._lock:
            if run_id not in self._book:
                raise KeyError(run_id)

    def after_fork(self) -> None:
        """In the child: forget the parent's runs, threads and locks. The parent goes on measuring."""
        self._begin()

    def shutdown(self) -> None:
        """Stop the threads and close the meters; open runs are dropped."""
        with self._lock:
            self.stopped = True
            self._book = Book((), (), self._period_s)
        for group in (self._plain, *self._blocking):
            group.wake()
        for meter in self.meters:
            meter.close()

    # What the threads call.

    def opened(self, group: _Group, driver: Driver, opened: Opened) -> None:
        """A driver has answered, in time or late: its meters are read from now on."""
        with self._lock:
            drivers = tuple(other for other in self._drivers if other is not driver)
            unmeasured = (*self._unmeasured, *opened.unmeasured)
            told = (*unmeasured, *_waited_for(drivers))
            given_up = self._book.join(opened.meters, told, time.monotonic_ns())
            kept = [meter for meter in self.meters if meter.info.id not in given_up]
            meters = (*kept, *opened.meters)
            # In one go: a child that is forked in between opens the driver itself.
            self._drivers, self._unmeasured, self.meters = drivers, unmeasured, meters
            group.meters, group.driver = tuple(opened.meters), None
            if not opened.meters:
                self._blocking = [other for other in self._blocking if other is not group]
            self._choose_pace()
            stopped = self.stopped
            self._news.notify_all()
        self._plain.give_up(given_up)
        if stopped:
            for meter in opened.meters:
                meter.close()
        elif len(self._book):
            group.ask()

    def delay_s(self, group: _Group) -> float | None:
        """How long until the group is to be read, counted from its last reading; ``None``: never again."""
        if self.stopped:
            return None
        if not len(self._book):
            return _UNTIL_WOKEN_S
        now_ns = time.monotonic_ns()
        delay_s = self._book.delay_s(group.meters, now_ns)
        if group is self._plain and group is not self._pace:
            late_s = _LATE * self._book.pace_s(now_ns)
            if (now_ns - self._pace.done_ns) / 1e9 < late_s:
                delay_s += late_s  # the driver's thread is about to do it
        return max(0.0, delay_s - (now_ns - group.done_ns) / 1e9)

    def turn(self, group: _Group) -> None:
        """The group's time has come, on its own thread; unless the last run has ended, or the driver's thread was faster."""
        beside_a_driver = group is self._plain and group is not self._pace
        if not len(self._book) or (beside_a_driver and not self._is_due(group)):
            return
        began_s = time.thread_time()
        group.read()
        if group is self._pace and group is not self._plain and self._is_due(self._plain):
            self._plain.read()
        elif group is not self._plain:
            return
        self._after_reading()
        more_s = time.thread_time() - began_s - self._book.reading_cpu_s
        self._book.reading_cpu_s += more_s / 8  # one that is dear for once changes little

    def _is_due(self, group: _Group) -> bool:
        now_ns = time.monotonic_ns()
        return (now_ns - group.done_ns) / 1e9 >= 0.9 * self._book.delay_s(group.meters, now_ns)

    def tick(self) -> None:
        """Have all meters read, then tell who waits for that."""
        self._read_all()
        self._after_reading()

    def delivered(
        self, group: _Group, started_ns: int, readings: Sequence[tuple[Meter, Reading | Gap]]
    ) -> None:
        """All meters of the group were read, at or after ``started_ns``: put that on the book."""
        with self._lock:
            for meter, reading in readings:
                self._book.take(meter, reading)
            group.done_ns = started_ns
            if group is not self._plain:
                self._news.notify_all()
        self._warn()
