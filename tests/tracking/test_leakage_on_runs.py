"""What a run says about the rows of its datasets, through MLflow's own calls."""

from __future__ import annotations

import json

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run

from mlflow_carbon.schema import InputTag, Tag
from mlflow_carbon.tracking.inputs import LOOK_BUDGET_S, too_long


def people(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"age": range(rows), "email": [f"n{i}@example.org" for i in range(rows)]})


def logged(client: MlflowClient, **roles: pd.DataFrame) -> Run:
    with mlflow.start_run() as run:
        for context, data in roles.items():
            mlflow.log_input(mlflow.data.from_pandas(data, name=context), context=context)
    return client.get_run(run.info.run_id)


def test_held_out_rows_that_were_trained_on_are_on_the_run(measuring: MlflowClient) -> None:
    data = people(100)
    tags = logged(measuring, training=data[:80], test=data[60:100]).data.tags
    assert tags[Tag.LEAKAGE_SHARE] == "0.5"
    (leak,) = json.loads(tags[Tag.LEAKAGE])
    assert leak == {
        "training": "training",
        "held_out": "test",
        "shared": 20,
        "compared": 40,
        "share": 0.5,
    }


def test_a_clean_split_says_so_and_nothing_compared_says_nothing(measuring: MlflowClient) -> None:
    data = people(100)
    clean = logged(measuring, training=data[:80], test=data[80:]).data.tags
    assert clean[Tag.LEAKAGE_SHARE] == "0"
    assert Tag.LEAKAGE not in clean
    assert Tag.LEAKAGE_SHARE not in logged(measuring, training=data).data.tags


def test_counts_and_hints_are_with_the_dataset_in_the_profile_too(measuring: MlflowClient) -> None:
    data = pd.concat([people(10), people(2)]).assign(note=None)
    (given,) = logged(measuring, training=data).inputs.dataset_inputs
    tags = {tag.key: tag.value for tag in given.tags}
    assert tags[InputTag.DUPLICATE_ROWS] == "2"
    assert tags[InputTag.MISSING_CELLS] == "12"
    assert tags[InputTag.SENSITIVE_FOUND] == (
        "age (birth, by name), email (contact, by name), email (email, by values)"
    )
    assert json.loads(given.dataset.profile)[InputTag.DUPLICATE_ROWS] == "2"


def test_looking_at_data_for_long_is_told_and_for_a_moment_is_not() -> None:
    (word,) = too_long("big", LOOK_BUDGET_S + 0.1)
    assert "'big' took 5.1 s" in word
    assert "hash_limit_mb" in word
    assert too_long("small", LOOK_BUDGET_S) == []
