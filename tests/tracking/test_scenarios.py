"""The ways programs use MLflow: attached, asynchronous, tuned, launched, spread over processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

import mlflow_carbon
from mlflow_carbon.errors import DataError, SettingsError
from mlflow_carbon.schema import InputTag, Metric, Param, Tag
from tests.tracking.conftest import Finished, burn, our_tags, ours
from tests.tracking.test_processes import BURN, command, runs, spooled

Program = Callable[..., Finished]


def unwatched_run(client: MlflowClient) -> str:
    """A run that was made where nobody measured."""
    mlflow_carbon.disable()
    run = client.create_run(client.get_experiment_by_name("tests").experiment_id)
    mlflow_carbon.enable(sample_period_s=0.05, region="FR")
    return run.info.run_id


def test_a_run_attached_by_its_id_counts_from_the_first_to_the_last_log_call(
    measuring: MlflowClient,
) -> None:
    run_id = unwatched_run(measuring)
    began = time.monotonic()
    measuring.log_metric(run_id, "loss", 0.5)
    burn(1.2)
    measuring.log_metric(run_id, "loss", 0.4)
    worked_s = time.monotonic() - began
    burn(1.0)  # not the run's: nothing was logged to it any more
    mlflow_carbon.disable()
    run = measuring.get_run(run_id)
    assert 1.1 < ours(run)[Metric.DURATION_S] * ours(run)[Metric.COVERAGE] <= worked_s
    assert ours(run)[Metric.ENERGY_KWH] > 0
    assert our_tags(run)[Tag.EXIT] == "process-exit"


def test_a_run_attached_and_ended_here_counts_to_its_end(measuring: MlflowClient) -> None:
    run_id = unwatched_run(measuring)
    measuring.log_metric(run_id, "loss", 0.5)
    burn(0.3)
    measuring.set_terminated(run_id)
    run = measuring.get_run(run_id)
    assert our_tags(run)[Tag.EXIT] == "finished"
    assert ours(run)[Metric.ENERGY_KWH] > 0


@pytest.mark.filterwarnings("ignore::FutureWarning:sklearn")
@pytest.mark.filterwarnings("ignore::UserWarning:mlflow")
def test_tuning_children_written_after_the_fact_are_unknown_and_the_search_has_the_energy(
    program: Program, store_uri: str
) -> None:
    done = program(
        """
import mlflow
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier
mlflow.sklearn.autolog(log_models=False, silent=True)
GridSearchCV(DecisionTreeClassifier(), {"max_depth": [1, 2]}, cv=2).fit(*load_iris(return_X_y=True))
"""
    )
    assert done.code == 0, done.err
    found = list(runs(store_uri).values())
    (parent,) = [r for r in found if "mlflow.parentRunId" not in r.data.tags]
    children = [r for r in found if "mlflow.parentRunId" in r.data.tags]
    assert our_tags(parent)[Tag.STATUS] == "measured"
    assert our_tags(parent)[Tag.TREE] == "inclusive"
    assert ours(parent)[Metric.ENERGY_KWH] > 0
    assert json.loads(our_tags(parent)[Tag.DATASETS])[0]["rows"] == 150
    assert len(children) == 2
    for child in children:
        assert our_tags(child)[Tag.STATUS] in ("not-measured", "partial")
        assert ours(child).get(Metric.ENERGY_KWH) != 0
        assert ours(child)[Metric.COVERAGE] < 0.9


def test_mlflow_run_measures_in_the_child_whichever_way_it_logs(
    program: Program, store_uri: str, environment: dict[str, str], tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    python = sys.executable
    (project / "MLproject").write_text(
        "name: both\nentry_points:\n"
        f"  fluent: {{command: '{python} fluent.py'}}\n"
        f"  client: {{command: '{python} client.py'}}\n"
    )
    (project / "fluent.py").write_text(
        BURN
        + "import mlflow\nwith mlflow.start_run():\n    mlflow.log_metric('x', 1)\n    burn(0.3)\n"
    )
    (project / "client.py").write_text(
        BURN
        + "import mlflow, os\nclient = mlflow.MlflowClient()\n"
        + "client.log_metric(os.environ['MLFLOW_RUN_ID'], 'x', 1)\nburn(0.3)\n"
    )
    done = program(
        f"""
