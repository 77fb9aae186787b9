"""Apple silicon on any machine: what the chip's counters are made into. The library itself is not run here."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mlflow_carbon.energy.apple import open_counters
from mlflow_carbon.energy.meter import Component, Gap, Reading


class Chip:
    """As ``AppleEnergyMonitor``: millijoules since it was made; parts it lacks are ``None``."""

    def __init__(self, **watts: float | None) -> None:
        self.watts, self.now_s, self.broken = watts, 0.0, False

    def get_cumulative_energy(self) -> SimpleNamespace:
        if self.broken:
            raise RuntimeError("no samples")
        counted = {
            field: None if watts is None else int(watts * self.now_s * 1000)
            for field, watts in self.watts.items()
        }
        return SimpleNamespace(**counted)

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds

    def clock(self) -> int:
        return int(self.now_s * 1e9)


def test_each_part_the_chip_tells_is_a_meter_and_the_neural_engine_goes_with_the_gpu() -> None:
    chip = Chip(cpu_total_mj=5.0, gpu_mj=2.0, gpu_sram_mj=0.5, ane_mj=None, dram_mj=None)
    meters = open_counters(chip, chip.clock, lambda: chip.pass_s(0.1))
    assert [meter.info.component for meter in meters] == [Component.CPU, Component.GPU]
    chip.pass_s(9.9)
    joules = [reading.energy_j.mid for m in meters if isinstance(reading := m.read(), Reading)]
    assert joules == [pytest.approx(50.0), pytest.approx(25.0)]
    assert all("estimates" in meter.info.sensor_note for meter in meters)


@pytest.mark.parametrize(
    ("watts", "says"),
    [({"cpu_total_mj": 0.0}, "does not count"), ({"cpu_total_mj": None}, "does not tell")],
)
def test_a_processor_counter_that_does_not_count_our_own_work_is_not_believed(
    watts: dict[str, float | None], says: str
) -> None:
    chip = Chip(**watts)
    with pytest.raises(OSError, match=says):
        open_counters(chip, chip.clock, lambda: chip.pass_s(0.1))


def test_a_counter_that_fails_is_set_back_or_stands_still_is_a_gap_with_the_reason() -> None:
    chip = Chip(cpu_total_mj=5.0)
    (meter,) = open_counters(chip, chip.clock, lambda: chip.pass_s(0.1))
    chip.broken = True
    assert getattr(meter.read(), "reason", "") == "IOReport: no samples"
    chip.broken = False
    chip.watts["cpu_total_mj"] = 1.0
    back = meter.read()
    assert isinstance(back, Gap)
    assert back.lost
    chip.watts["cpu_total_mj"] = 0.0
    meter.read()
    chip.pass_s(60)
    assert "stuck" in getattr(meter.read(), "reason", "")
