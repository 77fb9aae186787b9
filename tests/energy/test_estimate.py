"""Models: a range, never a bare number, and only of what the process tree used."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlflow_carbon.energy.estimate import CpuModel, DramModel
from mlflow_carbon.energy.meter import Method, Reading
from mlflow_carbon.energy.proc import ProcessTree, Tree
from mlflow_carbon.energy.proc_psutil import PsutilTree
from mlflow_carbon.energy.processor import Processor, read_processor

CHIP = Processor(
    name="Test CPU",
    cpus=4,
    host_cpus=4,
    idle_w=(1.0, 2.0),
    full_w=(5.0, 7.0, 9.0),
    basis="a test",
)


class FixedTree:
    """Says what it is told."""

    def __init__(self) -> None:
        self.seconds, self.bytes = 0.0, (1e9, 2e9)

    def cpu_s(self) -> float:
        return self.seconds

    def memory_bytes(self) -> tuple[float, float]:
        return self.bytes

    def members(self) -> frozenset[int]:
        return frozenset()


def test_cpu_time_becomes_a_range_of_joules_of_this_process_tree(tmp_path: Path) -> None:
    tree = FixedTree()
    model = CpuModel(CHIP, tree, why="no RAPL", proc=tmp_path)
    model.read()
    tree.seconds = 10.0
    reading = model.read()
    assert isinstance(reading, Reading)
    assert reading.own_j is not None
    assert reading.own_j.low == pytest.approx(10 * (5.0 - 2.0))
    assert reading.own_j.mid == pytest.approx(10 * 7.0)
    assert reading.own_j.high >= 10 * 9.0
    assert model.info.method is Method.MODELLED
    assert "no RAPL" in model.info.describe


def test_memory_costs_by_what_is_resident_and_by_the_spread_of_published_models() -> None:
    model = DramModel(FixedTree(), 8e9)
    first = model.read()
    start = time.monotonic()
    while time.monotonic() == start:
        pass
    second = model.read()
    assert isinstance(first, Reading)
    assert isinstance(second, Reading)
    assert second.own_j is not None
    assert 0 < second.own_j.low < second.own_j.mid < second.own_j.high < second.energy_j.mid


@pytest.mark.parametrize("tree", [ProcessTree(), PsutilTree()], ids=["proc", "psutil"])
def test_the_cpu_time_of_children_counts(tree: Tree) -> None:
    before = tree.cpu_s()
    subprocess.run(
        [sys.executable, "-S", "-c", "import time\nwhile time.process_time() < 0.2: pass"],
        check=True,
    )
    assert tree.cpu_s() - before >= 0.15
    least, most = tree.memory_bytes()
    assert 1e6 < least <= most


def processor_of(root: Path, cpuinfo: str) -> Processor:
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(cpuinfo)
    return read_processor(root)


def test_a_virtual_machine_of_a_known_generation_gets_its_watts(tmp_path: Path) -> None:
    chip = processor_of(
        tmp_path,
        "vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n"
        "flags\t\t: fpu hypervisor\n",
    )
    assert "EPYC 4th Gen" in chip.basis
    assert 0.5 < chip.full_w[0] <= chip.full_w[1] <= chip.full_w[2] < 3


def test_a_processor_known_by_name_gets_its_rated_power(tmp_path: Path) -> None:
    chip = processor_of(
        tmp_path, "vendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 7203 8-Core Processor\n"
    )
    assert chip.basis == "rated power 120 W"
    assert chip.full_w[1] * chip.host_cpus == pytest.approx(120)


def test_an_unknown_processor_gets_the_spread_of_all_known_ones(tmp_path: Path) -> None:
    chip = processor_of(tmp_path, "model name\t: Frobnicator 9000\n")
    assert "all known" in chip.basis
    assert chip.full_w[2] > 4 * chip.full_w[0]


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "25000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.25),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "what\n"}, None),
    ],
)
def test_a_container_has_the_cpus_of_its_quota(
    tmp_path: Path, files: dict[str, str], cpus: float | None
) -> None:
    for name, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert processor_of(tmp_path, "model name\t: any\n").cpus == (cpus or free)


def test_a_child_that_comes_later_is_part_of_the_tree_with_all_its_time() -> None:
    tree = ProcessTree()
    before_s = tree.cpu_s()
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", "import time\nwhile time.process_time() < 0.3: pass\ninput()"],
        stdin=subprocess.PIPE,
    )
    try:
        while child.pid not in tree.members() or tree.cpu_s() - before_s < 0.25:
            time.sleep(0.05)
    finally:
        child.communicate(b"\n", timeout=60)
