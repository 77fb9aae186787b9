"""psys has the packages in it: it is never added up, and tells when they count more than it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_carbon.energy.ledger import ComponentEnergy
from mlflow_carbon.energy.psys import checked
from mlflow_carbon.energy.rapl import RaplZone, find_zones
from tests.fakes.powercap import Powercap
from tests.fakes.simulate import Window, simulate


def cpu_beside(folder: Path, platform_w: float) -> ComponentEnergy:
    """Two packages of 100 and 50 W and a platform that counts ``platform_w``, for a minute."""
    now_ns = 0
    tree = Powercap(folder)
    tree.zone("intel-rapl:0", "package-0", lambda t: 100 * t)
    tree.zone("intel-rapl:1", "package-1", lambda t: 50 * t)
    tree.zone("intel-rapl:2", "psys", lambda t: platform_w * t)

    def set_time(t: float) -> None:
        nonlocal now_ns
        now_ns = round(t * 1e9)
        tree.write(t)

    counters = [RaplZone(zone, clock=lambda: now_ns) for zone in find_zones(tree.folder)]
    meters = checked(counters, tree.folder, lambda: now_ns)
    (cpu,) = simulate(meters, {"a": Window(1, 61)}, set_time)["a"].components
    for meter in meters:
        meter.close()
    return cpu


@pytest.mark.parametrize("platform_w", [300, 151, 140])
def test_a_platform_that_counts_its_packages_or_more_changes_nothing(
    tmp_path: Path, platform_w: float
) -> None:
    cpu = cpu_beside(tmp_path, platform_w)
    assert cpu.attributed_j.mid == pytest.approx(150 * 60, rel=0.001)
    assert cpu.attributed_j.low == pytest.approx(150 * 60 * 0.95, rel=0.01)
    assert not any("psys" in told for told in cpu.meters)


def test_packages_that_count_more_than_the_platform_are_told_and_the_range_holds_both(
    tmp_path: Path,
) -> None:
    cpu = cpu_beside(tmp_path, 90)
    assert cpu.attributed_j.mid == pytest.approx(150 * 60, rel=0.001)
    assert cpu.attributed_j.low == pytest.approx(90 * 60, rel=0.02)
    assert all(
        "psys, which has the packages in it, counted 40% less than they did" in told
        for told in cpu.meters
    )


def test_without_a_platform_counter_the_meters_stay_as_they_are(tmp_path: Path) -> None:
    tree = Powercap(tmp_path)
    tree.zone("intel-rapl:0", "package-0", lambda t: 100 * t)
    counters = [RaplZone(zone) for zone in find_zones(tree.folder)]
    assert checked(counters, tree.folder) == counters
    counters[0].close()
