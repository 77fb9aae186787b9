"""What came to an account since it was made is what the next account says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.energy.book import Book
from mlflow_carbon.energy.meter import Component, Gap, MeterInfo, Method, Reading
from mlflow_carbon.units import Range
from tests.fakes.meters import SteadyMeter

S = 10**9


class Told(SteadyMeter):
    """A meter of a component; its readings are made by the test."""

    def __init__(self, name: str, component: Component, sensor_error: float = 0.05) -> None:
        super().__init__(100.0, name=name)
        self.info = MeterInfo(
            id=name,
            component=component,
            method=Method.COUNTER,
            describe=name,
            sensor_error=sensor_error,
        )


CPU, DRAM, GPU = (
    Told("cpu", Component.CPU),
    Told("dram", Component.DRAM, 0.4),
    Told("gpu", Component.GPU),
)


def read(book: Book, at_s: int, powers_w: dict[Told, float]) -> None:
    for meter, power_w in powers_w.items():
        whole = Range.exactly(power_w * at_s)
        own = Range(whole.mid * 0.2, whole.mid * 0.5, whole.mid * 0.8)
        book.take(meter, Reading(at_s * S, whole, own))


def begun(*runs: tuple[str, str | None], meters: tuple[Told, ...] = (CPU, DRAM)) -> Book:
    book = Book(meters, (), 1.0)
    book.expect(0)
    for run, parent in runs:
        book.open(run, 0, parent)
    return book


@given(st.floats(1, 500), st.floats(1, 500), st.integers(2, 20), st.integers(1, 20))
def test_an_account_and_what_came_to_it_are_the_next_account(
    cpu_w: float, dram_w: float, made_s: int, more_s: int
) -> None:
    book = begun(("a", None), ("b", None), ("child", "b"))
    powers_w = {CPU: cpu_w, DRAM: dram_w}
    for at_s in range(made_s + 1):
        read(book, at_s, powers_w)
    runs = ("a", "b", "child")
    before = {run: book.account(run, made_s * S) for run in runs}
    for at_s in range(made_s + 1, made_s + more_s + 1):
        read(book, at_s, powers_w)
    progress = {run: book.progress(run) for run in runs}
    for run in runs:
        then, came = book.account(run, (made_s + more_s) * S), progress[run]
        assert came is not None
        assert came.after_s == before[run].duration_s
        assert came.duration_s == pytest.approx(then.duration_s)
        assert came.covered_s == pytest.approx(more_s)
        for early, late in zip(before[run].components, then.components, strict=True):
            added = came.added_j[early.component]
            grown = [
                getattr(getattr(late, part), bound) - getattr(getattr(early, part), bound)
                for part in ("attributed_j", "boundary_j")
                for bound in ("low", "mid", "high")
            ]
            assert added == pytest.approx(grown, rel=1e-6, abs=1e-6)


def test_only_an_account_can_tell_after_a_run_began_or_a_meter_was_silent() -> None:
    book = begun(("a", None), meters=(CPU, GPU))
    assert book.progress("a") is None  # there is no account yet
    for at_s in range(3):
        read(book, at_s, {CPU: 50.0, GPU: 300.0})
    book.account("a", 2 * S)
    read(book, 3, {CPU: 50.0})
    assert book.progress("a") is None  # the GPU has not been read since
    read(book, 3, {GPU: 300.0})
    assert book.progress("a") is not None
    book.take(GPU, Gap(4 * S, "lost"))
    assert book.progress("a") is None
    book.account("a", 4 * S)
    book.expect(5 * S)
    book.open("b", 5 * S)
    read(book, 6, {CPU: 50.0, GPU: 300.0})
    assert book.progress("a") is None


def test_the_machine_at_the_wall_less_its_parts_is_for_an_account_to_tell() -> None:
    wall = Told("wall", Component.SYSTEM)
    book = begun(("a", None), meters=(CPU, wall))
    for at_s in range(3):
        read(book, at_s, {CPU: 50.0, wall: 90.0})
    book.account("a", 2 * S)
    read(book, 3, {CPU: 50.0, wall: 90.0})
    assert book.progress("a") is None
