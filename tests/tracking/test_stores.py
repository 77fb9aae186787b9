"""The ways a program starts and ends runs, and a program that is killed, with every kind of store."""

from __future__ import annotations

import hashlib
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from mlflow_carbon.schema import Artifact, Metric, Param, Tag
from tests.tracking.conftest import Finished, our_tags, ours
from tests.tracking.test_processes import BURN, command, runs, spooled

Program = Callable[..., Finished]


@dataclass(frozen=True)
class Store:
    """Where a program logs to, and what its environment needs for that."""

    uri: str
    needs: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {"MLFLOW_TRACKING_URI": self.uri, **self.needs}


@pytest.fixture(params=["sqlite", "postgresql", "server", "server-with-basic-auth", "file-store"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """One store of each kind; this process may read it too."""
    made = {
        "sqlite": lambda: Store(request.getfixturevalue("store_uri")),
        "postgresql": lambda: Store(request.getfixturevalue("postgres_uri")),
        "server": lambda: Store(request.getfixturevalue("server").uri),
        "server-with-basic-auth": lambda: Store(
            request.getfixturevalue("guarded_server").uri,
            {
                "MLFLOW_TRACKING_USERNAME": "admin",
                "MLFLOW_TRACKING_PASSWORD": "correct-horse-battery",
            },
        ),
        "file-store": lambda: Store(
            (tmp_path / "mlruns").as_uri(), {"MLFLOW_ALLOW_FILE_STORE": "true"}
        ),
    }[request.param]()
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    client = MlflowClient(made.uri)
    if client.get_experiment_by_name("tests") is None:
        served = made.uri.startswith("http")
        client.create_experiment("tests", None if served else (tmp_path / "kept").as_uri())
    return made


WAYS = (
    BURN
    + """
from mlflow import log_metric, start_run
import mlflow, os, threading
from mlflow import MlflowClient

client = MlflowClient()
experiment = client.get_experiment_by_name("tests").experiment_id

def create(name, **how):
    return client.create_run(experiment, run_name=name, **how).info.run_id

with start_run(run_name="fluent"):
    log_metric("loss", 0.5)
    burn(0.1)
with start_run(run_name="parent"):
    burn(0.05)
    with start_run(run_name="child", nested=True):
        burn(0.1)
with start_run(run_name="resumed") as run:
    burn(0.1)
with start_run(run_id=run.info.run_id):
    burn(0.1)
try:
    with start_run(run_name="failed"):
        burn(0.1)
        raise ZeroDivisionError
except ZeroDivisionError:
    pass

by_client = create("client")
burn(0.1)
client.log_metric(by_client, "loss", 0.5)
client.set_terminated(by_client)
updated = create("updated")
burn(0.1)
client.update_run(updated, status="KILLED")
past = create("afterwards", start_time=int((time.time() - 3600) * 1000))
client.set_terminated(past)

def work(name):
    mine = create(name)
    burn(0.2)
    client.set_terminated(mine)

threads = [threading.Thread(target=work, args=(f"thread {i}",)) for i in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()

with start_run(run_name="asynchronous"):
    for step in range(5):
        log_metric("loss", step, step=step, synchronous=False)
    burn(0.1)

elsewhere = MlflowClient(os.environ["OTHER"])
there = elsewhere.create_run("0", run_name="elsewhere").info.run_id
burn(0.1)
elsewhere.set_terminated(there)

client.log_metric(os.environ["HANDED"], "loss", 0.5)
burn(1.2)
client.log_metric(os.environ["HANDED"], "loss", 0.4)
start_run(run_name="left open")
burn(0.1)
"""
)

SEEN = {
    "fluent": ("FINISHED", "measured", "finished"),
    "parent": ("FINISHED", "measured", "finished"),
    "child": ("FINISHED", "measured", "finished"),
    "resumed": ("FINISHED", "measured", "finished"),
    "failed": ("FAILED", "measured", "failed"),
    "client": ("FINISHED", "measured", "finished"),
    "updated": ("KILLED", "measured", "killed"),
    "afterwards": ("FINISHED", "not-measured", "finished"),
    "thread 0": ("FINISHED", "measured", "finished"),
    "thread 1": ("FINISHED", "measured", "finished"),
    "asynchronous": ("FINISHED", "measured", "finished"),
    "handed over": ("RUNNING", "partial", "process-exit"),  # an hour before us nobody watched
    "left open": ("FINISHED", "measured", "process-exit"),
    "elsewhere": ("FINISHED", "measured", "finished"),
}
"""Run -> its status in MLflow, ours, and how we saw it end."""


@pytest.mark.parametrize(
    "store", ["sqlite", "postgresql", "server", "file-store"], indirect=True
)  # behind basic-auth every call takes 0.2 s, so one run there must do (below)
def test_every_way_to_use_runs_is_measured_once_in_every_store(
    program: Program,
    store: Store,
    environment: dict[str, str],
    empty_store: Path,
    tmp_path: Path,
) -> None:
    client = MlflowClient(store.uri)
    other = f"sqlite:///{shutil.copy(empty_store, tmp_path / 'other.db')}"
    experiment = client.get_experiment_by_name("tests").experiment_id
    an_hour_ago_ms = int((time.time() - 3600) * 1000)
    handed = client.create_run(experiment, start_time=an_hour_ago_ms, run_name="handed over")
    done = program(
        WAYS,
        **store.environment,
        OTHER=other,
        HANDED=handed.info.run_id,
        MLFLOW_CARBON_SAMPLE_PERIOD_S="1",
    )
    assert done.code == 0, done.err
    assert "mlflow-carbon" not in done.err
    found = runs(store.uri) | runs(other)
    assert {name: seen(found[name]) for name in SEEN} == SEEN
    for name in SEEN.keys() - {"afterwards"}:
        assert ours(found[name])[Metric.ENERGY_KWH] > 0, name
        uri = other if name == "elsewhere" else store.uri
        records = MlflowClient(uri).get_metric_history(found[name].info.run_id, Metric.ENERGY_KWH)
        assert len(records) == (2 if name == "resumed" else 1), name
    assert Metric.ENERGY_KWH not in ours(found["afterwards"])
    assert our_tags(found["parent"])[Tag.TREE] == "inclusive"
    assert len(client.get_metric_history(found["asynchronous"].info.run_id, "loss")) == 5
    evidence = client.download_artifacts(
        found["fluent"].info.run_id, Artifact.EVIDENCE, str(tmp_path)
    )
    sealed = hashlib.sha256(Path(evidence).read_bytes()).hexdigest()
    assert found["fluent"].data.params[Param.EVIDENCE_SHA256] == sealed
    assert spooled(environment) == []


def seen(run: Run) -> tuple[str, str, str]:
    """Status in MLflow, ours, and how we saw the run end."""
    return run.info.status, our_tags(run).get(Tag.STATUS, ""), our_tags(run).get(Tag.EXIT, "")


def test_a_program_that_is_killed_in_its_second_run_loses_neither_in_any_store(
    program: Program, store: Store, environment: dict[str, str]
) -> None:
    done = program(
        BURN
        + """
import mlflow, os, signal
with mlflow.start_run(run_name="before"):
    burn(0.3)
mlflow.start_run(run_name="killed")
mlflow.log_metric("loss", 0.1)
burn(0.5)
os.kill(os.getpid(), signal.SIGKILL)
""",
        **store.environment,
    )
    assert done.code == -signal.SIGKILL, done.err
    assert len(spooled(environment)) == 1
    recovered = command(program, "recover", "--end-runs", **store.environment)
    assert recovered.code == 0, recovered.out + recovered.err
    found = runs(store.uri)
    run = found["killed"]
    assert seen(found["before"])[0::2] == ("FINISHED", "finished")
    assert ours(found["before"])[Metric.ENERGY_KWH] > 0
    assert seen(run) == ("KILLED", "truncated", "recovered")
    assert ours(run)[Metric.ENERGY_KWH] > 0
    assert ours(run)[Metric.DURATION_S] > 0.3
    assert Param.EVIDENCE_SHA256 in run.data.params
    assert spooled(environment) == []
