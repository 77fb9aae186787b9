"""Sums that depend on no order."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.audit.exact import Exact, exactly, total

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.floats(-1e290, 1e290), max_size=40))
def test_a_sum_is_the_double_nearest_to_the_true_one(values: list[float]) -> None:
    assert total(values) == math.fsum(values)


@given(st.lists(st.lists(FINITE, max_size=6), max_size=6))
def test_parts_add_up_to_the_same_sum_however_they_are_cut(parts: list[list[float]]) -> None:
    whole = exactly([value for part in parts for value in part])
    assert sum(map(exactly, parts), start=Exact()) == whole
    assert sum(map(exactly, reversed(parts)), start=Exact()) == whole


def test_what_is_beyond_every_double_is_infinite() -> None:
    assert total([1.7e308] * 3) == math.inf
    assert total([-1.7e308] * 3) == -math.inf
    assert total([math.inf, -1.0]) == math.inf
    assert math.isnan(total([math.nan, 1.0]))
    assert total([5e-324, 5e-324]) == 1e-323
