"""Joules by the hour of the day: nothing lost, nothing invented, each in its hour."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.carbon.hourly import energy_by_hour, hour_of

OPENED = datetime(2026, 11, 23, 10, 30, tzinfo=timezone.utc)


def test_each_stretch_counts_in_the_hours_it_lasted() -> None:
    # Half an hour at 100 W, then an hour at 50 W: 10:30 to 12:00.
    hours = energy_by_hour(OPENED, [(1800.0, 100.0), (5400.0, 50.0)], 360_000.0)
    assert [(hour.start.hour, hour.energy_j) for hour in hours] == [
        (10, pytest.approx(180_000.0)),
        (11, pytest.approx(180_000.0)),
    ]


def test_hours_are_those_of_utc() -> None:
    india = OPENED.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert hour_of(india) == datetime(2026, 11, 23, 10, tzinfo=timezone.utc)


def test_without_a_power_series_all_counts_in_the_first_hour() -> None:
    (hour,) = energy_by_hour(OPENED, [], 5.0)
    assert (hour.start.hour, hour.energy_j) == (10, 5.0)


def test_a_series_that_shows_no_power_is_shared_by_time() -> None:
    hours = energy_by_hour(OPENED, [(3600.0, 0.0)], 10.0)
    assert [hour.energy_j for hour in hours] == [5.0, 5.0]


STRETCHES = st.lists(
    st.tuples(st.floats(0.001, 50_000), st.floats(0, 1000)), min_size=1, max_size=20
)


@given(STRETCHES, st.floats(0, 1e9), st.integers(0, 10**9))
def test_the_hours_add_up_to_the_whole(
    stretches: list[tuple[float, float]], total_j: float, later_s: int
) -> None:
    ends, at_s = [], 0.0
    for length_s, watts in stretches:
        at_s += length_s
        ends.append((at_s, watts))
    hours = energy_by_hour(OPENED + timedelta(seconds=later_s), ends, total_j)
    assert sum(hour.energy_j for hour in hours) == pytest.approx(total_j)
    assert all(hour.energy_j >= 0 for hour in hours)
    assert [hour.start for hour in hours] == sorted({hour.start for hour in hours})
