"""Whose joules: this process tree's part of what a shared device used."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.energy.attribution import Attributed, CpuShare, FixedShare, GpuShare
from mlflow_carbon.energy.gpu import GpuMeter
from mlflow_carbon.energy.ledger import ComponentEnergy
from mlflow_carbon.energy.meter import Method, Reading
from mlflow_carbon.energy.nvml import Nvml, NvmlDevice
from mlflow_carbon.energy.rapl import RaplZone, find_zones
from mlflow_carbon.units import Range
from tests.fakes.gpus import Gpu, Rig, nvidia_gpu
from tests.fakes.meters import ScriptedMeter, ToldShare
from tests.fakes.powercap import Powercap
from tests.fakes.simulate import Window, simulate


@dataclass
class Host:
    """A machine in simulated time: a package, what we use of its CPUs and what a neighbour uses."""

    root: Path
    package_w: float = 100.0
    ours: float = 1.0
    neighbours: float = 0.0
    now_s: float = 0.0
    tree: Powercap = field(init=False)

    def __post_init__(self) -> None:
        self.tree = Powercap(self.root)
        self.tree.zone("intel-rapl:0", "package-0", lambda t: self.package_w * t)
        (self.root / "proc").mkdir()
        self.set(0.0)

    def set(self, t: float) -> None:
        self.now_s = t
        self.tree.write(t)
        busy = int((self.ours + self.neighbours) * t * 100)
        (self.root / "proc/stat").write_text(f"cpu  {busy} 0 0 999 0 0 0 0 0 0\n")

    def clock(self) -> int:
        return round(self.now_s * 1e9)

    # What the share asks of a process tree.

    def cpu_s(self) -> float:
        return int(self.ours * self.now_s * 100) / 100

    def memory_bytes(self) -> tuple[float, float]:
        return 0.0, 0.0

    def members(self) -> frozenset[int]:
        return frozenset({7})


def cpu_of(host: Host, end_s: float = 20.0) -> ComponentEnergy:
    (zone,) = find_zones(host.tree.folder)
    package = RaplZone(zone, clock=host.clock)
    meter = Attributed(package, CpuShare(host, host.root / "proc"))
    (part,) = simulate([meter], {"a": Window(1, end_s)}, host.set)["a"].components
    meter.close()
    return part


def test_a_noisy_neighbour_with_half_of_the_cpu_time_bears_half_of_the_energy(
    tmp_path: Path,
) -> None:
    part = cpu_of(Host(tmp_path, ours=2.0, neighbours=2.0))
    assert part.attributed_j.mid == pytest.approx(100 * 19 / 2, rel=0.05)
    assert part.boundary_j.mid == pytest.approx(100 * 19, rel=0.01)


def test_alone_on_the_machine_the_run_bears_all_of_it(tmp_path: Path) -> None:
    part = cpu_of(Host(tmp_path, ours=3.0))
    assert part.attributed_j.mid == pytest.approx(100 * 19, rel=0.02)


def test_a_run_that_sleeps_bears_next_to_nothing_of_a_busy_machine(tmp_path: Path) -> None:
    part = cpu_of(Host(tmp_path, ours=0.0, neighbours=4.0))
    assert part.attributed_j.mid < 0.05 * 100 * 19
    assert part.attributed_j.low == pytest.approx(0, abs=1e-6)
    assert part.boundary_j.mid == pytest.approx(100 * 19, rel=0.01)


def test_without_the_machines_cpu_time_the_whole_package_is_ours(tmp_path: Path) -> None:
    host = Host(tmp_path, ours=1.0, neighbours=1.0)
    meter = Attributed(RaplZone(find_zones(host.tree.folder)[0]), CpuShare(host, tmp_path / "no"))
    meter.read()
    reading = meter.read()
    meter.close()
    assert isinstance(reading, Reading)
    assert reading.own_j == reading.energy_j


@dataclass
class Members:
    """A process tree with these process ids."""

    pids: frozenset[int]

    def cpu_s(self) -> float:
        return 0.0

    def memory_bytes(self) -> tuple[float, float]:
        return 0.0, 0.0

    def members(self) -> frozenset[int]:
        return self.pids


OURS = Members(frozenset({7, 8}))


@pytest.mark.parametrize(
    ("use", "reserved", "share"),
    [
        ({}, True, Range(1, 1, 1)),
        ({}, False, Range(0, 0, 1)),
        ({7: 50}, False, Range(1, 1, 1)),
        ({7: 50, 8: 10}, False, Range(1, 1, 1)),
        ({99: 50}, True, Range(0, 0, 0)),
        ({7: 30, 99: 10}, False, Range(0.65, 0.75, 0.85)),
        ({7: 99, 99: 0}, False, Range(0.9, 1, 1)),
        ({7: 0, 99: 0}, False, Range(0, 0.5, 1)),
        (None, False, Range(1, 1, 1)),
    ],
)
def test_a_gpu_is_shared_by_who_uses_it(
    use: dict[int, int] | None, reserved: bool, share: Range
) -> None:
    found = GpuShare(lambda: use, OURS, reserved=reserved, trusted=True).since_last(0)
    assert (found.low, found.mid, found.high) == pytest.approx((share.low, share.mid, share.high))


def test_in_a_container_with_ids_of_its_own_the_gpus_it_was_given_are_ours() -> None:
    share = GpuShare(lambda: {12345: 50}, OURS, reserved=False, trusted=False)
    assert share.since_last(0) == Range(1, 1, 1)


@pytest.mark.parametrize(("ours", "others"), [(30, 10), (10, 30), (50, 50)])
def test_on_the_rig_the_driver_tells_who_used_the_gpu(
    rig: Rig, nvml: Nvml, ours: int, others: int
) -> None:
    gpu = Gpu(idle_w=300, peak_w=300)
    rig.play([gpu], f"proc 0 7 {ours}", f"proc 0 99 {others}")
    device = NvmlDevice(nvml, gpu.uuid)
    meter = GpuMeter(device, rig.clock)
    shared = Attributed(meter, GpuShare(device.processes, OURS, reserved=False, trusted=True))
    (part,) = simulate([shared], {"a": Window(2, 12)}, rig.set)["a"].components
    share = ours / (ours + others)
    assert part.attributed_j.mid == pytest.approx(3000 * share, rel=0.02)
    assert part.attributed_j.low < 3000 * share < part.attributed_j.high
    assert part.boundary_j.mid == pytest.approx(3000, rel=0.005)


def test_a_neighbour_on_the_gpu_bears_its_part_while_it_is_there_and_none_before_or_after(
    rig: Rig, nvml: Nvml
) -> None:
    gpu = Gpu(idle_w=300, peak_w=300)
    rig.play([gpu], "proc 0 7 50", "proc 0 99 50 5.5 11.5")
    device = NvmlDevice(nvml, gpu.uuid)
    meter = GpuMeter(device, rig.clock)
    shared = Attributed(meter, GpuShare(device.processes, OURS, reserved=False, trusted=True))
    (part,) = simulate([shared], {"a": Window(2, 22)}, rig.set)["a"].components
    assert part.attributed_j.mid == pytest.approx(300 * 14 + 150 * 6, rel=0.03)


def test_a_mig_part_is_called_modelled_and_its_range_is_the_whole_board(
    rig: Rig, nvml: Nvml
) -> None:
    gpu = Gpu(idle_w=300, peak_w=300, slices=3)
    rig.play([gpu])
    share = FixedShare(Range(0.0, 3 / 7, 1.0))
    meter = Attributed(nvidia_gpu(nvml, gpu.uuid, rig.clock), share, modelled="MIG: 3 of 7 slices")
    (part,) = simulate([meter], {"a": Window(2, 12)}, rig.set)["a"].components
    assert part.method is Method.MODELLED
    assert "3 of 7 slices" in part.meters[0]
    assert part.attributed_j.mid == pytest.approx(3000 * 3 / 7, rel=0.02)
    assert part.attributed_j.high >= 3000


@given(
    steps=st.lists(
        st.tuples(st.floats(0.02, 5), st.floats(0, 5000), st.floats(0, 1)), min_size=1, max_size=30
    )
)
def test_ours_is_never_more_than_the_whole_bound_by_bound(
    steps: list[tuple[float, float, float]],
) -> None:
    now_s = energy_j = 0.0
    share = Range.exactly(0.0)
    device = ScriptedMeter(lambda: Reading(round(now_s * 1e9), Range.exactly(energy_j)))
    meter = Attributed(device, ToldShare(lambda: share))
    for seconds, joules, part in steps:
        now_s, energy_j = now_s + seconds, energy_j + joules
        share = Range(part * 0.9, part, min(1.0, part * 1.1))
        answer = meter.read()
        assert isinstance(answer, Reading)
        assert answer.own_j is not None
        assert 0 <= answer.own_j.low <= answer.own_j.mid <= answer.own_j.high
        assert answer.own_j.high <= energy_j * (1 + 1e-9)
