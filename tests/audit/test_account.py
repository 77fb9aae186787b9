"""The energy account: every run in one group, measured apart from modelled, unknown never 0."""

from __future__ import annotations

import json

import pytest

from mlflow_carbon.audit.account import dataset_register, energy_account
from mlflow_carbon.audit.summary import MeasuringCost
from mlflow_carbon.evidence.model import Evidence, Fact, FactValue, Subject, SubjectKind
from mlflow_carbon.schema import Metric, Tag
from mlflow_carbon.units import J_PER_KWH
from tests.evidence.test_trees import run


def with_facts(evidence: Evidence, **facts: FactValue) -> Evidence:
    more = {key: Fact(value, "") for key, value in facts.items()}
    return Evidence(evidence.subject, {**evidence.facts, **more}, {"datasets": ()})


def method(evidence: Evidence, name: str) -> Evidence:
    return with_facts(evidence, **{f"tag.{Tag.METHOD}": name})


def dataset(run_id: str, **facts: FactValue) -> Evidence:
    subject = Subject(SubjectKind.DATASET_INPUT, f"{run_id}/d", "d")
    named = {"name": "d", "digest": "x", **facts}
    return Evidence(subject, {f"dataset.{key}": Fact(value, "") for key, value in named.items()})


def test_nothing_measured_is_unknown_and_not_zero() -> None:
    account = energy_account([with_facts(run("a")), with_facts(run("b"))], {})
    assert account.total_j is None
    assert account.emissions_g is None
    assert account.runs_unmeasured == 2
    assert account.rows[0].energy_j is None


def test_a_tree_of_runs_is_counted_once_and_every_run_is_accounted_for() -> None:
    runs = [
        method(run("p", "", 3), "counter"),
        method(run("a", "p", 1), "counter"),
        method(run("other", "", 2), "modelled"),
        with_facts(run("dark")),
    ]
    account = energy_account(runs, {"p": "credit version 1"})
    assert account.total_j is not None
    assert account.total_j.mid == pytest.approx(5 * J_PER_KWH)
    assert account.measured_j == pytest.approx(3 * J_PER_KWH)
    assert account.modelled_j == pytest.approx(2 * J_PER_KWH)
    groups = account.runs_counted, account.runs_inside_counted, account.runs_unmeasured
    assert groups == (2, 1, 1)
    assert account.rows[0].model_name == "credit version 1"


def test_measured_and_modelled_are_split_by_component_where_the_record_tells() -> None:
    one = with_facts(
        run("a", "", 4),
        **{
            f"metric.{Metric.GPU_ENERGY_KWH}": 3.0,
            f"metric.{Metric.CPU_ENERGY_KWH}": 1.0,
            f"tag.{Tag.METHODS}": json.dumps({"gpu": "counter", "cpu": "modelled"}),
            f"tag.{Tag.METHOD}": "counter",
        },
    )
    account = energy_account([one], {})
    assert account.measured_j == pytest.approx(3 * J_PER_KWH)
    assert account.modelled_j == pytest.approx(1 * J_PER_KWH)


def test_a_methods_tag_that_is_no_json_is_no_trouble() -> None:
    one = with_facts(run("a", "", 4), **{f"tag.{Tag.METHODS}": "{", f"tag.{Tag.METHOD}": "sampled"})
    assert energy_account([one], {}).measured_j == pytest.approx(4 * J_PER_KWH)


def test_what_failed_runs_used_is_told_once() -> None:
    runs = [
        with_facts(run("p", "", 5), **{"run.status": "FINISHED"}),
        with_facts(run("a", "p", 2), **{"run.status": "FAILED"}),
        with_facts(run("b", "a", 1), **{"run.status": "FAILED"}),
        with_facts(run("c", "p", 1), **{"run.status": "FINISHED", f"tag.{Tag.EXIT}": "exception"}),
    ]
    assert energy_account(runs, {}).failed_runs_j == pytest.approx(3 * J_PER_KWH)


def test_the_cost_of_measuring_is_summed_over_counted_runs_that_tell_it() -> None:
    def told(name: str, parent: str, cpu_s: float) -> Evidence:
        facts = {f"metric.{Metric.MEASURING_CPU_S}": cpu_s, "run.duration_s": 100.0}
        return with_facts(run(name, parent, 1), **facts)

    runs = [
        told("p", "", 0.5),
        told("a", "p", 0.4),
        told("b", "", 0.25),
        with_facts(run("c", "", 1)),
    ]
    assert energy_account(runs, {}).measuring == MeasuringCost(0.75, 200.0, 2)
    assert energy_account([with_facts(run("c", "", 1))], {}).measuring is None


def test_quality_is_the_runs_own_metrics_and_not_ours_or_the_systems() -> None:
    one = with_facts(
        run("a", "", 4),
        **{"metric.auc": 0.9, "metric.system/cpu": 3.0, "metric.broken": float("nan")},
    )
    assert energy_account([one], {}).rows[0].quality == {"auc": 0.9}


def test_every_distinct_factor_is_listed_once() -> None:
    tags = {f"tag.{Tag.FACTOR}": "41.4", f"tag.{Tag.FACTOR_SOURCE}": "Ember 2026"}
    runs = [with_facts(run(name, "", 1), **tags) for name in "ab"]
    assert energy_account(runs, {}).factors == ("41.4 g/kWh, Ember 2026",)


def test_emissions_on_different_bases_are_not_added_up() -> None:
    def emitting(name: str, basis: str) -> Evidence:
        tags = {f"tag.{Tag.FACTOR_BASIS}": basis, f"metric.{Metric.EMISSIONS_KG}": 0.002}
        return with_facts(run(name, "", 1), **tags)

    alike = energy_account([emitting("a", "lifecycle"), emitting("b", "lifecycle")], {})
    assert alike.emissions_g is not None
    assert alike.emissions_g.mid == pytest.approx(4.0)
    mixed = energy_account([emitting("a", "lifecycle"), emitting("b", "direct")], {})
    assert mixed.emissions_g is None
    assert [row.emissions_g.mid for row in mixed.rows if row.emissions_g] == pytest.approx(
        [2.0, 2.0]
    )
    assert energy_account([emitting("a", "mixed: lifecycle; direct")], {}).emissions_g is None


def test_the_dataset_register_has_one_row_for_each_content_and_counts_its_runs() -> None:
    runs = [
        Evidence(run("a").subject, {}, {"datasets": (dataset("a", rows=5, context="training"),)}),
        Evidence(run("b").subject, {}, {"datasets": (dataset("b", rows=5, license="MIT"),)}),
        Evidence(run("c").subject, {}, {"datasets": (dataset("c", sha256="f" * 64),)}),
    ]
    first, second = dataset_register(runs)
    assert (first.runs, first.rows, first.license, first.contexts) == (2, 5, "MIT", ("training",))
    assert (second.runs, second.sha256, second.rows) == (1, "f" * 64, None)


def test_runs_that_disagree_about_a_dataset_are_both_quoted() -> None:
    runs = [
        Evidence(run(name).subject, {}, {"datasets": (dataset(name, license=said, rows=rows),)})
        for name, said, rows in (("a", "MIT", 1), ("b", "CC0-1.0", 2))
    ]
    (row,) = dataset_register(runs)
    assert row.license == "CC0-1.0 | MIT"
    assert row.rows is None


def test_a_method_nobody_knows_is_a_missing_one() -> None:
    account = energy_account([method(run("a", "", 1), "guessed by <b>me</b>")], {})
    assert account.rows[0].method == "missing"
    assert account.measured_j == 0
