"""Whole programs with the plugin installed and no line of ours: how they end, fork, die and are recovered."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from mlflow_carbon.schema import Artifact, Metric, Param, Tag
from tests.tracking.conftest import Finished, our_tags, ours

Program = Callable[..., Finished]

BURN = """
import time
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
"""


def runs(uri: str) -> dict[str, Run]:
    """Every run of the store, by name."""
    client = MlflowClient(uri)
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    return {run.info.run_name: run for run in found}


def spooled(environment: dict[str, str]) -> list[Path]:
    """What is left in the spool."""
    return sorted(Path(environment["XDG_STATE_HOME"]).rglob("*.run"))


def test_a_script_that_knows_nothing_of_us_is_measured_and_its_folder_stays_clean(
    interpreter: Program, store_uri: str, environment: dict[str, str], work: Path
) -> None:
    done = interpreter(
        BURN
        + """
from mlflow import start_run, log_metric
with start_run(run_name="plain"):
    log_metric("loss", 0.1)
    burn(0.3)
"""
    )
    assert done.code == 0, done.err
    run = runs(store_uri)["plain"]
    assert our_tags(run)[Tag.STATUS] == "measured"
    assert ours(run)[Metric.ENERGY_KWH] > 0
    assert [path for path in work.rglob("*") if path.is_file()] == []
    assert spooled(environment) == []
    assert "mlflow-carbon" not in done.err


def test_switched_off_nothing_is_wrapped_and_nothing_is_written(
    program: Program, store_uri: str
) -> None:
    done = program(
        """
import mlflow
from mlflow.tracking._tracking_service.client import TrackingServiceClient
with mlflow.start_run(run_name="off"):
    assert "mlflow_carbon" not in TrackingServiceClient.set_terminated.__code__.co_filename
""",
        MLFLOW_CARBON_ENABLED="false",
    )
    assert done.code == 0, done.err
    run = runs(store_uri)["off"]
    assert (ours(run), our_tags(run)) == ({}, {})


def test_how_a_script_ended_is_told_as_we_saw_it(program: Program, store_uri: str) -> None:
    died = program(
        BURN
        + "import mlflow\nmlflow.start_run(run_name='died')\nburn(0.1)\nraise ValueError('bad data')"
    )
    left = program(
        BURN + "import mlflow, sys\nmlflow.start_run(run_name='left open')\nburn(0.1)\nsys.exit(0)"
    )
    within = program(
        BURN + "import mlflow, sys\nwith mlflow.start_run(run_name='within'):\n"
        "    burn(0.1)\n    sys.exit(3)"
    )
    found = runs(store_uri)
    assert (died.code, left.code, within.code) == (1, 0, 3)
    assert (found["within"].info.status, our_tags(found["within"])[Tag.EXIT]) == (
        "FAILED",
        "failed",
    )
    assert "ValueError: bad data" in died.err
    assert found["died"].info.status == "FINISHED"  # MLflow's view, which we do not share
    assert our_tags(found["died"])[Tag.EXIT] == "exception"
    assert our_tags(found["left open"])[Tag.EXIT] == "process-exit"
    assert all(ours(found[name])[Metric.ENERGY_KWH] > 0 for name in ("died", "left open", "within"))


@pytest.mark.parametrize(
    ("by", "published"), [(signal.SIGKILL, False), (signal.SIGKILL, True), (signal.SIGTERM, False)]
)
def test_a_killed_run_keeps_its_energy_and_is_completed_by_recover(
    program: Program, store_uri: str, environment: dict[str, str], by: int, published: bool
) -> None:
    done = program(
        BURN
        + f"""
import mlflow, os, signal
run = mlflow.start_run(run_name="killed")
mlflow.log_metric("loss", 0.1)
burn(1.0)
while {published} and "carbon/energy_kwh" not in mlflow.get_run(run.info.run_id).data.metrics:
    burn(0.1)
