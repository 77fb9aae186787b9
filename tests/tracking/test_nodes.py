"""One run on several hosts: each host's part is kept, the run has the sum, and who is missing is shown."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.tracking._tracking_service.client import TrackingServiceClient

from mlflow_carbon.schema import Metric, Param, Tag
from mlflow_carbon.settings import Settings
from mlflow_carbon.tracking import several
from mlflow_carbon.tracking.desk import Desk
from mlflow_carbon.tracking.nodes import EARLIER, Part, earlier, parts_on, tag_of, together
from mlflow_carbon.tracking.ranks import Place, place
from mlflow_carbon.tracking.record import Record
from tests.tracking.conftest import Finished, our_tags, ours
from tests.tracking.test_facts import facts

TORCHRUN = {"GROUP_RANK": "1", "GROUP_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "j", "RANK": "8"}
SRUN = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
    "SLURM_NODEID": "3",
    "SLURM_STEP_NUM_NODES": "4",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "9",
    "OMPI_COMM_WORLD_SIZE": "10",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "PMIX_NAMESPACE": "prterun-1",
}


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({}, None),
        (TORCHRUN, Place("host-a", 2, 1, "j")),
        ({**TORCHRUN, "GROUP_WORLD_SIZE": "1"}, None),
        (SRUN, Place("host-a", 4, 3, "77.0")),
        ({"SLURM_JOB_ID": "77", "SLURM_NODEID": "0", "SLURM_JOB_NUM_NODES": "4"}, None),
        (OPEN_MPI, Place("host-a", 3, 2, "prterun-1")),
        ({"PMI_RANK": "0", "PMI_SIZE": "4", "MPI_LOCALNRANKS": "2"}, Place("host-a", 2, 0, "")),
        ({"PMI_RANK": "0", "PMI_SIZE": "4"}, None),
        ({"GROUP_WORLD_SIZE": "many", "GROUP_RANK": "-1"}, None),
    ],
)
def test_the_launcher_tells_which_of_how_many_hosts_this_is(
    told: Mapping[str, str], found: Place | None
) -> None:
    assert place(told, host="host a") == found


def test_the_users_own_word_wins_over_the_launcher() -> None:
    assert place(SRUN, host="a", node="b", nodes=2) == Place("b", 2, 3, "77.0")
    assert place({}, host="a", nodes=2) == Place("a", 2)


def part(
    joules: float, seconds: float, coverage: float = 1.0, grade: str = "A", job: str = ""
) -> Part:
    metrics = {
        Metric.ENERGY_KWH: joules,
        Metric.DURATION_S: seconds,
        Metric.COVERAGE: coverage,
        Metric.LARGEST_GAP_S: seconds / 10,
    }
    return Part(metrics, nodes=2, job=job, grade=grade, method="counter", status="measured")


def summed(parts: Mapping[str, Part]) -> Record:
    own = Record({}, {Tag.STATUS: "measured", Tag.GRADE: "A", Tag.METHOD: "counter"}, 0)
    return together(own, parts, step=7)


def test_the_parts_of_all_hosts_are_added_up_and_time_at_once_counts_once() -> None:
    record = summed({"a": part(3.0, 100.0), "b": part(5.0, 90.0, grade="B")})
    assert record.metrics[Metric.ENERGY_KWH] == 8.0
    assert record.metrics[Metric.DURATION_S] == 100.0
    assert record.metrics[Metric.COVERAGE] == pytest.approx(0.95)
    assert record.metrics[Metric.LARGEST_GAP_S] == 10.0
    assert json.loads(record.tags[Tag.NODES]) == {"expected": 2, "missing": 0}
    assert (record.tags[Tag.STATUS], record.tags[Tag.GRADE]) == ("measured", "B")
    assert json.loads(record.tags[Tag.NOT_MEASURED]) == {}


def test_a_host_that_gave_nothing_is_missing_and_lowers_coverage_status_and_grade() -> None:
    record = summed({"a": part(3.0, 100.0)})
    assert record.metrics[Metric.COVERAGE] == pytest.approx(0.5)
    assert json.loads(record.tags[Tag.NODES]) == {"expected": 2, "missing": 1}
    assert (record.tags[Tag.STATUS], record.tags[Tag.GRADE]) == ("partial", "C")
    assert "1 of 2 hosts" in json.loads(record.tags[Tag.NOT_MEASURED])["nodes"]


def test_a_run_taken_up_by_a_second_job_has_the_hosts_of_both_one_after_the_other() -> None:
    parts = {
        "a": part(3.0, 100.0, job="1"),
        "b": part(3.0, 100.0, job="1"),
        "c": part(1.0, 50.0, job="2"),
    }
    record = summed(parts)
    assert record.metrics[Metric.DURATION_S] == 150.0
    assert record.metrics[Metric.COVERAGE] == pytest.approx(250 / 300)
    assert json.loads(record.tags[Tag.NODES]) == {"expected": 4, "missing": 1}


def test_what_was_recorded_before_the_job_counts_as_energy_and_time_but_as_no_host() -> None:
    before = earlier({Tag.GRADE: "A"}, part(1.0, 10.0).metrics)
    assert before is not None
    parts = {EARLIER: before, "a": part(3.0, 100.0), "b": part(3.0, 100.0)}
    record = summed(parts)
    assert json.loads(record.tags[Tag.NODES]) == {"expected": 2, "missing": 0}
    assert record.metrics[Metric.ENERGY_KWH] == 7.0
    assert record.metrics[Metric.DURATION_S] == 110.0
    assert record.tags[Tag.STATUS] == "measured"
    del parts["b"]
    assert json.loads(summed(parts).tags[Tag.NODES]) == {"expected": 2, "missing": 1}


def test_parts_survive_the_tag_and_foreign_text_is_left_out() -> None:
    parts = {"a": part(3.0, 100.0)}
    tags = {**tag_of("a", parts["a"]), Tag.NODE_PREFIX + "x": "{}", Tag.NODE_PREFIX + "y": "[1"}
    assert parts_on(tags) == parts
    assert earlier(tags, {Metric.ENERGY_KWH: 1.0}) is None
    assert earlier({}, {"loss": 1.0}) is None


RANK = """
import os, time, mlflow
end = time.process_time() + float(os.environ["BURN"])
client = mlflow.MlflowClient()
run = client.get_run(os.environ["MLFLOW_RUN_ID"])  # no word is logged to it
while time.process_time() < end:
    pass
