"""A sensor at the wall: the parts and the rest of the machine add up to it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_carbon.energy.discover import discover
from mlflow_carbon.energy.meter import Component, Gap, Meter, Method, Unmeasured
from mlflow_carbon.energy.rapl import RaplZone, find_zones
from mlflow_carbon.energy.wall import WallSensor
from mlflow_carbon.settings import Settings
from tests.fakes.powercap import Powercap
from tests.fakes.simulate import Window, simulate


class Clock:
    """Simulated time that also moves the rig."""

    def __init__(self, *movers: Callable[[float], None]) -> None:
        self.now_ns, self._movers = 0, movers

    def set(self, t: float) -> None:
        self.now_ns = round(t * 1e9)
        for move in self._movers:
            move(t)

    def __call__(self) -> int:
        return self.now_ns


def test_the_package_and_the_rest_of_the_machine_add_up_to_the_wall(tmp_path: Path) -> None:
    tree = Powercap(tmp_path)
    tree.zone("intel-rapl:0", "package-0", lambda t: 150 * t)
    clock = Clock(tree.write)
    sensor = tmp_path / "power1_average"
    sensor.write_text("250000000\n")
    (zone,) = find_zones(tree.folder)
    meters: list[Meter] = [RaplZone(zone, clock=clock), WallSensor(sensor, clock)]
    account = simulate(meters, {"a": Window(1, 31)}, clock.set)["a"]
    meters[0].close()
    cpu, system = account.components
    assert (cpu.component, system.component) == (Component.CPU, Component.SYSTEM)
    assert system.method is Method.SAMPLED
    assert system.boundary_j.mid == pytest.approx(100 * 30, rel=0.01)
    assert account.boundary_j is not None
    assert account.boundary_j.mid == pytest.approx(250 * 30, rel=0.01)


def test_a_wall_that_shows_less_than_the_parts_leaves_no_negative_rest(tmp_path: Path) -> None:
    tree = Powercap(tmp_path)
    tree.zone("intel-rapl:0", "package-0", lambda t: 150 * t)
    clock = Clock(tree.write)
    sensor = tmp_path / "watts"
    sensor.write_text("140\n")
    (zone,) = find_zones(tree.folder)
    meters: list[Meter] = [RaplZone(zone, clock=clock), WallSensor(sensor, clock)]
    _, system = simulate(meters, {"a": Window(1, 11)}, clock.set)["a"].components
    meters[0].close()
    assert (system.boundary_j.low, system.boundary_j.mid) == (0, 0)
    assert system.boundary_j.high > 0


@pytest.mark.parametrize("content", ["", "many", "-3", "nan", "inf", "1e9"])
def test_what_is_no_power_is_refused_with_the_file_and_the_reason(
    tmp_path: Path, content: str
) -> None:
    sensor = tmp_path / "watts"
    sensor.write_text(content)
    with pytest.raises(OSError, match="watts"):
        WallSensor(sensor)


def test_a_file_that_nobody_writes_any_more_is_a_gap(tmp_path: Path) -> None:
    sensor = tmp_path / "watts"
    sensor.write_text("300\n")
    meter = WallSensor(sensor)
    long_ago = time.time() - 3600
    os.utime(sensor, (long_ago, long_ago))
    gap = meter.read()
    assert isinstance(gap, Gap)
    assert "not written for" in gap.reason


def test_the_setting_names_the_sensor_and_a_missing_one_is_told(tmp_path: Path) -> None:
    sensor = tmp_path / "watts"
    found = discover(Settings(wall_power_file=sensor), tmp_path)
    assert [part.component for part in found.unmeasured] == [Component.SYSTEM]
    assert isinstance(found.unmeasured[0], Unmeasured)
    assert "watts" in found.unmeasured[0].reason
    sensor.write_text("300\n")
    found = discover(Settings(wall_power_file=sensor), tmp_path)
    assert Component.SYSTEM in {meter.info.component for meter in found.meters}
