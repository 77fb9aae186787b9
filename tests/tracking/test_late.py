"""What killed processes left behind: taken up with the run, delivered by the next process, or left alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

import mlflow_carbon
from mlflow_carbon.schema import Metric, Param, Tag
from mlflow_carbon.settings import Settings
from mlflow_carbon.tracking import spool as spools
from mlflow_carbon.tracking.desk import Desk
from mlflow_carbon.tracking.late import AGAIN_S, FIRST_S, MOST, Late
from mlflow_carbon.tracking.scratch import scratch
from tests.tracking.conftest import Finished, burn, our_tags, ours
from tests.tracking.test_processes import BURN, command, runs, spooled

Program = Callable[..., Finished]

KILLED = (
    BURN
    + """
import mlflow, os, signal
run = mlflow.start_run(run_name="killed")
print(run.info.run_id, flush=True)
burn(1.0)
os.kill(os.getpid(), signal.SIGKILL)
"""
)


def left_behind(program: Program, environment: dict[str, str], **changes: str) -> tuple[Path, str]:
    """The spool file and the run of a process that was killed an hour ago."""
    done = program(KILLED, **changes)
    assert done.code == -signal.SIGKILL, done.err
    (path,) = spooled(environment)
    an_hour_ago = datetime.now(timezone.utc).timestamp() - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))
    return path, done.out.split()[-1]


def look(folder: Path, uri: str, now: datetime | None = None) -> None:
    """What a process that works with the store does some seconds after its first run began."""
    late = Late()
    late.expect(folder, 0.0)
    client = MlflowClient(uri)._tracking_client
    late.deliver(client, Desk(Settings(region="DE")), now=now or datetime.now(timezone.utc))


def test_a_killed_run_that_is_taken_up_again_keeps_what_it_used_before(
    program: Program, store_uri: str, environment: dict[str, str]
) -> None:
    killed = program(KILLED)
    run_id = killed.out.split()[-1]
    again = program(
        BURN + f"import mlflow\nwith mlflow.start_run(run_id={run_id!r}):\n    burn(0.3)\n"
    )
    assert (killed.code, again.code) == (-signal.SIGKILL, 0), again.err
    run = runs(store_uri)["killed"]
    assert ours(run)[Metric.DURATION_S] > 1.0
    assert ours(run)[Metric.COVERAGE] > 0.9
    assert {Param.EVIDENCE_SHA256, Param.EVIDENCE_SHA256 + ".2"} <= run.data.params.keys()
    assert our_tags(run)[Tag.EXIT] == "finished"
    assert spooled(environment) == []


def test_the_next_process_delivers_what_a_killed_one_left_and_with_the_settings_of_that_one(
    program: Program, store_uri: str, environment: dict[str, str]
) -> None:
    path, _ = left_behind(program, environment, MLFLOW_CARBON_PROJECT="credit")
    done = program(
        BURN
        + "import mlflow\nwith mlflow.start_run(run_name='next'):\n"
        + f"    burn({FIRST_S + 1.5})\n",
        MLFLOW_CARBON_REGION="DE",
        MLFLOW_CARBON_PROJECT="fraud",
    )
    assert done.code == 0, done.err
    found = runs(store_uri)
    tags = our_tags(found["killed"])
    assert (tags[Tag.STATUS], tags[Tag.EXIT]) == ("truncated", "recovered")
    assert (tags[Tag.REGION], tags[Tag.PROJECT]) == ("FR", "credit")
    assert our_tags(found["next"])[Tag.PROJECT] == "fraud"
    assert found["killed"].info.status == "RUNNING"  # to end it is for the user: recover --end-runs
    assert not path.exists()
    ended = command(program, "recover", "--end-runs")
    assert (ended.code, "ended      run" in ended.out) == (0, True), ended.err
    info = runs(store_uri)["killed"].info
    assert info.status == "KILLED"
    worked_s = ours(found["killed"])[Metric.DURATION_S]
    assert (info.end_time - info.start_time) / 1000 == pytest.approx(worked_s, abs=0.002)
    assert "Nothing to recover" in command(program, "recover", "--end-runs").out


def test_switched_off_nothing_is_delivered_but_by_recover(
    measuring: MlflowClient, program: Program, environment: dict[str, str], store_uri: str
) -> None:
    path, run_id = left_behind(program, environment)
    mlflow_carbon.disable()
    mlflow_carbon.enable(recover=False, spool_dir=path.parent, region="FR")
    with mlflow.start_run(run_id=run_id):
        burn(0.1)
    assert len(spooled(environment)) == 1
    assert command(program, "recover").code == 0
    assert ours(runs(store_uri)["killed"])[Metric.DURATION_S] > 1.0


def test_a_process_looks_some_seconds_after_its_first_run_began_and_then_once_a_minute(
    tmp_path: Path,
) -> None:
    late = Late()
    assert not late.is_due(1e9)
    late.expect(tmp_path, 100.0)
    late.expect(tmp_path, 200.0)
    asked = [100.0, 100.0 + FIRST_S, 101.0 + FIRST_S, 100.0 + FIRST_S + AGAIN_S]
    assert [late.is_due(now_s) for now_s in asked] == [False, True, False, True]


def test_left_alone_are_files_of_other_stores_fresh_ones_and_runs_somebody_works_on(
    program: Program, environment: dict[str, str], store_uri: str, empty_store: Path, tmp_path: Path
) -> None:
    path, run_id = left_behind(program, environment)
    other = tmp_path / "other.db"
    shutil.copy(empty_store, other)
    look(path.parent, f"sqlite:///{other}")
    look(path.parent, store_uri, datetime.now(timezone.utc) - timedelta(hours=1))
    holder = spools.claim(path.parent, run_id)
    assert holder.left is not None
    look(path.parent, store_uri)
    assert "carbon/energy_kwh" not in runs(store_uri)["killed"].data.metrics
    assert command(program, "recover").out.startswith("kept")
    holder.remove()
    look(path.parent, store_uri)
    assert our_tags(runs(store_uri)["killed"])[Tag.STATUS] == "truncated"
    assert spooled(environment) == []


def test_a_record_that_cannot_be_delivered_is_tried_once_and_few_are_tried_at_a_time(
    tmp_path: Path, store_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(MOST + 1):
        damaged = spools.claim(tmp_path, f"damaged{number}")
        damaged.append({"version": 99, "facts": {}}, now_s=0.0)
        damaged.close()
    late = Late()
    late.expect(tmp_path, 0.0)
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    client = MlflowClient(store_uri)._tracking_client
    caplog.set_level("DEBUG", "mlflow_carbon")
    tried = []
    for _ in range(3):
        late.deliver(client, Desk(Settings()), now=later)
        tried.append(sum("spool version 99" in message for message in caplog.messages))
    assert tried == [MOST, MOST + 1, MOST + 1]
    assert len(list(tmp_path.glob("*.run"))) == MOST + 1


def test_a_folder_that_a_killed_process_left_among_the_temporary_files_goes_after_a_day(
    tmp_path: Path, store_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    with scratch() as today:
        Path(today, "evidence.json").write_text("{}")
        foreign = tmp_path / "tmp" / "mlflow-carbon-other"
        foreign.mkdir()
        target = tmp_path / "not ours"
        target.mkdir()
        link = Path(today + "-link")
        link.symlink_to(target)
        look(tmp_path, store_uri)
        assert Path(today, "evidence.json").exists()
        look(tmp_path, store_uri, datetime.now(timezone.utc) + timedelta(days=2))
        assert not Path(today).exists()
        assert link.is_symlink()
        assert foreign.exists()
        assert target.exists()
        Path(today).mkdir()  # so that the end of the block finds it


RESUMED = """
import mlflow, sys, time
mlflow.start_run(run_id=sys.argv[1])
print("resumed", flush=True)
time.sleep(600)
"""


def test_a_run_taken_up_on_another_host_is_not_ended_by_recover_on_the_first(
    program: Program, environment: dict[str, str], store_uri: str, tmp_path: Path
) -> None:
    _, run_id = left_behind(program, environment)
    script = tmp_path / "resumed.py"
    script.write_text(RESUMED)
    elsewhere = environment | {"XDG_STATE_HOME": str(tmp_path / "elsewhere")}
    with subprocess.Popen([sys.executable, str(script), run_id], env=elsewhere) as other:
        try:
            client = MlflowClient(store_uri)
            before_s = ours(client.get_run(run_id)).get(Metric.DURATION_S, 0.0)
            until_s = time.monotonic() + 60
            while ours(client.get_run(run_id)).get(Metric.DURATION_S, 0.0) <= before_s:
                assert time.monotonic() < until_s, "it does not say that the run goes on"
                time.sleep(0.2)
            told = command(program, "recover", "--end-runs")
            assert (told.code, "is being worked on" in told.out) == (4, True), told.err
            assert client.get_run(run_id).info.status == "RUNNING"
        finally:
            other.terminate()
    client.set_terminated(run_id)
    assert command(program, "recover", "--end-runs").code == 0
    assert spooled(environment) == []