"""


def test_two_hosts_that_end_at_the_same_time_are_summed_on_their_run(
    store_uri: str, environment: dict[str, str], tmp_path: Path
) -> None:
    """Real processes with the variables that torchrun sets; one host's ranks and launcher count once."""
    client = MlflowClient(store_uri)
    run_id = client.create_run(client.get_experiment_by_name("tests").experiment_id).info.run_id
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    measure = [sys.executable, "-m", "mlflow_carbon.cli", "measure", "--"]

    def start(node: str, rank: int, command: list[str]) -> subprocess.Popen[bytes]:
        told = {
            "MLFLOW_RUN_ID": run_id,
            "MLFLOW_CARBON_NODE": node,
            "XDG_STATE_HOME": str(tmp_path / node),
            "GROUP_RANK": str(rank),
            "GROUP_WORLD_SIZE": "3",
            # The rank without a launcher begins and ends while its host is measured.
            "BURN": "4.0" if command else "0.5",
        }
        return subprocess.Popen(
            [*command, sys.executable, str(script)], env=environment | told, cwd=tmp_path
        )

    hosts = [start("a", 0, measure), start("b", 1, measure)]
    deadline = time.monotonic() + 60
    while not list((tmp_path / "b").rglob("*.run")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    hosts.append(start("b", 1, []))
    assert [host.wait() for host in hosts] == [0, 0, 0]
    run = client.get_run(run_id)
    tags = our_tags(run)
    parts = parts_on(tags)
    assert set(parts) == {"a", "b"}
    energies = [found.metrics[Metric.ENERGY_KWH] for found in parts.values()]
    assert ours(run)[Metric.ENERGY_KWH] == pytest.approx(sum(energies))
    assert json.loads(tags[Tag.NODES]) == {"expected": 3, "missing": 1}
    assert tags[Tag.STATUS] == "partial"
    assert run.info.status == "FINISHED"  # set by the first host alone
    assert {Param.EVIDENCE_SHA256, Param.EVIDENCE_SHA256 + ".2"} <= run.data.params.keys()
    assert Param.EVIDENCE_SHA256 + ".3" not in run.data.params
    assert [path for node in "ab" for path in (tmp_path / node).rglob("*.run")] == []


def test_how_a_run_ended_is_told_by_the_first_host_whichever_ends_last(
    program: Callable[..., Finished], store_uri: str
) -> None:
    client = MlflowClient(store_uri)
    run_id = client.create_run(
        client.get_experiment_by_name("tests").experiment_id, run_name="mine"
    ).info.run_id
    script = (
        "import sys\nfrom mlflow_carbon.cli.main import main\n"
        f"sys.argv = ['mlflow-carbon', 'measure', '--', {sys.executable!r}, '-c', 'import time; time.sleep(0.5)']\n"
        "main()"
    )
    for rank in ("0", "1"):
        host = {"GROUP_WORLD_SIZE": "2", "GROUP_RANK": rank, "MLFLOW_CARBON_NODE": f"n{rank}"}
        done = program(script, MLFLOW_RUN_ID=run_id, **host)
        assert done.code == 0, done.err
    run = client.get_run(run_id)
    assert json.loads(our_tags(run)[Tag.NODES]) == {"expected": 2, "missing": 0}
    assert our_tags(run)[Tag.EXIT] == "finished"
    assert run.info.run_name == "mine"
    assert "mlflow.source.name" not in run.data.tags  # who made the run did not say


class Between:
    """A real store; when it was read for the first time, another client's call goes on."""

    def __init__(self, store: Any, other: Callable[[], None]) -> None:
        self._store, self._others = store, [other]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get_run(self, run_id: str) -> Run:
        run: Run = self._store.get_run(run_id)
        while self._others:
            self._others.pop()()
        return run


def test_figures_whose_host_is_not_told_yet_are_not_taken_for_an_earlier_session(
    store_uri: str,
) -> None:
    """The other host's ``log_batch`` is half way: its metrics are stored, its tags are not."""
    client = TrackingServiceClient(store_uri)
    run_id = client.create_run("1").info.run_id
    desk = Desk(Settings(region="FR"))
    mine, others = facts(run_id=run_id), part(0.25, 10.0, job="j")
    kwh = desk.record(mine).metrics[Metric.ENERGY_KWH]
    for name, value in others.metrics.items():
        client.log_metric(run_id, name, value, step=0)

    def tags() -> None:
        for name, value in tag_of("b", others).items():
            client.set_tag(run_id, name, value)

    half = SimpleNamespace(store=Between(client.store, tags), log_artifact=client.log_artifact)
    several.conclude(half, mine, desk, None, Place("a", 2, 1, "j"))
    run = client.get_run(run_id)
    assert parts_on(run.data.tags).keys() == {"a", "b"}
    assert ours(run)[Metric.ENERGY_KWH] == pytest.approx(0.25 + kwh)
    assert json.loads(our_tags(run)[Tag.NODES]) == {"expected": 2, "missing": 0}


def killed_host(program: Callable[..., Finished], job: dict[str, str]) -> Finished:
    """The second host of a job, ``b``, which works for 0.7 s until it is killed."""
    return program(
        """
        import mlflow, os, signal, time
        mlflow.log_metric("loss", 0.1)
        end = time.process_time() + 0.7
        while time.process_time() < end:
            pass
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        **job,
        GROUP_RANK="1",
        MLFLOW_CARBON_NODE="b",
    )


def test_a_host_that_was_killed_is_recovered_into_its_own_part(
    program: Callable[..., Finished], store_uri: str
) -> None:
    client = MlflowClient(store_uri)
    run_id = client.create_run(client.get_experiment_by_name("tests").experiment_id).info.run_id
    host = {"MLFLOW_RUN_ID": run_id, "GROUP_WORLD_SIZE": "2"}
    killed = killed_host(program, host)
    ended = program(
        """
        import mlflow, time
        with mlflow.start_run():
            end = time.process_time() + 0.3
            while time.process_time() < end:
                pass
        """,
        **host,
        GROUP_RANK="0",
        MLFLOW_CARBON_NODE="a",
        MLFLOW_CARBON_RECOVER="false",
    )
    assert (killed.code, ended.code) == (-9, 0), ended.err
    before = client.get_run(run_id)
    assert set(parts_on(before.data.tags)) == {"a"}
    assert our_tags(before)[Tag.STATUS] == "partial"
    recovered = program(
        "import sys\nfrom mlflow_carbon.cli.main import main\n"
        "sys.argv = ['mlflow-carbon', 'recover']\nmain()"
    )
    assert recovered.code == 0, recovered.err
    run = client.get_run(run_id)
    parts = parts_on(run.data.tags)
    assert set(parts) == {"a", "b"}
    assert parts["b"].metrics[Metric.DURATION_S] > 0.5
    assert ours(run)[Metric.ENERGY_KWH] > ours(before)[Metric.ENERGY_KWH]
    assert our_tags(run)[Tag.STATUS] == "truncated"
    assert json.loads(our_tags(run)[Tag.NODES]) == {"expected": 2, "missing": 0}


@pytest.mark.parametrize(
    ("status", "ago_s", "ended"),
    [("measuring", 60, "RUNNING"), ("measuring", 3600, "KILLED"), ("measured", 60, "KILLED")],
    ids=["works", "not heard of for an hour", "has ended"],
)
def test_a_dead_host_does_not_end_the_run_that_another_one_still_works_on(
    program: Callable[..., Finished], store_uri: str, status: str, ago_s: int, ended: str
) -> None:
    client = MlflowClient(store_uri)
    run_id = client.create_run(client.get_experiment_by_name("tests").experiment_id).info.run_id
    host = {"MLFLOW_RUN_ID": run_id, "GROUP_WORLD_SIZE": "2"}
    killed = killed_host(program, host)
    assert killed.code == -9
    alive = replace(part(0.1, 30.0), status=status)
    for name, text in tag_of("a", alive).items():
        client.set_tag(run_id, name, text)
    for name, value in alive.metrics.items():
        client.log_metric(run_id, name, value, timestamp=int((time.time() - ago_s) * 1000))
    done = program(
        "import sys\nfrom mlflow_carbon.cli.main import main\n"
        "sys.argv = ['mlflow-carbon', 'recover', '--end-runs']\nmain()",
        MLFLOW_TRACKING_URI=store_uri,
    )
    assert done.code == 0, done.err
    run = client.get_run(run_id)
    assert set(parts_on(run.data.tags)) == {"a", "b"}
    assert (our_tags(run)[Tag.STATUS], run.info.status) == ("truncated", ended)
