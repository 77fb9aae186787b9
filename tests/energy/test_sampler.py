"""The sampler reads while runs are open, shares, and never holds up the program."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

import pytest

from mlflow_carbon.energy.book import Book
from mlflow_carbon.energy.ledger import RunEnergy
from mlflow_carbon.energy.meter import Component, Driver, Gap, Meter, Opened, Unmeasured
from mlflow_carbon.energy.sampler import Sampler
from tests.fakes.meters import HangingMeter, ScriptedMeter, SteadyMeter


def test_a_run_gets_the_joules_between_its_start_and_its_end() -> None:
    sampler = Sampler([SteadyMeter(1000.0)])
    sampler.open("a")
    sampler.tick()
    so_far = sampler.account("a").attributed_j
    account = sampler.close("a")
    sampler.shutdown()
    assert account.attributed_j is not None
    assert so_far is not None
    assert so_far.mid <= account.attributed_j.mid
    assert account.attributed_j.mid == pytest.approx(1000.0 * account.duration_s, rel=1e-6)
    assert account.grade == "A"


def test_two_runs_at_once_add_up_to_the_machine() -> None:
    meter = SteadyMeter(1000.0)
    sampler = Sampler([meter])
    sampler.open("a")
    sampler.open("b")
    b = sampler.close("b")
    a = sampler.close("a")
    sampler.shutdown()
    assert a.attributed_j is not None
    assert b.attributed_j is not None
    assert a.attributed_j.mid + b.attributed_j.mid == pytest.approx(1000.0 * a.duration_s, rel=1e-6)


def test_a_run_can_be_opened_from_the_moment_it_was_expected() -> None:
    meters = [SteadyMeter(1000.0), SteadyMeter(100.0, may_block=True, name="driver")]
    sampler = Sampler(meters)
    abandoned_ns = sampler.expect()
    since_ns = sampler.expect()
    time.sleep(0.2)
    sampler.open("a", since_ns=since_ns)
    account = sampler.close("a")
    sampler.shutdown()
    assert abandoned_ns <= since_ns
    assert account.duration_s > 0.2
    assert account.attributed_j is not None
    assert account.attributed_j.mid == pytest.approx(1100.0 * account.duration_s, rel=0.02)


def test_who_keeps_a_record_is_called_after_the_meters_were_read_and_reads_none_again() -> None:
    meter = SteadyMeter(1000.0, may_block=True)
    heard: list[RunEnergy] = []
    enough = threading.Event()

    def hear() -> None:
        before = meter.readings
        heard.append(sampler.account("a"))
        assert meter.readings == before
        enough.set()

    sampler = Sampler([meter], period_s=0.05, after_reading=hear)
    sampler.open("a")
    assert enough.wait(10)
    sampler.close("a")
    sampler.shutdown()
    (part,) = heard[0].components
    assert part.readings == 1  # the first one sets the zero


def test_the_dearer_a_reading_the_rarer_but_a_young_run_is_read_every_second() -> None:
    meter = SteadyMeter(1000.0)
    book = Book([meter], (), period_s=1.0)
    book.expect(0)
    book.open("old", 0)
    ages_s = (1, 20, 60, 300, 86_400)
    book.reading_cpu_s = 0.0005
    assert [book.delay_s([meter], age_s * 10**9) for age_s in ages_s] == [1, 1, 1, 1, 1]
    book.reading_cpu_s = 0.1
    assert [book.delay_s([meter], age_s * 10**9) for age_s in ages_s] == [1, 1, 3, 10, 10]
    book.open("new", 86_400 * 10**9)
    assert book.delay_s([meter], 86_401 * 10**9) == 1


def test_a_driver_call_that_hangs_holds_up_neither_the_run_nor_the_other_meters() -> None:
    hanging = HangingMeter()
    sampler = Sampler([hanging, SteadyMeter(50.0)], period_s=0.05)
    sampler.open("a")
    first = threading.Event()
    while not first.is_set():  # the driver's thread delivers its first reading
        if any(c.component is Component.GPU for c in sampler.account("a").components):
            first.set()
    hanging.hang.set()
    assert hanging.inside.wait(10)
    account = sampler.close("a")  # would not return if it waited for the driver
    parts = {part.component: part for part in account.components}
    assert parts[Component.CPU].attributed_j.mid == pytest.approx(
        50.0 * account.duration_s, rel=1e-6
    )
    hanging.release.set()
    sampler.shutdown()


def test_the_end_of_a_run_waits_for_a_driver_that_is_asked_by_others_too() -> None:
    meter = SteadyMeter(1000.0, may_block=True, takes_s=0.03)
    sampler = Sampler([meter], period_s=10.0)
    sampler.open("a")
    time.sleep(0.3)
    meter.power_w = 4000.0  # what it counts from now on is known only if it is read at the end
    account = sampler.close("a")
    sampler.shutdown()
    assert account.attributed_j is not None
    assert account.attributed_j.mid > 1000.0
    assert account.components[0].coverage == pytest.approx(1.0, abs=0.2)


def test_while_a_driver_hangs_the_other_meters_are_read_and_records_kept() -> None:
    hanging, steady = HangingMeter(), SteadyMeter(50.0)
    kept = threading.Semaphore(0)
    sampler = Sampler([hanging, steady], period_s=0.05, after_reading=kept.release)
    sampler.open("a")
    assert kept.acquire(timeout=10)
    hanging.hang.set()
    assert hanging.inside.wait(10)
    read_before = steady.readings
    for _ in range(5):
        assert kept.acquire(timeout=10)
    assert steady.readings > read_before
    hanging.release.set()
    sampler.close("a")
    sampler.shutdown()


def test_a_driver_that_never_answered_leaves_the_component_unmeasured_with_the_reason() -> None:
    hanging = HangingMeter()
    hanging.hang.set()
    sampler = Sampler([hanging])
    sampler.open("a")
    account = sampler.close("a")
    assert account.components == ()
    assert account.attributed_j is None
    (missing,) = account.unmeasured
    assert missing.component is Component.GPU
    assert "silent" in missing.reason
    hanging.release.set()
    sampler.shutdown()


def test_a_meter_that_fails_is_logged_once_and_named_in_the_account(
    caplog: pytest.LogCaptureFixture,
) -> None:
    meter = ScriptedMeter(lambda: Gap(time.monotonic_ns(), "permission denied"))
    sampler = Sampler([meter], [Unmeasured(Component.GPU, "no driver")])
    with caplog.at_level(logging.WARNING):
        sampler.open("a")
        sampler.tick()
        account = sampler.close("a")
    sampler.shutdown()
    assert {part.reason for part in account.unmeasured} == {
        "no driver",
        "fake:scripted: permission denied",
    }
    assert sum("permission denied" in record.message for record in caplog.records) == 1


def test_an_unknown_run_is_a_key_error_and_opening_twice_goes_on() -> None:
    sampler = Sampler([SteadyMeter(1000.0)])
    with pytest.raises(KeyError):
        sampler.account("never opened")
    sampler.open("a")
    before_s = sampler.account("a").duration_s
    sampler.open("a")
    assert sampler.close("a").duration_s > before_s
    with pytest.raises(KeyError):
        sampler.close("a")
    sampler.shutdown()


def test_after_shutdown_nothing_runs_and_nothing_raises() -> None:
    meter = SteadyMeter(1000.0)
    sampler = Sampler([meter])
    sampler.open("a")
    sampler.shutdown()
    sampler.open("b")
    with pytest.raises(KeyError):
        sampler.close("b")
    assert meter.closed


def holds_in_a_child(check: Callable[[], bool]) -> bool:
    """Whether it is so in a child forked now, and ends without an exception there."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if check() else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def test_a_forked_child_measures_its_own_runs_and_the_parent_goes_on() -> None:
    sampler = Sampler([SteadyMeter(1000.0)])
    sampler.open("parent")

    def measures() -> bool:
        sampler.after_fork()
        sampler.open("child")
        return sampler.close("child").attributed_j is not None

    assert holds_in_a_child(measures)
    account = sampler.close("parent")
    sampler.shutdown()
    assert account.attributed_j is not None
    assert account.attributed_j.mid == pytest.approx(1000.0 * account.duration_s, rel=1e-6)