import mlflow
for entry in ("fluent", "client"):
    mlflow.projects.run({str(project)!r}, entry, env_manager="local", experiment_name="tests", run_name=entry)
"""
    )
    assert done.code == 0, done.err
    found = runs(store_uri)
    for entry in ("fluent", "client"):
        assert found[entry].info.status == "FINISHED"
        assert ours(found[entry])[Metric.ENERGY_KWH] > 0, entry
        assert our_tags(found[entry])[Tag.STATUS] == "measured", our_tags(found[entry])
        assert Param.EVIDENCE_SHA256 + ".2" not in found[entry].data.params
    assert spooled(environment) == []


def test_workers_of_joblib_and_spawned_processes_do_not_count_the_run_again(
    program: Program, store_uri: str, environment: dict[str, str], work: Path
) -> None:
    (work / "jobs.py").write_text(
        "def job(run_id):\n"
        "    import mlflow\n"
        "    mlflow.MlflowClient().log_metric(run_id, 'from_worker', 1)\n"
    )
    done = program(
        """
import multiprocessing, os, sys
sys.path.insert(0, os.getcwd())
import joblib, mlflow
from jobs import job
if __name__ == "__main__":
    with mlflow.start_run(run_name="spread") as run:
        worker = multiprocessing.get_context("spawn").Process(target=job, args=(run.info.run_id,))
        worker.start()
        joblib.Parallel(n_jobs=2)([joblib.delayed(job)(run.info.run_id)] * 2)
        worker.join()
        assert worker.exitcode == 0