os.kill(os.getpid(), {int(by)})
""",
        MLFLOW_CARBON_PUBLISH_PERIOD_S="0.5" if published else "60",
    )
    assert done.code == -by
    before = ours(runs(store_uri)["killed"])
    assert bool(before) is published
    assert len(spooled(environment)) == 1

    recovered = command(program, "recover", "--end-runs")
    assert recovered.code == 0, recovered.err
    assert "delivered" in recovered.out
    run = runs(store_uri)["killed"]
    assert run.info.status == "KILLED"
    assert our_tags(run)[Tag.STATUS] == "truncated"
    assert our_tags(run)[Tag.EXIT] == "recovered"
    assert ours(run)[Metric.ENERGY_KWH] >= before.get(Metric.ENERGY_KWH, 0.0)
    seconds = (run.info.end_time - run.info.start_time) / 1000
    assert 0.7 < ours(run)[Metric.DURATION_S] < seconds + 0.1  # once, also what had been published
    assert (
        seconds < ours(run)[Metric.DURATION_S] + 5
    )  # to when it died, not to when that was noticed
    assert run.data.params[Param.EVIDENCE_SHA256]
    assert spooled(environment) == []
    assert "Nothing to recover" in command(program, "recover").out


def test_what_was_left_in_the_folder_for_temporary_files_is_recovered_too(
    program: Program, store_uri: str, environment: dict[str, str], tmp_path: Path
) -> None:
    """As where the home is read-only: there is no folder of its own for the spool."""
    (tmp_path / "no folder").write_text("")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    places = {"XDG_STATE_HOME": str(tmp_path / "no folder"), "TMPDIR": str(temporary)}
    done = program(
        BURN
        + "import mlflow, os\nmlflow.start_run(run_name='killed')\nmlflow.log_metric('loss', 0.1)\n"
        "burn(0.5)\nos.kill(os.getpid(), 9)",
        **places,
    )
    assert done.code == -9
    assert len(list(temporary.rglob("*.run"))) == 1
    for changed in ({}, {"XDG_STATE_HOME": environment["XDG_STATE_HOME"]}):
        recovered = command(program, "recover", **(places | changed))
        assert recovered.code == 0, recovered.err
    assert list(temporary.rglob("*.run")) == []
    assert our_tags(runs(store_uri)["killed"])[Tag.STATUS] == "truncated"


def command(program: Program, *arguments: str, **changes: str) -> Finished:
    """The command line, in the same environment as the scripts."""
    return program(
        f"import sys\nfrom mlflow_carbon.cli.main import main\nsys.argv = ['mlflow-carbon', *{arguments!r}]\nmain()",
        **changes,
    )


def test_children_of_a_fork_do_not_measure_the_parents_run_again(
    program: Program, store_uri: str, environment: dict[str, str]
) -> None:
    done = program(
        BURN
        + """
import mlflow, os, sys
from mlflow import MlflowClient
client = MlflowClient()
run = client.create_run(client.get_experiment_by_name("tests").experiment_id, run_name="parent")
child = os.fork()
if child == 0:
    burn(0.1)
    client.log_metric(run.info.run_id, "from_child", 1)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
burn(0.2)
client.set_terminated(run.info.run_id)
"""
    )
    assert done.code == 0, done.err
    run = runs(store_uri)["parent"]
    history = MlflowClient(store_uri).get_metric_history(run.info.run_id, Metric.ENERGY_KWH)
    assert run.data.metrics["from_child"] == 1
    assert len(history) == 1
    assert our_tags(run)[Tag.EXIT] == "finished"
    assert spooled(environment) == []


def test_ranks_that_share_a_run_count_it_once(
    program: Program, store_uri: str, environment: dict[str, str]
) -> None:
    done = program(
        BURN
        + """