def test_runs_opened_and_closed_from_many_threads_conserve_energy() -> None:
    sampler = Sampler([SteadyMeter(1000.0)])
    sampler.open("outer")
    got: list[float] = []

    def work(name: str) -> None:
        for step in range(5):
            sampler.open(f"{name}-{step}", parent_id="outer")
            total = sampler.close(f"{name}-{step}").attributed_j
            got.append(0.0 if total is None else total.mid)

    threads = [threading.Thread(target=work, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outer = sampler.close("outer")
    sampler.shutdown()
    assert outer.attributed_j is not None
    assert sum(got) <= outer.attributed_j.mid + 1e-6
    assert outer.attributed_j.mid == pytest.approx(1000.0 * outer.duration_s, rel=1e-6)


class SlowDriver:
    """Opens when it is let."""

    def __init__(self, *meters: Meter, fails: Exception | None = None) -> None:
        self.let, self.meters, self.fails = threading.Event(), meters, fails
        self.driver = Driver("Slow", Component.GPU, ("Slow GPU 0",), self.open)

    def open(self) -> Opened:
        self.let.wait()
        if self.fails is not None:
            raise self.fails
        return Opened(self.meters)


def wait_until(holds: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until_s, "it never was so"
        time.sleep(0.01)


def test_a_run_begins_without_a_driver_that_takes_long_and_has_its_gpu_when_it_answers() -> None:
    gpu = SteadyMeter(1000.0, may_block=True, name="slow:0")
    gpu.info = gpu.info._replace(max_power_w=2000.0)
    slow = SlowDriver(gpu)
    sampler = Sampler([SteadyMeter(50.0)], drivers=[slow.driver], period_s=0.05)
    sampler.open_drivers(0.01)
    sampler.open("a")
    time.sleep(0.4)
    before = sampler.account("a")
    assert [part.component for part in before.components] == [Component.CPU]
    assert [part.reason for part in before.unmeasured] == ["Slow GPU 0: Slow has not answered yet"]
    slow.let.set()
    wait_until(lambda: gpu.readings > 2)
    account = sampler.close("a")
    sampler.shutdown()
    parts = {part.component: part for part in account.components}
    known = parts[Component.GPU]
    assert account.unmeasured == ()
    assert 0 < known.coverage < 1
    assert known.largest_gap_s > 0.3
    assert known.attributed_j.mid < 1000.0 * account.duration_s < known.attributed_j.high
    assert known.attributed_j.high < 2500.0 * account.duration_s
    assert parts[Component.CPU].coverage == pytest.approx(1.0)
    assert gpu.closed


def test_a_driver_that_answers_soon_is_waited_for_and_measures_from_the_start() -> None:
    gpu = SteadyMeter(1000.0, may_block=True, name="slow:0")
    soon = SlowDriver(gpu)
    soon.let.set()
    sampler = Sampler([], drivers=[soon.driver], period_s=0.05)
    sampler.open_drivers(30)
    assert sampler.meters == (gpu,)
    sampler.open("a")
    wait_until(lambda: gpu.readings > 2)
    account = sampler.close("a")
    sampler.shutdown()
    assert account.attributed_j is not None
    assert account.attributed_j.mid == pytest.approx(1000.0 * account.duration_s, rel=0.1)


def test_of_two_drivers_one_that_has_nothing_or_hangs_leaves_the_other_alone() -> None:
    gpu, hanging, empty = SteadyMeter(1000.0, may_block=True), SlowDriver(), SlowDriver()
    good = SlowDriver(gpu)
    good.let.set()
    empty.let.set()
    sampler = Sampler([], drivers=[d.driver for d in (empty, hanging, good)])
    sampler.open_drivers(0.01)
    wait_until(lambda: sampler.meters == (gpu,))
    sampler.open("a")
    sampler.tick()
    account = sampler.close("a")
    sampler.shutdown()
    hanging.let.set()
    assert [part.component for part in account.components] == [Component.GPU]


def test_a_driver_that_never_opens_is_told_once_and_later_runs_do_not_wait_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    slow = SlowDriver()
    sampler = Sampler([SteadyMeter(50.0)], drivers=[slow.driver])
    sampler.open_drivers(0.01)
    with caplog.at_level(logging.WARNING):
        for name in ("a", "b", "c"):
            sampler.open(name)
            account = sampler.close(name)
            assert [part.component for part in account.unmeasured] == [Component.GPU]
            assert account.components[0].coverage == pytest.approx(1.0)
    assert [r.getMessage() for r in caplog.records] == [
        "energy is not measured at the moment: Slow GPU 0: Slow has not answered yet"
    ]
    sampler.shutdown()
    slow.let.set()


@pytest.mark.parametrize(
    ("fails", "reason"),
    [
        (OSError("no driver"), "Slow GPU 0: no driver"),
        (AttributeError("no such call"), "Slow: AttributeError: no such call"),
    ],
)
def test_a_driver_that_fails_late_leaves_its_reason(fails: Exception, reason: str) -> None:
    slow = SlowDriver(fails=fails)
    sampler = Sampler([SteadyMeter(50.0)], drivers=[slow.driver])
    sampler.open("a")
    slow.let.set()
    wait_until(lambda: [part.reason for part in sampler.unmeasured] == [reason])
    account = sampler.close("a")
    sampler.shutdown()
    assert [part.reason for part in account.unmeasured] == [reason]
    assert account.components[0].coverage == pytest.approx(1.0)


def test_a_module_that_answers_late_takes_the_place_of_the_processors_meter() -> None:
    processor = SteadyMeter(50.0)
    module = SteadyMeter(400.0, may_block=True, name="nvml:module")
    module.info = module.info._replace(
        component=Component.MODULE, contains=(Component.CPU, Component.DRAM)
    )
    slow = SlowDriver(module)
    sampler = Sampler([processor], drivers=[slow.driver], period_s=0.05)
    sampler.open("a")
    sampler.tick()
    assert [p.component for p in sampler.account("a").components] == [Component.CPU]
    slow.let.set()
    wait_until(lambda: module.readings > 2 and processor.closed)
    account = sampler.close("a")
    sampler.shutdown()
    assert [part.component for part in account.components] == [Component.MODULE]
    told_j, at_s = 0.0, 0.0
    for point in account.power:
        told_j, at_s = told_j + point.power_w * (point.at_s - at_s), point.at_s
    assert account.attributed_j is not None
    assert told_j == pytest.approx(account.attributed_j.mid, rel=1e-6)


def test_a_forked_child_opens_the_driver_that_its_parent_still_waits_for() -> None:
    gpu = SteadyMeter(1000.0, may_block=True, name="slow:0")
    slow = SlowDriver(gpu)
    sampler = Sampler([SteadyMeter(50.0)], drivers=[slow.driver])
    sampler.open("parent")

    def has_both() -> bool:
        sampler.after_fork()
        slow.let = threading.Event()
        slow.let.set()
        sampler.open("child")
        wait_until(lambda: gpu.readings > 0)
        sampler.tick()
        found = {part.component for part in sampler.close("child").components}
        return found == {Component.CPU, Component.GPU}

    assert holds_in_a_child(has_both)
    sampler.close("parent")
    sampler.shutdown()
    slow.let.set()


def test_a_meter_without_a_known_limit_that_answers_late_says_so_and_claims_no_bound() -> None:
    wall = SteadyMeter(300.0, may_block=True, name="wall:bmc")
    wall.info = wall.info._replace(component=Component.SYSTEM, max_power_w=None, tick_s=5.0)
    slow = SlowDriver(wall)
    sampler = Sampler([], drivers=[slow.driver], period_s=0.05)
    sampler.open("early")
    time.sleep(0.5)
    slow.let.set()
    wait_until(lambda: wall.readings > 2)
    sampler.open("later")
    sampler.tick()
    early, later = sampler.close("early"), sampler.close("later")
    sampler.shutdown()
    (missing,) = early.unmeasured
    assert (missing.component, later.unmeasured) == (Component.SYSTEM, ())
    assert "after the run began; how much it can draw is not known" in missing.reason
    assert early.coverage < 0.9


class Troublesome(logging.Handler):
    """What a program may do with a line of log: begin a run."""

    def __init__(self, sampler: Sampler) -> None:
        super().__init__(logging.WARNING)
        self.sampler, self.heard = sampler, 0

    def emit(self, record: logging.LogRecord) -> None:
        del record
        self.heard += 1
        self.sampler.open(f"from the log {self.heard}")


@pytest.mark.parametrize("gap", [False, True], ids=["a driver that hangs", "a meter in trouble"])
def test_a_log_handler_that_begins_a_run_does_not_hang(gap: bool) -> None:
    slow = SlowDriver()
    troubled = ScriptedMeter(lambda: Gap(time.monotonic_ns(), "permission denied"))
    sampler = Sampler([troubled] if gap else [], drivers=[] if gap else [slow.driver])
    handler = Troublesome(sampler)
    logger = logging.getLogger("mlflow_carbon")
    logger.addHandler(handler)
    try:
        sampler.open("a")
        done = threading.Thread(target=sampler.close, args=["a"], daemon=True)
        done.start()
        done.join(30)
        assert not done.is_alive()
        assert handler.heard == 1
    finally:
        logger.removeHandler(handler)
        sampler.shutdown()
        slow.let.set()
