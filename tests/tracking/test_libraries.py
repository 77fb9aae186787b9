"""Libraries that drive MLflow themselves: LightGBM, Optuna, MLflow's evaluation, a Jupyter kernel."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from mlflow_carbon.schema import InputTag, Metric, Param, Tag
from tests.tracking.conftest import Finished, our_tags, ours
from tests.tracking.test_processes import BURN, command, runs, spooled

Program = Callable[..., Finished]


def test_lightgbm_with_autologging_is_measured_with_its_data(
    program: Program, store_uri: str, environment: dict[str, str]
) -> None:
    done = program(
        """
import lightgbm, mlflow
from sklearn.datasets import load_breast_cancer
mlflow.lightgbm.autolog(log_models=False, silent=True)
X, y = load_breast_cancer(return_X_y=True, as_frame=True)
lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(X, y), num_boost_round=20)
"""
    )
    assert done.code == 0, done.err
    (run,) = runs(store_uri).values()
    assert our_tags(run)[Tag.STATUS] == "measured"
    assert ours(run)[Metric.ENERGY_KWH] > 0
    (item,) = run.inputs.dataset_inputs
    assert InputTag.SHA256 in {tag.key for tag in item.tags}
    assert spooled(environment) == []


def test_trials_in_optunas_mlflow_storage_are_each_measured(
    program: Program, store_uri: str, environment: dict[str, str]
) -> None:
    done = program(
        BURN
        + """
import mlflow, optuna
from mlflow.optuna.storage import MlflowStorage
experiment = mlflow.get_experiment_by_name("tests").experiment_id
study = optuna.create_study(study_name="study", storage=MlflowStorage(experiment_id=experiment))
def objective(trial):
    burn(0.2)
    return trial.suggest_float("x", 0, 1)
study.optimize(objective, n_trials=2)
"""
    )
    assert done.code == 0, done.err
    found = list(runs(store_uri).values())
    trials = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    (study,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    assert len(trials) == 2
    assert all(ours(run)[Metric.ENERGY_KWH] > 0 for run in trials)
    # MLflow's storage never ends the study's run; we close its record with the process.
    assert (our_tags(study)[Tag.EXIT], our_tags(study)[Tag.TREE]) == ("process-exit", "inclusive")
    assert ours(study)[Metric.ENERGY_KWH] > max(ours(r)[Metric.ENERGY_KWH] for r in trials)
    assert spooled(environment) == []


def test_optunas_mlflow_callback_has_the_energy_of_a_trial_only_where_the_trial_ran_in_the_run(
    program: Program, store_uri: str, environment: dict[str, str]
) -> None:
    done = program(
        BURN
        + """
import os, mlflow, optuna
from optuna_integration.mlflow import MLflowCallback
def trial_of(name):
    return MLflowCallback(
        os.environ["MLFLOW_TRACKING_URI"], create_experiment=False, mlflow_kwargs={"run_name": name},
    )
def objective(trial):
    burn(0.5)
    return trial.suggest_float("x", 0, 1)
tracked = trial_of("tracked")
optuna.create_study().optimize(tracked.track_in_mlflow()(objective), n_trials=1, callbacks=[tracked])
optuna.create_study().optimize(objective, n_trials=1, callbacks=[trial_of("told afterwards")])
"""
    )
    assert done.code == 0, done.err
    found = runs(store_uri)
    tracked, told = found["tracked"], found["told afterwards"]
    assert our_tags(tracked)[Tag.STATUS] == "measured"
    assert ours(tracked)[Metric.DURATION_S] > 0.4
    assert tracked.data.params.keys() >= {
        "x",
        Param.EVIDENCE_SHA256 + ".2",
    }  # taken up by the callback
    assert ours(told)[Metric.DURATION_S] < 0.4
    assert ours(told).get(Metric.ENERGY_KWH) != 0
    assert spooled(environment) == []


def test_an_evaluation_is_measured_and_its_data_is_on_record(
    program: Program, store_uri: str
) -> None:
    done = program(
        """