import mlflow, os, subprocess, sys
run = mlflow.start_run(run_name="ranks")
rank = "import mlflow, time\\nwith mlflow.start_run():\\n    mlflow.log_metric('rank', 1)\\n"
env = dict(os.environ, MLFLOW_RUN_ID=run.info.run_id)
ranks = [subprocess.Popen([sys.executable, "-c", rank], env=env) for _ in range(2)]
assert [rank.wait() for rank in ranks] == [0, 0]
burn(0.1)
mlflow.end_run()
"""
    )
    assert done.code == 0, done.err
    run = runs(store_uri)["ranks"]
    history = MlflowClient(store_uri).get_metric_history(run.info.run_id, Metric.ENERGY_KWH)
    assert len(history) == 1
    assert Param.EVIDENCE_SHA256 + ".2" not in run.data.params
    assert spooled(environment) == []


HURT = """
import mlflow, pandas as pd
from mlflow.data.pandas_dataset import PandasDataset

class Hostile(PandasDataset):
    armed = False
    def __getattribute__(self, name):
        if object.__getattribute__(self, "__class__").armed and name in ("df", "_df", "name", "__dict__"):
            raise RuntimeError("no")
        return object.__getattribute__(self, name)

with mlflow.start_run(run_name="hurt"):
    mlflow.log_metric("loss", 0.1)
    data = mlflow.data.from_pandas(pd.DataFrame({"a": [1, 2]}), name="frame")
    data.__class__ = Hostile
    entity = data._to_mlflow_entity()
    Hostile.armed = True
    from mlflow.entities import DatasetInput
    mlflow.MlflowClient().log_inputs(mlflow.active_run().info.run_id, [DatasetInput(entity)])
"""


@pytest.mark.parametrize(
    ("what", "changes", "lines"),
    [
        ("a setting nobody can use", {"MLFLOW_CARBON_PUE": "much"}, ""),
        (
            "no home and a spool that is a file",
            {"HOME": "/dev/null", "XDG_STATE_HOME": "/dev/null"},
            "",
        ),
        ("a spool folder that cannot be made", {"MLFLOW_CARBON_SPOOL_DIR": "/proc/none"}, ""),
        ("a disk full for the spool", {"MLFLOW_CARBON_SPOOL_DIR": "/dev/full/x"}, ""),
        (
            "a store that refuses our writes",
            {},
            "from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as S\n"
            "original = S.log_batch\n"
            "def refuse(self, run_id, metrics, params, tags):\n"
            "    if any(m.key.startswith('carbon/') for m in metrics):\n"
            "        raise RuntimeError('quota')\n"
            "    return original(self, run_id, metrics, params, tags)\n"
            "S.log_batch = refuse\n",
        ),
    ],
    ids=lambda value: (
        value.replace(" ", "-") if isinstance(value, str) and "\n" not in value else ""
    ),
)
def test_nothing_of_ours_hurts_the_run(
    program: Program, store_uri: str, what: str, changes: dict[str, str], lines: str
) -> None:
    done = program(lines + HURT, **changes)
    assert done.code == 0, f"{what}: {done.err}"
    run = runs(store_uri)["hurt"]
    assert run.info.status == "FINISHED"
    assert run.data.metrics["loss"] == 0.1
    assert [
        i.dataset.name
        for i in MlflowClient(store_uri).get_run(run.info.run_id).inputs.dataset_inputs
    ] == ["frame"]
    assert "Traceback" not in done.err


def test_a_record_the_store_refused_is_delivered_later_with_the_same_seal(
    program: Program, store_uri: str, environment: dict[str, str], tmp_path: Path
) -> None:
    done = program(
        """
import mlflow
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository as R
def refuse(self, local_file, artifact_path=None):
    raise OSError("No space left on device")
R.log_artifact = refuse
with mlflow.start_run(run_name="late"):
    mlflow.log_metric("loss", 0.1)
