"""What measuring costs is counted, once, and the program's own work is not."""

from __future__ import annotations

import time

from mlflow_carbon.energy.cost import counted, cpu_s
from mlflow_carbon.energy.meter import Gap, Reading
from mlflow_carbon.energy.sampler import Sampler
from mlflow_carbon.units import Range
from tests.fakes.meters import ScriptedMeter


def work(seconds: float) -> None:
    until_s = time.thread_time() + seconds
    while time.thread_time() < until_s:
        pass


def test_the_cost_of_readings_is_the_runs_and_the_work_of_the_program_is_not() -> None:
    readings = 0

    def costly() -> Reading | Gap:
        nonlocal readings
        readings += 1
        work(0.05)
        return Reading(time.monotonic_ns(), Range.exactly(readings))

    sampler = Sampler([ScriptedMeter(costly)], period_s=0.05)
    with counted():  # as in a hook: what it takes to open a run is part of the run
        sampler.open("a")
    while readings < 5:
        work(0.1)  # the program's
    work(0.5)
    with counted():
        account = sampler.close("a")
    sampler.shutdown()
    assert account.measuring_cpu_s is not None
    assert 0.05 * 5 <= account.measuring_cpu_s < 0.05 * readings + 0.3


def test_work_in_the_users_calls_is_counted_once_however_the_calls_are_nested() -> None:
    before_s = cpu_s()
    with counted():
        work(0.05)
        with counted():
            work(0.05)
        in_hand_s = cpu_s() - before_s
    work(0.3)
    assert 0.1 <= in_hand_s <= cpu_s() - before_s < 0.3
