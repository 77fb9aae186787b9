"""Energy of runs inside runs: counted once, and never hidden."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.evidence.facts import PARENT_TAG
from mlflow_carbon.evidence.model import Evidence, Fact, Subject, SubjectKind
from mlflow_carbon.evidence.trees import Node, count_once, energy_j, node_of
from mlflow_carbon.schema import Metric, Tag

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def run(
    run_id: str,
    parent: str = "",
    energy_kwh: float | None = None,
    *,
    seconds: tuple[int, int] = (0, 100),
    inclusive: bool = True,
) -> Evidence:
    facts: dict[str, Fact] = {
        "run.start_time": Fact(START + timedelta(seconds=seconds[0]), ""),
        "run.end_time": Fact(START + timedelta(seconds=seconds[1]), ""),
    }
    if parent:
        facts[f"tag.{PARENT_TAG}"] = Fact(parent, "")
    if energy_kwh is not None:
        facts[f"metric.{Metric.ENERGY_KWH}"] = Fact(energy_kwh, "")
    if inclusive:
        facts[f"tag.{Tag.TREE}"] = Fact("inclusive", "")
    return Evidence(Subject(SubjectKind.RUN, run_id, run_id), facts)


def by_id(*runs: Evidence) -> dict[str, Node]:
    return {one.subject.key: node_of(one) for one in runs}


def test_children_of_a_measured_parent_are_inside_it() -> None:
    groups = count_once(
        by_id(run("p", "", 3), run("a", "p", 1), run("b", "p", 1.5), run("c", "a", 0.5))
    )
    assert groups.counted == ("p",)
    assert groups.inside == {"a", "b", "c"}


def test_children_of_an_unmeasured_parent_count_on_their_own() -> None:
    groups = count_once(by_id(run("p"), run("a", "p", 1), run("b", "p", 1.5)))
    assert set(groups.counted) == {"a", "b"}
    assert groups.unmeasured == {"p"}


def test_an_unmeasured_child_of_a_measured_parent_is_inside_it() -> None:
    groups = count_once(by_id(run("p", "", 3), run("a", "p")))
    assert groups.inside == {"a"}
    assert not groups.unmeasured


def test_a_child_that_ran_after_its_parent_counts_on_its_own() -> None:
    groups = count_once(by_id(run("p", "", 3), run("a", "p", 1, seconds=(200, 300))))
    assert set(groups.counted) == {"p", "a"}


def test_children_that_used_more_than_their_parent_ran_elsewhere_and_count() -> None:
    groups = count_once(by_id(run("p", "", 1), run("a", "p", 5), run("b", "p", 5)))
    assert set(groups.counted) == {"p", "a", "b"}


def test_a_parent_that_does_not_say_inclusive_contains_nothing() -> None:
    groups = count_once(by_id(run("p", "", 3, inclusive=False), run("a", "p", 1)))
    assert set(groups.counted) == {"p", "a"}


def test_a_parent_outside_the_selection_does_not_hide_its_child() -> None:
    assert count_once(by_id(run("a", "elsewhere", 1))).counted == ("a",)


def test_a_chain_of_ten_thousand_runs_is_no_trouble() -> None:
    chain = by_id(*(run(str(i), str(i - 1) if i else "", 1) for i in range(10_000)))
    assert sum(len(g) for g in (count_once(chain).counted, count_once(chain).inside)) == 10_000


def test_figures_that_are_no_figures_are_unknown() -> None:
    for figure in (float("nan"), float("inf"), -1.0):
        assert energy_j(run("a", "", figure)) is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 9),
            st.none() | st.floats(0, 100),
            st.integers(0, 50),
            st.integers(51, 120),
            st.booleans(),
        ),
        max_size=10,
    )
)
def test_every_run_is_in_exactly_one_group_whatever_the_parents(
    rows: list[tuple[int, float | None, int, int, bool]],
) -> None:
    runs = by_id(
        *(
            run(str(i), str(parent), energy, seconds=(start, end), inclusive=inclusive)
            for i, (parent, energy, start, end, inclusive) in enumerate(rows)
        )
    )
    groups = count_once(runs)
    everyone = [*groups.counted, *groups.inside, *groups.unmeasured]
    assert sorted(everyone) == sorted(runs)
    assert all(runs[run_id].energy_j is not None for run_id in groups.counted)
    assert all(runs[run_id].energy_j is None for run_id in groups.unmeasured)