"""
    )
    assert done.code == 0, done.err
    (left,) = spooled(environment)
    sealed = runs(store_uri)["late"].data.params[Param.EVIDENCE_SHA256]
    assert command(program, "recover").code == 0
    run = runs(store_uri)["late"]
    assert run.data.params[Param.EVIDENCE_SHA256] == sealed
    document = MlflowClient(store_uri).download_artifacts(
        run.info.run_id, Artifact.EVIDENCE, str(tmp_path)
    )
    assert json.loads(Path(document).read_text())["run_id"] == run.info.run_id
    assert not left.exists()


def test_a_record_that_comes_late_is_added_to_what_the_resumed_run_gained_meanwhile(
    program: Program, store_uri: str, environment: dict[str, str]
) -> None:
    """The first session cannot deliver; the run is resumed; then the first is recovered."""
    refused = program(
        BURN
        + """
import mlflow
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as S
original = S.log_batch
def refuse(self, run_id, metrics, params, tags):
    if any(p.key.startswith("mlflow_carbon") for p in params):
        raise RuntimeError("quota")
    return original(self, run_id, metrics, params, tags)
S.log_batch = refuse
with mlflow.start_run(run_name="twice") as run:
    burn(0.5)
print(run.info.run_id)
"""
    )
    run_id = refused.out.split()[-1]
    resumed = program(
        BURN + f"import mlflow\nwith mlflow.start_run(run_id={run_id!r}):\n    burn(0.3)\n"
    )
    assert (refused.code, resumed.code) == (0, 0), refused.err + resumed.err
    between = ours(runs(store_uri)["twice"])
    recovered = command(program, "recover")
    assert recovered.code == 0, recovered.out
    run = runs(store_uri)["twice"]
    assert ours(run)[Metric.ENERGY_KWH] > between[Metric.ENERGY_KWH]
    assert ours(run)[Metric.DURATION_S] > between[Metric.DURATION_S] + 0.4
    assert {Param.EVIDENCE_SHA256, Param.EVIDENCE_SHA256 + ".2"} <= run.data.params.keys()
    assert spooled(environment) == []


def test_a_seeded_script_draws_the_same_numbers_measured_or_not(program: Program) -> None:
    draw = """
import random, numpy, pandas, mlflow
random.seed(7)
numpy.random.seed(7)
with mlflow.start_run():
    frame = pandas.DataFrame({"a": range(1000)})
    mlflow.log_input(mlflow.data.from_pandas(frame), context="training")
print(random.random(), numpy.random.rand())
"""
    measured, alone = program(draw), program(draw, MLFLOW_CARBON_ENABLED="false")
    assert measured.out.splitlines()[-1] == alone.out.splitlines()[-1]


def test_a_project_sets_its_region_pue_and_labels_in_its_file_and_a_typing_error_is_named(
    program: Program, store_uri: str, work: Path
) -> None:
    file = work / "pyproject.toml"
    file.write_text(
        '[tool.mlflow-carbon]\nregion = "DE"\npue = 1.2\nproject = "credit"\nphase = "training"\n'
        'intended_use = "scoring"\nowner = "team-risk"\n'
    )
    script = BURN + "import mlflow\nwith mlflow.start_run(run_name={!r}):\n    burn(0.1)\n"
    told = program(script.format("told"), MLFLOW_CARBON_REGION="")
    over = program(
        script.format("over"),
        MLFLOW_CARBON_REGION="FR",
        MLFLOW_CARBON_OWNER="Ada",
    )
    file.write_text('[tool.mlflow-carbon]\nregoin = "DE"\n')
    mistyped = program(script.format("mistyped"))
    assert (told.code, over.code, mistyped.code) == (0, 0, 0)
    found = runs(store_uri)
    labels = (Tag.REGION, Tag.PUE, Tag.PROJECT, Tag.PHASE, Tag.INTENDED_USE, Tag.OWNER)
    in_file = ["DE", "1.2", "credit", "training", "scoring", "team-risk"]
    assert [our_tags(found["told"])[name] for name in labels] == in_file
    assert [our_tags(found["over"])[name] for name in labels] == ["FR", *in_file[1:-1], "Ada"]
    assert ours(found["mistyped"]) == {}
    assert "Did you mean 'region'?" in mistyped.err
