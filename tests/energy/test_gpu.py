"""NVIDIA GPUs on the rig: exact on good days, labelled on bad ones, never silently wrong."""

from __future__ import annotations

import contextlib
import statistics
from pathlib import Path

import pytest

from mlflow_carbon.energy.gpu import GpuMeter
from mlflow_carbon.energy.ledger import ComponentEnergy
from mlflow_carbon.energy.meter import Component, Gap, Method, Reading
from mlflow_carbon.energy.nvml import Choice, Nvml, NvmlDevice, choose_gpus
from mlflow_carbon.units import Range
from tests.fakes.gpus import Gpu, Rig, nvidia_gpu
from tests.fakes.hosts import sampler_of
from tests.fakes.powercap import Powercap
from tests.fakes.simulate import Window, simulate

STEADY = Gpu(idle_w=300.0, peak_w=300.0)


class Counted:
    """The device, and how often its counter was read."""

    def __init__(self, device: NvmlDevice) -> None:
        self.board, self.ready, self.power_w = device.board, device.ready, device.power_w
        self._device, self.reads = device, 0

    def energy_j(self) -> float:
        self.reads += 1
        return self._device.energy_j()


def measured(rig: Rig, nvml: Nvml, start_s: float, end_s: float) -> ComponentEnergy:
    rig.set(start_s - 0.5)
    meter = nvidia_gpu(nvml, STEADY.uuid, rig.clock)
    account = simulate([meter], {"a": Window(start_s, end_s)}, rig.set)["a"]
    assert account.components, account.unmeasured
    return account.components[0]


def true_j(gpu: Gpu, start_s: float, end_s: float) -> float:
    return gpu.energy_j(end_s) - gpu.energy_j(start_s)


@pytest.mark.parametrize(
    ("window_s", "error"), [(1.0, 0.015), (5.0, 0.003), (60.0, 0.0005)], ids=str
)
def test_the_mean_error_of_a_bursty_load_stays_within_the_target(
    rig: Rig, nvml: Nvml, window_s: float, error: float
) -> None:
    gpu = Gpu()
    errors = []
    for step in range(60):
        start_s = 2 + step * 0.0517
        rig.play([gpu])
        energy_j = measured(rig, nvml, start_s, start_s + window_s).attributed_j.mid
        truth_j = true_j(gpu, start_s, start_s + window_s)
        errors.append(abs(energy_j - truth_j) / truth_j)
    assert statistics.mean(errors) <= error


@pytest.mark.parametrize("window_s", [0.02, 0.05, 0.1, 0.25])
def test_a_run_shorter_than_a_tick_has_a_figure_and_the_truth_is_in_its_range(
    rig: Rig, nvml: Nvml, window_s: float
) -> None:
    rig.play([STEADY])
    energy_j = measured(rig, nvml, 3.033, 3.033 + window_s).attributed_j
    assert energy_j.low <= 300 * window_s <= energy_j.high
    assert energy_j.mid > 0


def test_a_gpu_without_an_energy_counter_is_sampled_within_one_per_cent(
    rig: Rig, nvml: Nvml
) -> None:
    gpu = Gpu(counter=False)
    errors = []
    for step in range(200):  # the jitter is random: a mean over fewer windows can miss by chance
        rig.play([gpu])
        part = measured(rig, nvml, 2 + step * 0.07, 32 + step * 0.07)
        truth_j = true_j(gpu, 2 + step * 0.07, 32 + step * 0.07)
        errors.append(abs(part.attributed_j.mid - truth_j) / truth_j)
        assert part.method is Method.SAMPLED
        assert "no energy counter" in part.meters[0]
    assert statistics.mean(errors) <= 0.01


def test_a_counter_that_is_dear_to_read_is_polled_only_until_it_was_seen_to_tick(
    rig: Rig, nvml: Nvml
) -> None:
    """Reading it takes 4 ms of processor time (H200, driver 580)."""
    reads = []
    for step in range(20):
        start_s = 2 + step * 0.013
        rig.play([STEADY])
        rig.set(start_s - 0.5)
        device = NvmlDevice(nvml, STEADY.uuid)
        counter = Counted(device)
        simulate([GpuMeter(counter, rig.clock)], {"a": Window(start_s, start_s + 0.9)}, rig.set)
        reads.append(counter.reads)
    assert statistics.mean(reads) < 8
    assert max(reads) < 10