""",
        PYTHONPATH=str(work),
    )
    assert done.code == 0, done.err
    run = runs(store_uri)["spread"]
    history = MlflowClient(store_uri).get_metric_history(run.info.run_id, Metric.ENERGY_KWH)
    assert run.data.metrics["from_worker"] == 1
    assert len(history) == 1
    assert spooled(environment) == []


def test_measure_records_any_program_and_returns_its_exit_code(
    program: Program, store_uri: str
) -> None:
    done = command(
        program,
        "measure", "--experiment", "tests", "--run-name", "any", "--",
        "/bin/sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exit 7",
    )  # fmt: skip
    assert done.code == 7, done.err
    run = runs(store_uri)["any"]
    assert (run.info.status, our_tags(run)[Tag.EXIT]) == ("FAILED", "failed")
    assert ours(run)[Metric.CPU_ENERGY_KWH] > 0
    missing = command(program, "measure", "--", "no-such-program")
    assert missing.code == 2
    assert "there is no such program" in missing.err
    assert "Traceback" not in missing.err


def test_a_script_that_names_no_interpreter_is_the_shells_and_what_cannot_start_is_said(
    program: Program, store_uri: str, work: Path
) -> None:
    script = work / "train"
    script.write_text("echo $1\nexit 4\n")
    refused = command(program, "measure", "--", str(script))
    assert (refused.code, "chmod +x" in refused.err) == (2, True)
    script.chmod(0o700)
    done = command(program, "measure", "--run-name", "plain", "--", str(script), "a b")
    assert (done.code, done.out) == (4, "a b\n"), done.err
    assert our_tags(runs(store_uri)["plain"])[Tag.EXIT] == "failed"
    script.write_text("#!/no/such/interpreter\n")
    broken = command(program, "measure", "--", str(script))
    assert broken.code == 2
    assert "it cannot be started" in broken.err
    assert "Traceback" not in broken.err


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGINT", "SIGQUIT"])
def test_what_a_scheduler_tells_the_launcher_reaches_the_program_and_the_run_is_recorded(
    store_uri: str, environment: dict[str, str], work: Path, name: str
) -> None:
    trainer = (
        "import signal, sys, time\n"
        f"signal.signal(signal.{name}, lambda *_: (print('saved', flush=True), sys.exit(5)))\n"
        # In short naps: a signal between two lines of Python is heeded only when the nap after it is over.
        "print('up', flush=True)\nfor _ in range(600): time.sleep(0.1)\n"
    )
    # What nohup or a shell has set to be ignored stays ignored, in the tests' own process too.
    heeded = f"import signal\nif signal.getsignal(signal.{name}) is signal.SIG_IGN: signal.signal(signal.{name}, signal.SIG_DFL)\n"
    start = f"{heeded}from mlflow_carbon.cli.main import main\nmain()"
    launcher = subprocess.Popen(
        [
            sys.executable,
            "-c",
            start,
            "measure",
            "--run-name",
            name,
            "--",
            sys.executable,
            "-c",
            trainer,
        ],
        env=environment,
        cwd=work,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # no terminal, as under a scheduler
    )
    assert launcher.stdout is not None
    assert launcher.stdout.readline() == "up\n"
    launcher.send_signal(getattr(signal, name))
    out, _ = launcher.communicate(timeout=60)
    assert (launcher.returncode, out) == (5, "saved\n")
    run = runs(store_uri)[name]
    assert (run.info.status, our_tags(run)[Tag.EXIT]) == ("FAILED", "failed")
    assert ours(run)[Metric.ENERGY_KWH] > 0


# Datasets.


def inputs_of(client: MlflowClient, run_id: str) -> dict[str, dict[str, str]]:
    """Input tags by dataset name."""
    run = client.get_run(run_id)
    return {
        i.dataset.name: {tag.key: tag.value for tag in i.tags} for i in run.inputs.dataset_inputs
    }


def test_a_dataset_is_on_record_with_the_hash_of_its_content_and_its_card(
    measuring: MlflowClient, tmp_path: Path
) -> None:
    cards = tmp_path / "cards"
    cards.mkdir()
    (cards / "loans.dataset.yaml").write_text(
        "name: loans\nlicense: CC-BY-4.0\norigin: https://example.org/loans\n"
        "sensitive: none\ndeclared_by: Ada\n"
    )
    mlflow_carbon.enable(dataset_cards=cards)
    frame = pd.DataFrame({"a": range(50), "b": [float(i) for i in range(50)]})
    with mlflow.start_run() as active:
        mlflow.log_input(mlflow.data.from_pandas(frame, name="loans"), context="training")
    tags = inputs_of(measuring, active.info.run_id)["loans"]
    assert len(tags[InputTag.SHA256]) == 64
    assert (tags[InputTag.HASH_SCOPE], tags[InputTag.ROWS]) == ("full", "50")
    assert (tags[InputTag.LICENSE], tags[InputTag.DECLARED_BY]) == ("CC-BY-4.0", "Ada")
    run = measuring.get_run(active.info.run_id)
    profile = json.loads(run.inputs.dataset_inputs[0].dataset.profile)
    assert profile[InputTag.LICENSE] == "CC-BY-4.0"
    (listed,) = json.loads(our_tags(run)[Tag.DATASETS])
    assert listed["sha256"] == tags[InputTag.SHA256]
    assert listed["license"] == "CC-BY-4.0"


def test_what_the_code_declares_is_found_by_the_frame_itself(measuring: MlflowClient) -> None:
    array = np.arange(20.0).reshape(10, 2)
    mlflow_carbon.describe_dataset(array, license="MIT", origin="a generator")
    with mlflow.start_run() as active:
        mlflow.log_input(mlflow.data.from_numpy(array, name="made"), context="training")
        mlflow.log_input(mlflow.data.from_numpy(array + 1, name="other"), context="eval")
    found = inputs_of(measuring, active.info.run_id)
    assert found["made"][InputTag.LICENSE] == "MIT"
    assert found["made"][InputTag.DECLARED_BY] == "the training code"
    assert InputTag.LICENSE not in found["other"]


def test_a_dataset_in_two_roles_is_a_conflict_although_mlflow_keeps_only_the_first(
    measuring: MlflowClient,
) -> None:
    frame = pd.DataFrame({"a": range(10)})
    with mlflow.start_run() as active:
        for context in ("training", "testing"):
            mlflow.log_input(mlflow.data.from_pandas(frame, name="same"), context=context)
    run = measuring.get_run(active.info.run_id)
    assert len(run.inputs.dataset_inputs) == 1
    assert json.loads(our_tags(run)[Tag.DATA_CONFLICT]) == ["same"]
    contexts = [d["context"] for d in json.loads(our_tags(run)[Tag.DATASETS])]
    assert contexts == ["training", "testing"]


def test_a_mistyped_setting_or_field_in_code_is_refused_with_a_suggestion() -> None:
    with pytest.raises(SettingsError, match="Did you mean 'region'"):
        mlflow_carbon.enable(regoin="FR")
    with pytest.raises(DataError, match="licence"):
        mlflow_carbon.describe_dataset("wine", licence="MIT")
