"""From a model version to everything behind it; what cannot be believed is not known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as TrackingStore

from mlflow_carbon.errors import StoreError
from mlflow_carbon.evidence.lineage import read_version
from mlflow_carbon.evidence.model import Evidence, Fact, Subject, SubjectKind
from mlflow_carbon.evidence.pairs import pair_evidence, read_pair
from mlflow_carbon.schema import Metric, RegistryTag, Tag
from tests.evidence.conftest import Seeded


def client_of(uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def read(uri: str, name: str = "credit", version: str = "1") -> Evidence:
    client = client_of(uri)
    return read_version(client, client, name, version)


def value(evidence: Evidence, fact: str) -> Any:
    return evidence.facts[fact].value if fact in evidence.facts else None


def test_a_version_has_the_facts_of_itself_its_model_and_its_training_run(
    sqlite_store: Seeded,
) -> None:
    version = read(sqlite_store.uri)
    assert version.subject.key == "credit/1"
    assert value(version, "version.version") == "1"
    assert value(version, "version.aliases") == ("champion",)
    assert value(version, "model_tag.owner") == "ann"
    assert value(version, "model.description") == "scores"
    assert value(version, "metric.auc") == 0.9
    assert value(version, "run.id") == sqlite_store.parent
    assert len(version.members["datasets"]) == 2
    assert [one.subject.key for one in version.members["training_run"]] == [sqlite_store.parent]


def test_lineage_holds_children_and_evaluations_and_counts_energy_once(
    sqlite_store: Seeded,
) -> None:
    version = read(sqlite_store.uri)
    assert value(version, "lineage.runs") == 4
    assert value(version, "lineage.failed_runs") == 1
    assert value(version, "lineage.evaluation_runs") == 1
    assert value(version, "lineage.unmeasured_runs") == 0
    assert value(version, "lineage.datasets") == 2
    assert value(version, "lineage.energy_kwh") == pytest.approx(3.0 + 0.5)
    assert value(version, "lineage.emissions_kg") == pytest.approx(0.3 + 0.05)


def test_a_copied_version_has_the_lineage_of_its_origin(sqlite_store: Seeded) -> None:
    copy, origin = read(sqlite_store.uri, "credit-copy"), read(sqlite_store.uri)
    lineage = [key for key in origin.facts if key.startswith("lineage.")]
    assert len(lineage) == 8
    assert [value(copy, key) for key in lineage] == [value(origin, key) for key in lineage]


def test_mlflows_own_store_objects_tell_the_same_as_a_client(sqlite_store: Seeded) -> None:
    stores = TrackingStore(sqlite_store.uri, "/tmp/none"), RegistryStore(sqlite_store.uri)
    inside, outside = read_version(*stores, "credit", "1"), read(sqlite_store.uri)
    assert {k: repr(f) for k, f in inside.facts.items()} == {
        k: repr(f) for k, f in outside.facts.items()
    }


def test_a_missing_version_is_told_as_such(sqlite_store: Seeded) -> None:
    with pytest.raises(StoreError, match="'credit' version 77"):
        read(sqlite_store.uri, version="77")


@pytest.fixture
def own(sqlite_copy: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{sqlite_copy}")
    return f"sqlite:///{sqlite_copy}"


def test_a_trial_leads_up_to_the_whole_search(own: str, sqlite_store: Seeded) -> None:
    client = client_of(own)
    client.create_model_version("credit", f"runs:/{sqlite_store.trials[0]}/model")
    version = read(own, version="2")
    assert value(version, "run.id") == sqlite_store.trials[0]
    assert value(version, "lineage.runs") == 3
    assert value(version, "lineage.energy_kwh") == pytest.approx(3.0)


def test_one_run_without_a_figure_leaves_the_total_unknown(own: str, sqlite_store: Seeded) -> None:
    client = client_of(own)
    experiment = client.get_run(sqlite_store.parent).info.experiment_id
    tags = {"mlflow.parentRunId": sqlite_store.parent}
    late = client.create_run(experiment, start_time=9_000_000, tags=tags).info.run_id
    client.set_terminated(late, end_time=9_100_000)
    version = read(own)
    assert value(version, "lineage.unmeasured_runs") == 1
    assert "lineage.energy_kwh" not in version.facts


def test_the_energy_of_a_deleted_trial_still_counts(own: str, sqlite_store: Seeded) -> None:
    client = client_of(own)
    experiment = client.get_run(sqlite_store.parent).info.experiment_id
    tags = {"mlflow.parentRunId": sqlite_store.parent}
    late = client.create_run(experiment, start_time=9_000_000, tags=tags).info.run_id
    client.log_metric(late, "carbon/energy_kwh", 10.0)
    client.log_metric(late, "carbon/emissions_kg", 1.0)
    client.delete_run(late)
    assert value(read(own), "lineage.energy_kwh") == pytest.approx(13.5)


def test_a_run_id_that_contradicts_the_source_leaves_the_training_run_unknown(
    own: str, sqlite_store: Seeded
) -> None:
    client = client_of(own)
    source = f"runs:/{sqlite_store.failed}/model"
    client.create_model_version("credit", source, run_id=sqlite_store.parent)
    version = read(own, version="2")
    assert "metric.auc" not in version.facts
    assert "lineage.runs" not in version.facts
    assert version.members["datasets"] == ()


def test_a_logged_model_of_another_run_is_not_this_runs_model(
    own: str, sqlite_store: Seeded
) -> None:
    client = client_of(own)
    client.create_model_version(
        "credit", f"models:/{sqlite_store.model}", run_id=sqlite_store.evaluation
    )
    assert "run.id" not in read(own, version="2").facts


def test_a_deleted_training_run_is_no_evidence(own: str, sqlite_store: Seeded) -> None:
    client_of(own).delete_run(sqlite_store.parent)
    version = read(own)
    assert "metric.auc" not in version.facts
    assert value(version, "version.version") == "1"


def test_runs_that_name_each_other_as_parent_end_nowhere_endless(
    own: str, sqlite_store: Seeded
) -> None:
    client_of(own).set_tag(sqlite_store.parent, "mlflow.parentRunId", sqlite_store.trials[0])
    version = read(own)
    assert value(version, "lineage.runs") == 4
    assert value(version, "lineage.energy_kwh") >= 3.5


def test_a_parent_tag_with_quotes_in_it_is_only_text(own: str, sqlite_store: Seeded) -> None:
    client_of(own).set_tag(sqlite_store.parent, "mlflow.parentRunId", "x' or tags.a = 'b")
    assert value(read(own), "lineage.runs") == 4


def test_attestations_count_for_the_version_they_name_and_no_other(own: str) -> None:
    client = client_of(own)
    made = {
        "model": "credit",
        "version": "1",
        "statement": "reviewed",
        "by": "bob",
        "role": "risk",
        "made_at": "2026-01-01T00:00:00+00:00",
        "reason": "read it",
    }
    key = RegistryTag.ATTESTATION_PREFIX + "reviewed"
    client.set_model_version_tag("credit", "1", key, json.dumps(made))
    client.set_model_version_tag("credit", "1", RegistryTag.ATTESTATION_PREFIX + "broken", "{")
    client.copy_model_version("models:/credit/1", "credit-copy")
    assert [one.by for one in read(own).attestations] == ["bob"]
    copy = read(own, "credit-copy", "2")
    assert copy.attestations == ()
    assert f"version_tag.{key}" in copy.facts


def test_a_candidate_is_compared_with_the_version_behind_the_alias(
    own: str, sqlite_store: Seeded
) -> None:
    client = client_of(own)
    client.create_model_version("credit", f"runs:/{sqlite_store.trials[0]}/model")
    pair = read_pair(client, client, read(own, version="2"), "champion")
    assert pair is not None
    assert pair.subject.key == "credit/2@champion"
    assert value(pair, "run.id") == sqlite_store.trials[0]
    assert value(pair, "baseline.run.id") == sqlite_store.parent
    assert read_pair(client, client, read(own), "champion") is None
    assert read_pair(client, client, read(own), "no-such-alias") is None


def version_on(basis: str, year: str, **more: str) -> Evidence:
    facts: dict[str, Any] = {
        f"tag.{Tag.FACTOR_BASIS}": basis,
        f"tag.{Tag.FACTOR_YEAR}": year,
        f"metric.{Metric.EMISSIONS_KG}": 1.0,
        f"metric.{Metric.ENERGY_KWH}": 2.0,
        "lineage.emissions_kg": 1.0,
        "lineage.energy_kwh": 2.0,
    }
    subject = Subject(SubjectKind.MODEL_VERSION, "m/1", "m 1")
    return Evidence(subject, {key: Fact(fact, "") for key, fact in (facts | more).items()})


LIFECYCLE = "lifecycle, annual average, location-based"


@pytest.mark.parametrize(
    ("basis", "year"),
    [
        ("direct, annual average, location-based", "2025"),
        ("lifecycle, hourly average, location-based", "2025"),
        ("direct, hourly marginal, location-based (CO2 only)", "2025"),
        (LIFECYCLE, "2023"),
    ],
)
def test_emissions_on_different_bases_are_compared_only_where_somebody_asks_for_it(
    basis: str, year: str
) -> None:
    baseline = version_on(basis, year)
    pair = pair_evidence(version_on(LIFECYCLE, "2025"), baseline, "champion")
    assert value(pair, f"baseline.metric.{Metric.EMISSIONS_KG}") is None
    assert value(pair, "baseline.lineage.emissions_kg") is None
    assert value(pair, "baseline.lineage.energy_kwh") == 2.0
    asking = version_on(
        LIFECYCLE, "2025", **{f"version_tag.{RegistryTag.ANY_BASIS}": "Kim: the move to CA"}
    )
    asked = pair_evidence(asking, baseline, "champion")
    assert value(asked, f"baseline.metric.{Metric.EMISSIONS_KG}") == 1.0
    same = pair_evidence(version_on(LIFECYCLE, "2025"), version_on(LIFECYCLE, "2025"), "champion")
    assert value(same, "baseline.lineage.emissions_kg") == 1.0