def test_an_outage_is_made_up_for_when_the_gpu_answers_again(rig: Rig, nvml: Nvml) -> None:
    rig.play([STEADY], "fault 0 denied 4 6")
    part = measured(rig, nvml, 2, 10)
    assert part.attributed_j.mid == pytest.approx(300 * 8, rel=0.001)
    assert part.coverage == pytest.approx(1, abs=0.01)
    assert part.largest_gap_s >= 2


def test_a_lost_gpu_leaves_the_rest_uncovered_and_the_truth_in_the_range(
    rig: Rig, nvml: Nvml
) -> None:
    rig.play([STEADY], "fault 0 lost 5 1e9")
    part = measured(rig, nvml, 2, 12)
    assert part.coverage < 0.4
    assert part.attributed_j.mid == pytest.approx(300 * 3, rel=0.35)
    assert part.attributed_j.low <= 300 * 10 <= part.attributed_j.high


def test_a_counter_that_is_set_back_loses_at_most_a_period_and_says_so(
    rig: Rig, nvml: Nvml
) -> None:
    rig.play([STEADY], "fault 0 reset 5.5 1e9")
    part = measured(rig, nvml, 2, 12)
    assert part.coverage < 0.95
    assert part.attributed_j.mid == pytest.approx(300 * 10, rel=0.05)
    assert part.attributed_j.low <= 300 * 10 <= part.attributed_j.high


def test_a_counter_that_jumps_by_a_megajoule_is_not_believed(rig: Rig, nvml: Nvml) -> None:
    rig.play([STEADY], "fault 0 jump 5.5 1e9 1e6")
    part = measured(rig, nvml, 2, 12)
    assert part.attributed_j.mid == pytest.approx(300 * 10, rel=0.05)
    assert part.coverage < 0.95


def test_a_stuck_counter_is_given_up_for_power_readings(rig: Rig, nvml: Nvml) -> None:
    rig.play([STEADY], "fault 0 stuck 5 1e9")
    part = measured(rig, nvml, 2, 32)
    assert part.method is Method.SAMPLED
    assert "stuck" in part.meters[0]
    assert part.attributed_j.low <= 300 * 30 <= part.attributed_j.high
    assert part.attributed_j.mid == pytest.approx(300 * 30, rel=0.12)


def test_a_counter_stuck_from_the_start_is_not_zero(rig: Rig, nvml: Nvml) -> None:
    rig.play([STEADY], "fault 0 stuck 0 1e9")
    part = measured(rig, nvml, 2, 32)
    assert part.attributed_j.mid == pytest.approx(300 * 30, rel=0.12)


def test_a_gpu_that_tells_nothing_cannot_be_opened_and_says_why(rig: Rig, nvml: Nvml) -> None:
    rig.play([Gpu(counter=False)], "fault 0 nopower 0 1e9")
    with pytest.raises(OSError, match="Not Supported"):
        nvidia_gpu(nvml, STEADY.uuid, rig.clock)


def test_every_refusal_of_the_driver_is_a_gap_with_its_words(rig: Rig, nvml: Nvml) -> None:
    rig.play([STEADY], "fault 0 lost 1 2", "fault 0 denied 2 3")
    meter = nvidia_gpu(nvml, STEADY.uuid, rig.clock)
    answers = []
    for t in (0.5, 1.5, 2.5, 3.5):
        rig.set(t)
        answers.append(meter.read())
    assert isinstance(answers[0], Reading)
    assert isinstance(answers[1], Gap)
    assert "GPU is lost" in answers[1].reason
    assert isinstance(answers[2], Gap)
    assert "Insufficient Permissions" in answers[2].reason
    assert isinstance(answers[3], Reading)
    assert answers[3].energy_j.mid == pytest.approx(900)


EIGHT = [Gpu(uuid=f"GPU-{n}a2b3c4d-0000-0000-0000-00000000000{n}") for n in range(8)]


@pytest.mark.parametrize(
    ("visible", "chosen"),
    [
        (None, [0, 1, 2, 3, 4, 5, 6, 7]),
        ("", []),
        ("-1", []),
        ("2", [2]),
        ("3, 1", [3, 1]),
        ("1,1", [1]),
        ("0,99,2", [0]),
        ("GPU-5a2b3c4d", [5]),
        ("gpu-6A2B", [6]),
        ("GPU-", []),
        ("NoDevFiles", []),
        (f"{EIGHT[7].uuid},0", [7, 0]),
    ],
)
def test_the_gpus_are_those_that_cuda_shows_to_the_process(
    rig: Rig, nvml: Nvml, visible: str | None, chosen: list[int]
) -> None:
    rig.play(EIGHT)
    assert [choice.uuid for choice in choose_gpus(nvml, visible)] == [EIGHT[n].uuid for n in chosen]


