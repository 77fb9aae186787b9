"""The places in MLflow we hook into: if one moves, this tells before any user notices."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import pytest
from mlflow.data.dataset import Dataset
from mlflow.entities import Dataset as DatasetEntity
from mlflow.entities import DatasetInput, InputTag
from mlflow.tracking._tracking_service.client import TrackingServiceClient
from mlflow.tracking._tracking_service.registry import TrackingStoreRegistry
from mlflow.tracking.fluent import ActiveRun

from mlflow_carbon.switch import is_server_process, may_measure


@pytest.mark.parametrize(
    ("function", "leading"),
    [
        (
            TrackingServiceClient.create_run,
            ["self", "experiment_id", "start_time", "tags", "run_name"],
        ),
        (TrackingServiceClient.set_terminated, ["self", "run_id", "status", "end_time"]),
        (TrackingServiceClient.update_run, ["self", "run_id", "status", "name"]),
        (TrackingServiceClient.log_inputs, ["self", "run_id", "datasets"]),
        (TrackingServiceClient.log_batch, ["self", "run_id", "metrics", "params", "tags"]),
        (TrackingServiceClient.log_metric, ["self", "run_id", "key", "value"]),
        (TrackingServiceClient.log_param, ["self", "run_id", "key", "value"]),
        (TrackingServiceClient.set_tag, ["self", "run_id", "key", "value"]),
        (TrackingServiceClient.log_artifact, ["self", "run_id", "local_path", "artifact_path"]),
        (ActiveRun.__init__, ["self", "run"]),
        (Dataset._to_mlflow_entity, ["self"]),
        (TrackingStoreRegistry.get_store, ["self", "store_uri", "artifact_uri"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_a_hook_point_is_defined_on_its_class_and_takes_what_we_pass_on(
    function: Callable[..., Any], leading: list[str]
) -> None:
    assert list(inspect.signature(function).parameters)[: len(leading)] == leading
    owner = {"ActiveRun": ActiveRun, "Dataset": Dataset}.get(function.__qualname__.split(".")[0])
    assert owner is None or function.__name__ in owner.__dict__


def test_a_client_gives_its_store_and_address() -> None:
    assert isinstance(inspect.getattr_static(TrackingServiceClient, "store"), property)
    assert "tracking_uri" in inspect.signature(TrackingServiceClient.__init__).parameters


def test_entities_of_inputs_can_be_added_to() -> None:
    entity = DatasetEntity("name", "digest", "local", "{}", profile="{}")
    item = DatasetInput(entity, [InputTag("a", "1")])
    item._tags = [*item.tags, InputTag("b", "2")]
    entity._profile = '{"rows": 1}'
    assert [tag.key for tag in item.tags] == ["a", "b"]
    assert item.dataset.profile == '{"rows": 1}'


def test_mlflow_finds_our_entry_point_and_gets_no_tags_from_it() -> None:
    (ours,) = [e for e in entry_points(group="mlflow.run_context_provider") if "carbon" in e.name]
    provider = ours.load()()
    assert provider.in_context() is False
    assert provider.tags() == {}


@pytest.mark.parametrize(
    ("environ", "answer"),
    [
        ({}, True),
        ({"MLFLOW_CARBON_ENABLED": "true"}, True),
        ({"MLFLOW_CARBON_ENABLED": "FALSE"}, False),
        ({"_MLFLOW_SERVER_FILE_STORE": "sqlite:///x"}, False),
        ({"_MLFLOW_SGI_NAME": "mlflow"}, False),
    ],
)
def test_server_processes_and_switched_off_ones_never_measure(
    environ: dict[str, str], answer: bool
) -> None:
    assert may_measure(environ) is answer
    assert is_server_process(environ) is any(key.startswith("_MLFLOW") for key in environ)
