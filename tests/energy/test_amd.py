"""AMD GPUs: the real bindings over a library of ours; a counter is believed once it has agreed with the power."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_carbon.energy.amd import AmdSmi
from mlflow_carbon.energy.gpu import GpuMeter
from mlflow_carbon.energy.ledger import ComponentEnergy
from mlflow_carbon.energy.meter import Component, Method
from tests.fakes.amd import AmdRig
from tests.fakes.hosts import sampler_of
from tests.fakes.simulate import Window, simulate


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AmdRig]:
    """The bindings look for the library when they are imported, so once for all."""
    folder = tmp_path_factory.mktemp("rocm")
    rig = AmdRig(folder)
    before = os.environ.get("ROCM_PATH")
    os.environ["ROCM_PATH"] = str(folder)
    rig.play((300.0, 1.0, 300.0))
    AmdSmi()
    yield rig
    rig.play()
    del os.environ["ROCM_PATH"]
    if before is not None:
        os.environ["ROCM_PATH"] = before


@pytest.fixture
def rig(loaded: AmdRig) -> AmdRig:
    loaded.lose(False)
    return loaded


def measured(rig: AmdRig, *, seconds: float = 60.0) -> ComponentEnergy:
    rig.set(0.5)
    (device,) = AmdSmi().devices()
    meter = GpuMeter(device, rig.clock, trial=True)
    account = simulate([meter], {"a": Window(1.0, 1.0 + seconds)}, rig.set)["a"]
    assert account.components, account.unmeasured
    return account.components[0]


def test_a_counter_that_agrees_with_the_power_is_used_from_then_on(rig: AmdRig) -> None:
    rig.play((300.0, 1.0, 300.0))
    part = measured(rig)
    assert part.method is Method.COUNTER
    assert part.meters == ("AMD Instinct Rig (AMD SMI energy counter)",)
    assert part.attributed_j.mid == pytest.approx(300 * 60, rel=1e-3)
    assert part.readings < 120  # ten a second only while it is on trial


def test_a_counter_that_tells_too_little_is_not_believed_and_the_power_is(rig: AmdRig) -> None:
    rig.play((300.0, 0.06, 300.0))
    part = measured(rig)
    assert part.method is Method.SAMPLED
    assert "0.06 times as much" in part.meters[0]
    assert part.attributed_j.mid == pytest.approx(300 * 60, rel=1e-3)


def test_a_gpu_with_a_power_only_or_a_counter_only_is_measured_by_that(rig: AmdRig) -> None:
    rig.play((250.0, 0.0, 250.0))
    assert measured(rig).method is Method.SAMPLED
    rig.play((250.0, 1.0, 0.0))
    part = measured(rig)
    assert part.method is Method.COUNTER
    assert part.attributed_j.mid == pytest.approx(250 * 60, rel=1e-3)


def test_the_gpus_that_rocm_shows_are_found_and_a_second_die_that_tells_nothing_is_named(
    rig: AmdRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.play((500.0, 1.0, 500.0), (0.0, 0.0, 0.0), (300.0, 1.0, 300.0))
    rig.set(1.0)
    for number in range(3):
        device = tmp_path / f"sys/bus/pci/devices/0000:{number}5:00.0"
        device.mkdir(parents=True)
        (device / "class").write_text("0x120000\n")
        (device / "vendor").write_text("0x1002\n")
    found = sampler_of(tmp_path)
    gpus = [meter for meter in found.meters if meter.info.component is Component.GPU]
    assert len({gpu.info.id for gpu in gpus}) == 2
    (missing,) = found.unmeasured
    assert "of two dies on a board the first tells for both" in missing.reason
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "2")
    found = sampler_of(tmp_path)
    (gpu,) = (meter for meter in found.meters if meter.info.component is Component.GPU)
    assert gpu.info.id.startswith("amd:a0ff73d3")


def test_a_driver_that_stops_answering_is_a_gap_with_its_words(rig: AmdRig) -> None:
    rig.play((300.0, 1.0, 300.0))
    (device,) = AmdSmi().devices()
    meter = GpuMeter(device, rig.clock, trial=True)
    meter.read()
    rig.lose(True)
    assert "amdsmi_get_power_info" in getattr(meter.read(), "reason", "")
