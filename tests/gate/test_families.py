"""A tree of runs read at once is the tree read run by run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mlflow import MlflowClient
from mlflow.tracking._tracking_service.utils import _get_store

from mlflow_carbon.evidence.lineage import read_version
from mlflow_carbon.gate.families import with_families
from tests.gate.conftest import seed

PARENT = "mlflow.parentRunId"


@pytest.fixture
def client(open_store: Callable[[], str]) -> MlflowClient:
    uri = open_store()
    return MlflowClient(uri, uri)


def child(client: MlflowClient, parent: str, energy: float | None = 0.5) -> str:
    experiment = client.get_run(parent).info.experiment_id
    run_id: str = client.create_run(experiment, tags={PARENT: parent}).info.run_id
    if energy is not None:
        client.log_metric(run_id, "carbon/energy_kwh", energy)
    client.set_terminated(run_id)
    return run_id


def test_the_whole_lineage_is_the_same_either_way(client: MlflowClient) -> None:
    seeded = seed(client, "credit")
    client.log_metric(seeded.run_id, "carbon/energy_kwh", 1.0)
    first, second = child(client, seeded.run_id), child(client, seeded.run_id)
    child(client, first)
    client.delete_run(child(client, child(client, second)))
    runs = _get_store(client.tracking_uri)
    slow = read_version(runs, client, "credit", "1")
    fast = read_version(with_families(runs), client, "credit", "1")
    assert fast.facts.keys() == slow.facts.keys()
    for name, fact in slow.facts.items():  # a sum of floats depends on the order
        same = pytest.approx(fact.value) if isinstance(fact.value, float) else fact.value
        assert fast.facts[name].value == same
    assert fast.facts["lineage.runs"].value == 6
    assert {one.subject for one in fast.members["lineage"]} == {
        one.subject for one in slow.members["lineage"]
    }


def test_a_circle_of_parents_comes_to_an_end(client: MlflowClient) -> None:
    seeded = seed(client, "credit")
    client.set_tag(seeded.run_id, PARENT, child(client, seeded.run_id))
    runs = with_families(_get_store(client.tracking_uri))
    assert read_version(runs, client, "credit", "1").facts["lineage.runs"].value == 2


def test_what_was_added_since_is_seen_when_asked_again(client: MlflowClient) -> None:
    seeded = seed(client, "credit")
    one = child(client, seeded.run_id)
    runs = with_families(_get_store(client.tracking_uri))
    assert read_version(runs, client, "credit", "1").facts["lineage.runs"].value == 2
    child(client, one, energy=None)
    assert read_version(runs, client, "credit", "1").facts["lineage.runs"].value == 3
