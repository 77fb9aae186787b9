"""From readings to joules between two moments."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.energy.integrate import Interval, Track
from mlflow_carbon.energy.meter import Component, Gap, MeterInfo, Method, Reading
from mlflow_carbon.units import Range

S = 1_000_000_000
RAPL = MeterInfo(
    id="rapl:package-0", component=Component.CPU, method=Method.COUNTER, describe="package-0"
)
GPU = MeterInfo(
    id="nvml:GPU-1",
    component=Component.GPU,
    method=Method.COUNTER,
    describe="GPU",
    tick_s=0.1,
    max_power_w=700.0,
    may_block=True,
)


def reading(at_s: float, energy_j: float, power_w: float | None = None) -> Reading:
    return Reading(int(at_s * S), Range.exactly(energy_j), power_w=power_w)


def mids(intervals: list[Interval | None]) -> float:
    return sum(interval.energy_j.mid for interval in intervals if interval is not None)


def test_a_counter_hands_out_exactly_what_it_counted() -> None:
    track = Track(RAPL, 0)
    intervals = [track.add(reading(t, 50.0 * t)) for t in (0.0, 1.0, 2.5, 3.0)]
    assert intervals[0] is None
    assert mids(intervals) == pytest.approx(150.0)


def test_an_outage_of_a_counter_is_made_up_for_when_it_returns() -> None:
    track = Track(RAPL, 0)
    first = track.add(reading(0, 0.0)), track.add(reading(1, 50.0))
    track.gap(Gap(2 * S, "Input/output error"))
    assert track.trouble == "Input/output error"
    last = track.add(reading(8, 400.0))
    assert mids([*first, last]) == pytest.approx(400.0)
    assert last is not None
    assert last.measured
    assert track.trouble is None


def test_what_a_reset_counter_lost_is_bridged_uncovered_and_wide() -> None:
    track = Track(RAPL, 0)
    track.add(reading(0, 0.0))
    track.add(reading(1, 50.0))
    track.gap(Gap(int(1.5 * S), "set back", lost=True))
    over = track.add(reading(2, 50.0))
    assert over is not None
    assert not over.measured
    assert over.energy_j.low == 0.0
    assert over.energy_j.high >= 50.0
    after = track.add(reading(3, 100.0))
    assert after is not None
    assert after.measured
    assert after.energy_j.mid <= 50.0  # what the bridge gave is taken off


def test_the_stretch_after_the_last_tick_is_bridged_with_the_power_the_device_tells() -> None:
    track = Track(GPU, 0)
    track.add(reading(0.0, 0.0, 300.0))
    track.add(reading(1.0, 290.0, 300.0))
    bridge = track.bridge(int(1.02 * S))
    assert bridge is not None
    assert bridge.measured
    seconds = 1.02 - 0.95  # the tick is on average half a tick older than the reading
    assert bridge.energy_j.mid == pytest.approx(300.0 * seconds)


def test_a_meter_that_went_silent_adds_to_the_upper_bound_only() -> None:
    track = Track(GPU, 0)
    track.add(reading(0.0, 0.0, 300.0))
    track.add(reading(1.0, 300.0, 300.0))
    bridge = track.bridge(60 * S)
    assert bridge is not None
    assert not bridge.measured
    assert bridge.energy_j.mid == 0.0
    assert bridge.energy_j.high == pytest.approx(700.0 * 59, rel=0.01)


def test_a_counter_renewed_more_often_than_was_thought_is_believed() -> None:
    track = Track(GPU, 0)
    handed = [track.add(reading(t, 300.0 * t)) for t in (0.0, 0.02, 0.04, 1.0, 2.0)]
    last = track.bridge(2 * S)
    assert mids([*handed, last]) == pytest.approx(600.0, abs=300.0 * 0.05)


def test_nothing_is_bridged_before_the_first_reading() -> None:
    assert Track(RAPL, 0).bridge(S) is None


@given(
    steps=st.lists(
        st.tuples(
            st.floats(0.001, 5.0),
            st.floats(0.0, 1000.0),
            st.sampled_from(["read", "bridge", "gap", "lost"]),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_whatever_happens_the_intervals_are_gapless_and_add_up(
    steps: list[tuple[float, float, str]],
) -> None:
    track, now_s, energy_j = Track(GPU, 0), 0.0, 0.0
    handed: list[Interval] = []
    track.add(reading(0.0, 0.0))
    for span_s, used_j, kind in steps:
        now_s += span_s
        energy_j += used_j
        if kind in {"gap", "lost"}:
            track.gap(Gap(int(now_s * S), kind, lost=kind == "lost"))
            continue
        interval = (
            track.bridge(int(now_s * S))
            if kind == "bridge"
            else track.add(reading(now_s, energy_j))
        )
        if interval is not None:
            handed.append(interval)
    for before, after in pairwise(handed):
        assert before.to_ns == after.from_ns
    for interval in handed:
        assert 0 <= interval.energy_j.low <= interval.energy_j.mid <= interval.energy_j.high
        assert interval.from_ns < interval.to_ns
    if handed:
        assert handed[-1].to_ns == track.at_ns
    if all(kind in {"read", "gap"} for *_, kind in steps) and steps[-1][2] == "read" and handed:
        assert sum(i.energy_j.mid for i in handed) == pytest.approx(energy_j)
