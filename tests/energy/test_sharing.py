"""Joules are shared between overlapping runs, never duplicated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.energy.integrate import Interval
from mlflow_carbon.energy.meter import Component, MeterInfo, Method, Unmeasured
from mlflow_carbon.energy.sharing import Ledger
from mlflow_carbon.units import Range

S = 1_000_000_000
CPU = MeterInfo(id="rapl:0", component=Component.CPU, method=Method.COUNTER, describe="package-0")
GPU = MeterInfo(id="nvml:0", component=Component.GPU, method=Method.COUNTER, describe="GPU")


def joules(from_s: float, to_s: float, energy_j: float, own: float = 1.0) -> Interval:
    return Interval(
        int(from_s * S),
        int(to_s * S),
        Range.exactly(energy_j),
        Range.exactly(energy_j * own),
    )


def attributed(ledger: Ledger, run_id: str, at_s: float) -> float:
    total = ledger.account(run_id, int(at_s * S), (), {}).attributed_j
    return 0.0 if total is None else total.mid


def test_one_run_gets_everything_and_the_boundary_is_the_same() -> None:
    ledger = Ledger()
    ledger.open("a", 0)
    ledger.hand_out(CPU, joules(0, 10, 500))
    account = ledger.account("a", 10 * S, (), {})
    assert account.attributed_j is not None
    assert account.attributed_j.mid == 500
    assert account.boundary_j is not None
    assert account.boundary_j.mid == 500
    assert account.coverage == 1
    assert account.grade == "A"


@pytest.mark.parametrize(
    ("component", "grade"),
    [(Component.GPU, "D"), (Component.DRAM, "D"), (Component.SYSTEM, "A")],
    ids=["a GPU without a driver", "memory", "no sensor at the wall"],
)
def test_a_component_without_any_figure_takes_the_grade(component: Component, grade: str) -> None:
    ledger = Ledger()
    ledger.open("a", 0)
    ledger.hand_out(CPU, joules(0, 10, 500))
    missing = [Unmeasured(component, "not told")]
    assert ledger.account("a", 10 * S, missing, {}).grade == grade
    module = CPU._replace(id="nvml:module", component=Component.MODULE)
    ledger.hand_out(module, joules(0, 10, 500))
    inside = component is not Component.GPU
    assert ledger.account("a", 10 * S, missing, {}).grade == ("A" if inside else grade)


def test_of_a_wall_read_half_of_the_time_the_rest_of_the_machine_stays_in_the_range() -> None:
    ledger = Ledger()
    ledger.open("a", 0)
    ledger.hand_out(CPU, joules(0, 10, 1500))
    wall = CPU._replace(id="wall:bmc", component=Component.SYSTEM)
    ledger.hand_out(wall, joules(5, 10, 1250))  # 500 J of it are not the processor's
    _, rest = ledger.account("a", 10 * S, (), {}).components
    assert rest.component is Component.SYSTEM
    assert rest.boundary_j.low <= 500 <= rest.boundary_j.high


def test_two_overlapping_runs_share_and_add_up_to_the_machine() -> None:
    ledger = Ledger()
    ledger.open("a", 0)
    ledger.hand_out(CPU, joules(0, 10, 500))
    ledger.open("b", 10 * S)
    ledger.hand_out(CPU, joules(10, 20, 500))
    assert attributed(ledger, "a", 20) == 750
    assert attributed(ledger, "b", 20) == 250
    both = [ledger.account(run, 20 * S, (), {}).boundary_j for run in ("a", "b")]
    assert [total.mid for total in both if total is not None] == [1000, 500]


def test_a_parent_includes_its_child_and_the_child_does_not_share_with_it() -> None:
    ledger = Ledger()
    ledger.open("parent", 0)
    ledger.open("child", 0, parent_id="parent")
    ledger.hand_out(CPU, joules(0, 10, 500))
    assert attributed(ledger, "child", 10) == 500
    assert attributed(ledger, "parent", 10) == 500


def test_a_child_made_known_later_is_contained_as_if_it_had_been_from_the_start() -> None:
    ledger = Ledger()
    ledger.open("parent", 0)
    ledger.open("child", 0)
    ledger.hand_out(CPU, joules(0, 10, 500))
    ledger.adopt("child", "parent")
    ledger.adopt("child", "parent")  # a second time changes nothing
    ledger.adopt("parent", "child")  # nor does a circle
    ledger.hand_out(CPU, joules(10, 20, 100))
    assert attributed(ledger, "child", 20) == 350
    assert attributed(ledger, "parent", 20) == 600


def test_what_other_processes_used_is_attributed_to_nobody() -> None:
    ledger = Ledger()
    ledger.open("a", 0)
    ledger.hand_out(CPU, joules(0, 10, 500, own=0.4))
    assert attributed(ledger, "a", 10) == pytest.approx(200)
    assert ledger.unattributed_j["rapl:0"] == pytest.approx(300)
    account = ledger.account("a", 10 * S, (), {})
    assert account.boundary_j is not None
    assert account.boundary_j.mid == 500


def test_a_run_that_opens_within_an_interval_gets_its_part_and_a_range() -> None:
    ledger = Ledger()
    ledger.open("a", 6 * S)
    ledger.hand_out(CPU, joules(0, 10, 500))
    total = ledger.account("a", 10 * S, (), {}).attributed_j
    assert total is not None
    assert total.mid == pytest.approx(200)
    assert total.low < 200 < total.high


def test_a_component_without_a_covered_moment_is_unmeasured_and_not_zero() -> None:
    ledger = Ledger()
    ledger.open("a", 0)
    nothing = Interval(0, S, Range(0, 0, 700), Range(0, 0, 700), measured=False)
    ledger.hand_out(GPU, nothing)
    account = ledger.account("a", S, (), {"nvml:0": (GPU, "GPU is lost")})
    assert account.components == ()
    assert account.attributed_j is None
    assert account.unmeasured == (Unmeasured(Component.GPU, "GPU: GPU is lost"),)


def test_a_long_power_series_is_thinned_and_keeps_its_energy() -> None:
    ledger = Ledger()
    ledger.open("a", 0)
    for step in range(2000):
        power_w = 100.0 + step % 7
        ledger.hand_out(CPU, joules(step * 10, step * 10 + 10, power_w * 10))
        ledger.note_power((step + 1) * 10 * S)
    account = ledger.account("a", 20_000 * S, (), {}, last=True)
    assert len(account.power) <= 720
    energy_j, start_s = 0.0, 0.0
    for point in account.power:
        energy_j += point.power_w * (point.at_s - start_s)
        start_s = point.at_s
    assert account.attributed_j is not None
    assert energy_j == pytest.approx(account.attributed_j.mid)


LIVES = st.lists(st.tuples(st.integers(0, 99), st.integers(1, 60)), min_size=1, max_size=8)
TICKS = st.lists(st.integers(1, 15), min_size=1, max_size=25)


def played(
    ledger: Ledger, lives: list[tuple[int, int]], ticks: list[int], power_w: float, own: float
) -> tuple[float, float]:
    """Runs open anywhere and close at the end of an interval, as the sampler bridges up to there.

    Returns what all of them got, and what was measured.
    """
    got_j = measured_j = 0.0
    now_s, live = 0, {}
    for tick in ticks:
        for index, (start_s, length_s) in enumerate(lives):
            if now_s <= start_s < now_s + tick:
                ledger.open(f"run-{index}", start_s * S, "root")
                live[f"run-{index}"] = start_s + length_s
        ledger.hand_out(CPU, joules(now_s, now_s + tick, power_w * tick, own))
        now_s += tick
        measured_j += power_w * tick
        for run_id in [run_id for run_id, end_s in live.items() if end_s <= now_s]:
            got_j += attributed(ledger, run_id, now_s)
            ledger.close(run_id)
            del live[run_id]
    got_j += sum(attributed(ledger, run_id, now_s) for run_id in live)
    return got_j, measured_j


@given(lives=LIVES, ticks=TICKS, power_w=st.floats(0, 700), own=st.floats(0, 1))
def test_the_sum_over_runs_and_the_unattributed_is_what_was_measured(
    lives: list[tuple[int, int]], ticks: list[int], power_w: float, own: float
) -> None:
    ledger = Ledger()
    got_j, measured_j = played(ledger, lives, ticks, power_w, own)
    assert got_j + ledger.unattributed_j["rapl:0"] == pytest.approx(measured_j, abs=1e-6)


@given(lives=LIVES, ticks=TICKS, power_w=st.floats(0, 700), own=st.floats(0, 1))
def test_a_parent_that_is_open_all_the_time_gets_all_of_its_process(
    lives: list[tuple[int, int]], ticks: list[int], power_w: float, own: float
) -> None:
    ledger = Ledger()
    ledger.open("root", 0)
    _, measured_j = played(ledger, lives, ticks, power_w, own)
    root_j = attributed(ledger, "root", sum(ticks))
    assert root_j == pytest.approx(measured_j * own, abs=1e-6)
    assert root_j + ledger.unattributed_j["rapl:0"] == pytest.approx(measured_j, abs=1e-6)
