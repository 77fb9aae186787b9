"""What can be measured on a host, and the reason for what cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow_carbon.energy.discover import discover
from mlflow_carbon.energy.meter import Component, Method
from mlflow_carbon.energy.sampler import Sampler
from mlflow_carbon.settings import Settings
from tests.fakes.hosts import sampler_of
from tests.fakes.powercap import Powercap


@contextmanager
def discovered(root: Path) -> Iterator[Sampler]:
    sampler = sampler_of(root)
    yield sampler
    sampler.shutdown()


def test_a_host_with_nothing_to_read_is_modelled_and_says_why(tmp_path: Path) -> None:
    with discovered(tmp_path) as found:
        assert {meter.info.component for meter in found.meters} >= {Component.CPU, Component.DRAM}
        (cpu,) = (meter for meter in found.meters if meter.info.component is Component.CPU)
        assert cpu.info.method is Method.MODELLED
        assert "no RAPL counters on this host" in cpu.info.describe
    assert "GB memory" in discover(Settings(), tmp_path).host


def test_counters_replace_the_models_they_cover(tmp_path: Path) -> None:
    tree = Powercap(tmp_path)
    tree.zone("intel-rapl:0", "package-0", lambda t: t)
    tree.zone("intel-rapl:0/intel-rapl:0:0", "dram", lambda t: t)
    with discovered(tmp_path) as found:
        ids = {meter.info.id for meter in found.meters}
        assert {"rapl:package-0", "rapl:package-0/dram"} <= ids
        assert not any(meter_id.startswith("model:") for meter_id in ids)


def test_a_package_that_cannot_be_read_makes_the_processor_modelled(tmp_path: Path) -> None:
    tree = Powercap(tmp_path)
    tree.zone("intel-rapl:0", "package-0", lambda t: t)
    path = tree.zone("intel-rapl:1", "package-1", lambda t: t)
    (path / "energy_uj").unlink()
    with discovered(tmp_path) as found:
        (cpu,) = (meter for meter in found.meters if meter.info.component is Component.CPU)
        assert cpu.info.method is Method.MODELLED
        assert "root only" in cpu.info.describe
        assert "package" not in cpu.info.id


def test_a_gpu_without_a_driver_is_named_and_not_left_out(tmp_path: Path) -> None:
    device = tmp_path / "sys/bus/pci/devices/0000:65:00.0"
    device.mkdir(parents=True)
    (device / "class").write_text("0x030000\n")
    (device / "vendor").write_text("0x1002\n")
    with discovered(tmp_path) as found:
        (missing,) = found.unmeasured
    assert missing.component is Component.GPU
    assert "0000:65:00.0" in missing.reason


def test_a_run_on_this_host_has_an_energy_with_a_range() -> None:
    sampler = sampler_of(Path("/"))
    sampler.open("a")
    sum(range(100_000))
    total = sampler.close("a").attributed_j
    sampler.shutdown()
    assert total is not None
    assert total.high > 0
