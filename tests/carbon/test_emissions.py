"""Energy times factor, with both uncertainties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.carbon.emissions import emissions_g, product
from mlflow_carbon.carbon.intensity import factor_for
from mlflow_carbon.carbon.region import parse_region
from mlflow_carbon.units import Range

FRANCE = factor_for(parse_region("FR"))
AMOUNT = st.floats(0, 1e12, allow_nan=False)


@st.composite
def ranges(draw: st.DrawFn) -> Range:
    return Range(*sorted((draw(AMOUNT), draw(AMOUNT), draw(AMOUNT))))


def test_one_kilowatt_hour_is_the_factor_itself() -> None:
    result = emissions_g(Range.exactly(3_600_000.0), FRANCE)
    assert result.mid == pytest.approx(FRANCE.g_per_kwh.mid)
    assert result.low == pytest.approx(FRANCE.g_per_kwh.low)
    assert result.high == pytest.approx(FRANCE.g_per_kwh.high)


def test_no_energy_is_no_emissions() -> None:
    assert emissions_g(Range.exactly(0.0), FRANCE) == Range.exactly(0.0)


def test_an_energy_whose_middle_is_zero_keeps_its_upper_bound() -> None:
    result = emissions_g(Range(0.0, 0.0, 7_200_000.0), FRANCE)
    assert result.high == pytest.approx(2 * FRANCE.g_per_kwh.high)


def test_independent_errors_add_in_quadrature() -> None:
    result = product(Range(70.0, 100.0, 130.0), Range(6.0, 10.0, 14.0))
    assert result.low == pytest.approx(500.0)  # sqrt(0.3^2 + 0.4^2) = 0.5
    assert result.high == pytest.approx(1500.0)


@given(ranges(), ranges())
def test_the_result_is_ordered_and_within_the_product_of_the_bounds(a: Range, b: Range) -> None:
    result = product(a, b)
    assert a.low * b.low <= result.low <= result.mid <= result.high <= a.high * b.high


@given(ranges(), ranges())
def test_the_result_is_never_narrower_than_either_alone(a: Range, b: Range) -> None:
    result, slack = product(a, b), 1e-9 * a.high * b.high
    for sure, wide in ((a, b), (b, a)):
        assert result.low <= sure.mid * wide.low + slack
        assert result.high >= sure.mid * wide.high - slack


@given(ranges(), ranges())
def test_the_order_of_the_factors_does_not_matter(a: Range, b: Range) -> None:
    left, right = product(a, b), product(b, a)
    assert (left.low, left.mid, left.high) == pytest.approx((right.low, right.mid, right.high))


@given(ranges(), st.floats(1, 10))
def test_more_uncertainty_about_the_energy_never_narrows_the_result(a: Range, wider: float) -> None:
    wide = Range(a.low / wider, a.mid, a.high * wider)
    before, after = emissions_g(a, FRANCE), emissions_g(wide, FRANCE)
    slack = 1e-9 * after.high
    assert after.low <= before.low + slack
    assert after.high >= before.high - slack