def test_a_mig_device_is_its_board_with_its_slices(rig: Rig, nvml: Nvml) -> None:
    gpu = Gpu(slices=3)
    rig.play([gpu])
    expected = Choice(gpu.uuid, reserved=True, slices=3)
    assert choose_gpus(nvml, gpu.mig_uuid) == [expected]
    assert choose_gpus(nvml, "0") == [expected]
    assert choose_gpus(nvml, "MIG-00000000-0000-0000-0000-00000000dead") == []
    assert choose_gpus(nvml, None) == [Choice(gpu.uuid, slices=3)]


def test_the_processor_inside_a_modules_sensor_is_not_counted_a_second_time(
    rig: Rig, nvml: Nvml, tmp_path: Path
) -> None:
    """A GH200 tells the power of the module only: GPU, processor and memory."""
    module = Gpu(idle_w=300.0, peak_w=300.0, module_w=150.0)
    rig.play([module])
    tree = Powercap(tmp_path)
    tree.zone("intel-rapl:0", "package-0", lambda t: 100 * t)
    found = sampler_of(tmp_path)
    assert {meter.info.component for meter in found.meters} == {Component.MODULE}
    assert {part.component for part in found.unmeasured} == {Component.CPU, Component.DRAM}
    assert all("module" in part.reason for part in found.unmeasured)
    part = measured(rig, nvml, 3.0, 33.0)
    assert part.component is Component.MODULE
    assert "processor and memory" in part.meters[0]
    assert part.attributed_j.mid == pytest.approx(450 * 30, rel=1e-3)


def test_a_modules_power_is_sampled_where_it_has_no_counter(rig: Rig, nvml: Nvml) -> None:
    rig.play([Gpu(idle_w=300.0, peak_w=300.0, module_w=150.0, counter=False)])
    part = measured(rig, nvml, 3.0, 13.0)
    assert (part.component, part.method) == (Component.MODULE, Method.SAMPLED)
    assert part.attributed_j.mid == pytest.approx(450 * 10, rel=1e-3)


def test_many_gpus_add_up(rig: Rig, nvml: Nvml) -> None:
    rig.play(EIGHT)
    rig.set(1.0)
    meters = [nvidia_gpu(nvml, gpu.uuid, rig.clock) for gpu in EIGHT]
    (part,) = simulate(meters, {"a": Window(2, 12)}, rig.set)["a"].components
    truth_j = sum(true_j(gpu, 2, 12) for gpu in EIGHT)
    assert part.component is Component.GPU
    assert part.attributed_j.mid == pytest.approx(truth_j, rel=0.005)
    assert part.attributed_j.low < truth_j < part.attributed_j.high


def test_two_overlapping_runs_on_a_gpu_add_up_to_the_gpu(rig: Rig, nvml: Nvml) -> None:
    rig.play([STEADY])
    rig.set(1.5)
    meter = nvidia_gpu(nvml, STEADY.uuid, rig.clock)
    windows = {"a": Window(2, 12), "b": Window(4.321, 12)}
    accounts = simulate([meter], windows, rig.set)
    totals = [account.attributed_j for account in accounts.values()]
    assert sum(total.mid for total in totals if isinstance(total, Range)) == pytest.approx(
        300 * 10, rel=0.001
    )


def test_a_library_shut_down_by_other_code_is_started_again(rig: Rig, nvml: Nvml) -> None:
    rig.play([STEADY])
    meter = nvidia_gpu(nvml, STEADY.uuid, rig.clock)
    rig.set(1.0)
    assert isinstance(meter.read(), Reading)
    shut_down = nvml.api.nvmlShutdown
    with contextlib.suppress(nvml.api.NVMLError):
        while True:
            shut_down()
    rig.set(2.0)
    gap = meter.read()
    assert isinstance(gap, Gap)
    assert "Uninitialized" in gap.reason
    rig.set(3.0)
    reading = meter.read()
    assert isinstance(reading, Reading)
    assert reading.energy_j.mid == pytest.approx(600)