import mlflow, pandas
data = pandas.DataFrame({"x": range(30), "y": range(30), "p": range(30)})
with mlflow.start_run(run_name="evaluation"):
    mlflow.models.evaluate(
        data=mlflow.data.from_pandas(data, targets="y", predictions="p", name="held out"),
        predictions=None, model_type="regressor",
    )
"""
    )
    assert done.code == 0, done.err
    run = runs(store_uri)["evaluation"]
    assert our_tags(run)[Tag.STATUS] == "measured"
    (listed,) = json.loads(our_tags(run)[Tag.DATASETS])
    assert (listed["name"], listed["rows"]) == ("held out", 30)


@pytest.fixture
def kernel(environment: dict[str, str], work: Path) -> Iterator[KernelManager]:
    """A Jupyter kernel as a notebook server starts one."""
    manager = KernelManager()
    manager.start_kernel(env=environment, cwd=str(work))
    yield manager
    if manager.is_alive():
        manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


def cell(client: Any, source: str, when_printed: Callable[[], None] = lambda: None) -> str:
    """Run one cell to its end: ``ok`` or the name of the exception."""

    def watch(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream" and "working" in message["content"]["text"]:
            when_printed()

    reply = client.execute_interactive(source, timeout=120, output_hook=watch, allow_stdin=False)
    content = reply["content"]
    return str(content.get("ename") or content["status"])


def test_in_a_notebook_failed_and_interrupted_cells_are_no_end_of_the_run(
    kernel: KernelManager, store_uri: str, environment: dict[str, str]
) -> None:
    client = kernel.client()
    client.start_channels()
    client.wait_for_ready(timeout=120)
    assert cell(client, BURN + "import mlflow\nrun = mlflow.start_run(run_name='notebook')") == "ok"
    assert cell(client, "1 / 0") == "ZeroDivisionError"
    endless = (
        "with mlflow.start_run(nested=True, run_name='interrupted'):\n"
        "    burn(0.2)\n"
        "    print('working')\n"
        "    while True: pass"
    )
    assert cell(client, endless, kernel.interrupt_kernel) == "KeyboardInterrupt"
    assert cell(client, "burn(0.2)") == "ok"
    kernel.shutdown_kernel(now=False)
    client.stop_channels()
    found = runs(store_uri)
    assert found["interrupted"].info.status == "FAILED"
    assert our_tags(found["interrupted"])[Tag.EXIT] == "failed"
    assert our_tags(found["notebook"])[Tag.EXIT] == "process-exit"
    assert all(ours(run)[Metric.ENERGY_KWH] > 0 for run in found.values())
    assert spooled(environment) == []


def test_a_notebook_whose_kernel_is_killed_and_restarted_goes_on_and_recover_completes_the_lost_run(
    kernel: KernelManager, store_uri: str, environment: dict[str, str], program: Program
) -> None:
    start = BURN + "import mlflow\nrun = mlflow.start_run(run_name='{}')\nburn(1.2)"
    for name in ("lost", "after the restart"):
        client = kernel.client()
        client.start_channels()
        client.wait_for_ready(timeout=120)
        assert cell(client, start.format(name)) == "ok"
        client.stop_channels()
        if name == "lost":
            kernel.restart_kernel(now=True)  # as the menu does: SIGKILL
    assert len(spooled(environment)) == 2
    kernel.shutdown_kernel(now=False)
    (left,) = spooled(environment)
    lost = runs(store_uri)["lost"]
    assert lost.info.status == "RUNNING"
    assert left.name.startswith(lost.info.run_id)
    recovered = command(program, "recover", "--end-runs")
    assert recovered.code == 0, recovered.out
    found = runs(store_uri)
    assert our_tags(found["lost"])[Tag.STATUS] == "truncated"
    assert our_tags(found["after the restart"])[Tag.EXIT] == "process-exit"
    assert all(ours(run)[Metric.ENERGY_KWH] > 0 for run in found.values())
    assert spooled(environment) == []
