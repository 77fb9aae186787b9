"""What a store says about runs, datasets and models, the same by every way of reading it."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import Any

import pytest

from mlflow_carbon.errors import FilterError, StoreError
from mlflow_carbon.evidence.model import Evidence
from mlflow_carbon.evidence.store import Query, has_ended, open_store, with_other_digests
from tests.evidence.conftest import SHA_A, SHA_B, Seeded, seed

NOW = datetime(2026, 11, 23, tzinfo=timezone.utc)


def runs_of(uri: str, query: Query | None = None) -> dict[str, Evidence]:
    return {run.subject.key: run for run in open_store(uri).runs(query or Query())}


def value(evidence: Evidence, fact: str) -> Any:
    return evidence.facts[fact].value if fact in evidence.facts else None


def test_a_run_is_read_with_all_its_namespaces(sqlite_store: Seeded) -> None:
    run = runs_of(sqlite_store.uri)[sqlite_store.parent]
    assert value(run, "metric.auc") == 0.9
    assert value(run, "param.a/b c.d") == "x" * 6000
    assert value(run, "tag.mlflow_carbon.tree") == "inclusive"
    assert value(run, "run.experiment") == "credit"
    assert value(run, "run.status") == "FINISHED"
    assert value(run, "run.duration_s") == 40.0
    assert value(run, "run.end_time") == datetime(1970, 1, 1, 0, 17, 20, tzinfo=timezone.utc)
    assert value(run, "run.datasets") == 2
    assert value(run, "run.dataset_contexts") == ("testing", "training")
    assert run.facts["metric.auc"].read_from == f"run {sqlite_store.parent} metric auc"


def test_what_a_run_does_not_have_is_missing_and_has_no_default(sqlite_store: Seeded) -> None:
    run = runs_of(sqlite_store.uri)[sqlite_store.running]
    assert "run.end_time" not in run.facts
    assert "run.duration_s" not in run.facts
    assert "run.source_commit" not in run.facts
    assert "metric.carbon/energy_kwh" not in run.facts


def test_infinity_and_nan_come_back_as_they_were_logged(sqlite_store: Seeded) -> None:
    run = runs_of(sqlite_store.uri)[sqlite_store.parent]
    assert value(run, "metric.worst") == math.inf
    assert math.isnan(value(run, "metric.odd"))


def test_dataset_facts_come_from_input_tags_first_and_from_the_card_second(
    sqlite_store: Seeded,
) -> None:
    training, testing = sorted(
        runs_of(sqlite_store.uri)[sqlite_store.parent].members["datasets"],
        key=lambda one: str(value(one, "dataset.context")),
        reverse=True,
    )
    assert value(training, "dataset.license") == "CC-BY-4.0"
    assert value(training, "dataset.origin") == "the bank"
    assert "declared by ann on 2026-01-02" in training.facts["dataset.origin"].read_from
    assert value(training, "dataset.rows") == 569
    assert value(testing, "dataset.rows") == "many"  # not a number: a rule will say so
    assert "dataset.origin" not in testing.facts
    assert value(training, "run.id") == sqlite_store.parent
    assert training.subject.key == f"{sqlite_store.parent}/loans/training-1/training"


def test_a_card_that_cannot_be_read_declares_nothing(sqlite_store: Seeded) -> None:
    (dataset,) = runs_of(sqlite_store.uri)[sqlite_store.trials[0]].members["datasets"]
    assert "dataset.license" not in dataset.facts


def test_a_dataset_knows_the_other_contents_its_name_had_in_the_same_role(
    sqlite_store: Seeded,
) -> None:
    runs = {
        one.subject.key: one for one in with_other_digests([*runs_of(sqlite_store.uri).values()])
    }
    others = {
        one.subject.key: value(one, "dataset.other_digests")
        for run in runs.values()
        for one in run.members["datasets"]
    }
    assert others == {
        f"{sqlite_store.parent}/loans/training-1/training": (SHA_B,),
        f"{sqlite_store.parent}/loans/testing-1/testing": (),
        f"{sqlite_store.trials[0]}/loans/training-1/training": (SHA_A,),
    }


def test_only_the_running_run_has_not_ended(sqlite_store: Seeded) -> None:
    open_runs = {key for key, run in runs_of(sqlite_store.uri).items() if not has_ended(run, NOW)}
    assert open_runs == {sqlite_store.running}


def test_a_run_that_ended_after_the_date_of_the_audit_had_not_ended_then(
    sqlite_store: Seeded,
) -> None:
    run = runs_of(sqlite_store.uri)[sqlite_store.parent]
    assert not has_ended(run, datetime(1970, 1, 1, 0, 17, tzinfo=timezone.utc))


def test_experiment_and_filter_select_runs(sqlite_store: Seeded) -> None:
    query = Query(experiments=("credit",), filter="metrics.`carbon/energy_kwh` > 2")
    assert set(runs_of(sqlite_store.uri, query)) == {sqlite_store.parent}


def test_an_unknown_experiment_is_refused_with_the_name_meant(sqlite_store: Seeded) -> None:
    with pytest.raises(StoreError, match=r"no active experiment 'credti'. Did you mean 'credit'"):
        runs_of(sqlite_store.uri, Query(experiments=("credti",)))


def test_a_filter_mlflow_cannot_read_is_told_in_its_words(sqlite_store: Seeded) -> None:
    with pytest.raises(FilterError, match="Expected numeric value"):
        runs_of(sqlite_store.uri, Query(filter="metrics.auc >> 'x'"))


def test_models_are_read_with_their_versions_runs_and_aliases(sqlite_store: Seeded) -> None:
    models = {m.evidence.subject.key: m for m in open_store(sqlite_store.uri).models(Query())}
    assert set(models) == {"credit", "credit-copy"}
    assert models["credit"].versions == {"1": sqlite_store.parent}
    assert models["credit"].aliases == {"champion": "1"}
    assert value(models["credit"].evidence, "model_tag.owner") == "ann"
    assert value(models["credit"].evidence, "model.versions") == 1
    assert value(models["credit"].evidence, "model.aliases") == ("champion",)


def test_an_unknown_model_is_refused(sqlite_store: Seeded) -> None:
    with pytest.raises(StoreError, match="nosuch"):
        list(open_store(sqlite_store.uri).models(Query(models=("nosuch",))))


def evidence_of(uri: str) -> list[Evidence]:
    store = open_store(uri)
    runs = sorted(store.runs(Query()), key=lambda run: run.subject.key)
    return [
        *runs,
        *(model.evidence for model in store.models(Query())),
        store.version("credit", "1"),
    ]


def comparable(evidence: Evidence) -> dict[str, str]:
    return {key: repr(fact.value) for key, fact in evidence.facts.items()}


def test_a_server_tells_the_same_as_its_database(sqlite_store: Seeded, server: str) -> None:
    direct, served = evidence_of(sqlite_store.uri), evidence_of(server)
    assert [*map(comparable, served)] == [*map(comparable, direct)]


def test_postgresql_is_read_like_sqlite(postgres_uri: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(postgres_uri, "/tmp/none")
    seeded = seed(postgres_uri)
    store = open_store(postgres_uri)
    assert value(store.version("credit", "1"), "lineage.energy_kwh") == pytest.approx(3.5)
    assert len(list(store.runs(Query()))) == 5
    assert value(runs_of(postgres_uri)[seeded.parent], "metric.worst") == math.inf
