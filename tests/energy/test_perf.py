"""RAPL by perf events, checked with an event that every kernel counts: the CPU clock, in nanoseconds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mlflow_carbon.energy.meter import Component, Gap, Reading
from mlflow_carbon.energy.perf import PerfCounter, open_counters
from tests.fakes.hosts import sampler_of

SOFTWARE = "1\n"
"""PERF_TYPE_SOFTWARE, whose event 0 is the CPU clock (include/uapi/linux/perf_event.h)."""


def power_events(root: Path, *, kind: str = SOFTWARE, cpus: str = "0\n") -> None:
    """An event source as the kernel shows RAPL's; a joule is a second of the clock."""
    pmu = root / "sys/bus/event_source/devices/power"
    (pmu / "events").mkdir(parents=True)
    (pmu / "type").write_text(kind)
    (pmu / "cpumask").write_text(cpus)
    for event in ("energy-pkg", "energy-ram", "energy-psys"):
        (pmu / "events" / event).write_text("event=0x00\n")
        (pmu / "events" / f"{event}.scale").write_text("1e-9\n")
        (pmu / "events" / f"{event}.unit").write_text("Joules\n")
    topology = root / "sys/devices/system/cpu/cpu0/topology"
    topology.mkdir(parents=True)
    (topology / "physical_package_id").write_text("0\n")


def counters(root: Path) -> list[PerfCounter] | str:
    """The counters; the kernel's refusal where this process may not count a whole CPU."""
    try:
        return open_counters(root, error=0.05, note="a test")
    except OSError as error:
        return str(error)


def test_the_counters_of_package_and_memory_run_and_psys_is_left_out(tmp_path: Path) -> None:
    power_events(tmp_path)
    opened = counters(tmp_path)
    if isinstance(opened, str):
        assert "perf_event_open" in opened
        return
    names = {counter.info.id: counter.info.component for counter in opened}
    assert names == {"rapl:package-0": Component.CPU, "rapl:package-0/dram": Component.DRAM}
    first, began = opened[0].read(), time.monotonic()
    while time.monotonic() - began < 0.05:
        pass
    second = opened[0].read()
    for counter in opened:
        counter.close()
    assert isinstance(first, Reading)
    assert isinstance(second, Reading)
    grown_j = second.energy_j.mid - first.energy_j.mid
    assert grown_j == pytest.approx((second.at_ns - first.at_ns) / 1e9, rel=0.2)
    assert isinstance(opened[0].read(), Gap)


@pytest.mark.parametrize(
    ("kind", "cpus", "words"),
    [
        ("not a number\n", "0\n", "invalid literal"),
        ("4294967295\n", "0\n", "perf_event_open|no RAPL events"),
        (SOFTWARE, "99999\n", "cpu99999"),
    ],
    ids=["type", "event", "cpu"],
)
def test_an_event_source_that_cannot_be_used_says_why(
    tmp_path: Path, kind: str, cpus: str, words: str
) -> None:
    power_events(tmp_path, kind=kind, cpus=cpus)
    with pytest.raises(OSError, match=words):
        open_counters(tmp_path, error=0.05, note="a test")


def test_a_host_without_permission_for_events_falls_back_to_the_next_best(tmp_path: Path) -> None:
    power_events(tmp_path, kind="4294967295\n")
    found = sampler_of(tmp_path)
    assert {meter.info.id for meter in found.meters} >= {"model:cpu", "model:dram"}
