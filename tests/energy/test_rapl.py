"""RAPL counters: each package once with its memory, through wraps, resets and outages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlflow_carbon.energy.meter import Component, Gap, Reading
from mlflow_carbon.energy.rapl import RaplZone, find_zones
from tests.fakes.powercap import Powercap


def two_sockets(root: Path) -> Powercap:
    tree = Powercap(root)
    tree.zone("intel-rapl:0", "package-0", lambda t: 100 * t)
    tree.zone("intel-rapl:0/intel-rapl:0:0", "core", lambda t: 60 * t)
    tree.zone("intel-rapl:0/intel-rapl:0:1", "dram", lambda t: 10 * t)
    tree.zone("intel-rapl:1", "package-1", lambda t: 90 * t)
    tree.zone("intel-rapl:1/intel-rapl:1:0", "dram", lambda t: 12 * t)
    tree.zone("intel-rapl:2", "psys", lambda t: 300 * t)
    tree.zone("intel-rapl-mmio:0", "package-0", lambda t: 100 * t)
    return tree


@pytest.fixture
def opened() -> Iterator[Callable[[Powercap], list[RaplZone]]]:
    """Opens the zones of a tree, and closes them in the end."""
    meters: list[RaplZone] = []

    def of(tree: Powercap) -> list[RaplZone]:
        meters.extend(RaplZone(zone) for zone in find_zones(tree.folder))
        return meters

    yield of
    for meter in meters:
        meter.close()


Opened = Callable[[Powercap], list[RaplZone]]


def joules(meter: RaplZone) -> float:
    reading = meter.read()
    assert isinstance(reading, Reading), reading
    return reading.energy_j.mid


def test_packages_and_their_memory_count_once_and_psys_core_and_mirrors_do_not(
    tmp_path: Path,
) -> None:
    tree = two_sockets(tmp_path)
    zones = find_zones(tree.folder)
    assert [(zone.name, zone.component) for zone in zones] == [
        ("package-0", Component.CPU),
        ("package-0/dram", Component.DRAM),
        ("package-1", Component.CPU),
        ("package-1/dram", Component.DRAM),
    ]


def test_the_readings_are_the_joules_since_opening(tmp_path: Path, opened: Opened) -> None:
    tree = two_sockets(tmp_path)
    meters = opened(tree)
    tree.write(0.005)
    assert [joules(meter) for meter in meters] == pytest.approx([0.5, 0.05, 0.45, 0.06])


def test_a_counter_that_wraps_goes_on(tmp_path: Path, opened: Opened) -> None:
    tree = Powercap(tmp_path)
    tree.zone("intel-rapl:0", "package-0", lambda t: 1999.9 + t, range_uj=2_000_000_000)
    (meter,) = opened(tree)
    tree.write(0.5)
    assert joules(meter) == pytest.approx(0.5)


def test_a_counter_that_is_set_back_is_a_loss_and_not_a_quarter_of_a_megajoule(
    tmp_path: Path,
    opened: Opened,
) -> None:
    tree = Powercap(tmp_path)
    tree.zone("intel-rapl:0", "package-0", lambda t: 5000.0 if t == 0 else t)
    (meter,) = opened(tree)
    tree.write(1.0)
    gap = meter.read()
    assert isinstance(gap, Gap)
    assert gap.lost
    tree.write(1.5)
    assert joules(meter) == pytest.approx(0.5)


def test_a_counter_that_cannot_be_read_for_a_while_is_a_gap_and_then_makes_up(
    tmp_path: Path,
    opened: Opened,
) -> None:
    tree = Powercap(tmp_path)
    path = tree.zone("intel-rapl:0", "package-0", lambda t: t)
    (meter,) = opened(tree)
    (path / "energy_uj").write_text("")
    gap = meter.read()
    assert isinstance(gap, Gap)
    assert not gap.lost
    (path / "energy_uj").write_text("750000\n")
    assert joules(meter) == pytest.approx(0.75)


def test_a_closed_counter_is_a_gap(tmp_path: Path, opened: Opened) -> None:
    tree = two_sockets(tmp_path)
    meter = opened(tree)[0]
    meter.close()
    assert isinstance(meter.read(), Gap)


def test_a_zone_without_a_counter_cannot_be_opened_and_says_which_file(tmp_path: Path) -> None:
    tree = two_sockets(tmp_path)
    zone = find_zones(tree.folder)[0]
    (zone.path / "energy_uj").unlink()
    with pytest.raises(OSError, match="energy_uj"):
        RaplZone(zone)


def test_dies_that_mirror_their_package_count_once_and_real_dies_each(
    tmp_path: Path, opened: Opened
) -> None:
    tree = Powercap(tmp_path)
    tree.zone("intel-rapl:0", "package-0-die-0", lambda t: 50_000 + 200 * t)
    tree.zone("intel-rapl:1", "package-0-die-1", lambda t: 50_000.4 + 200 * t)
    tree.zone("intel-rapl:2", "package-1-die-0", lambda t: 50_000 + 100 * t)
    tree.zone("intel-rapl:3", "package-1-die-1", lambda t: 47_000 + 100 * t)
    assert [zone.name for zone in find_zones(tree.folder)] == [
        "package-0-die-0",
        "package-1-die-0",
        "package-1-die-1",
    ]
    meters = opened(tree)
    tree.write(0.005)
    assert sum(joules(meter) for meter in meters) == pytest.approx(2.0)
