"""The recipes of examples/scheduling: each file is sound, and the command in it was run on a real store."""

from __future__ import annotations

import ast
import configparser
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Metric

RECIPES = Path(__file__).parents[2] / "examples" / "scheduling"
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A store with one run, after the first night of cron."""
    folder = tmp_path_factory.mktemp("weekly")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("weekly", artifact_location=str(folder / "artifacts"))
    yesterday_ms = int(time.time() * 1000) - 86_400_000
    run = client.create_run(experiment, yesterday_ms, run_name="trained").info.run_id
    client.log_batch(run, metrics=[Metric("accuracy", 0.9, 1, 0)])
    client.set_terminated(run, end_time=yesterday_ms + 60_000)
    made = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(folder),
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_CARBON_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    shown = _run(["/bin/sh", "-c", _crontab_command()], made, folder, expect=1)
    assert "First audit on record with these policies and this selection" in shown
    return made


def _run(command: list[str], env: Mapping[str, str], folder: Path, expect: int = 0) -> str:
    done = subprocess.run(
        command, env=dict(env), cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout


def _failed_and_on_record(shown: str, report: Path) -> None:
    """The one run has no energy: a rule of high severity fails, and the audit is on record, compared."""
    assert "On record: experiment 'mlflow-carbon audits'" in shown
    data = json.loads((report / "report.json").read_text(encoding="utf-8"))
    assert data["change"]["remaining"] > 0
    assert data["past"]
    assert (report / "report.md").exists()


def test_cron(env: dict[str, str], tmp_path: Path) -> None:
    home = {**env, "HOME": str(tmp_path)}
    shown = _run(["/bin/sh", "-c", _crontab_command()], home, tmp_path, expect=1)
    _failed_and_on_record(shown, tmp_path / "carbon-audit")


def _unit(name: str) -> configparser.ConfigParser:
    read = configparser.ConfigParser(strict=False, interpolation=None)
    read.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    read.read(RECIPES / name)
    return read


def _arguments(words: list[str]) -> list[str]:
    """What is asked of mlflow-carbon, without the folder, which differs from place to place."""
    words = [part for word in words for part in (word.split("=") if word[0] == "-" else [word])]
    place = words.index("--out")
    return words[words.index("audit") : place] + words[place + 2 :]


def _crontab_command() -> str:
    lines = (RECIPES / "crontab").read_text().splitlines()
    (job,) = (line for line in lines if line[:1].isdigit())
    *when, command = job.split(maxsplit=5)
    assert when == ["0", "6", "*", "*", "1"]
    assert "%" not in command  # cron would end the line there
    return command


def test_the_systemd_timer_asks_what_cron_asks() -> None:
    service, timer = _unit("mlflow-carbon-audit.service"), _unit("mlflow-carbon-audit.timer")
    assert timer["Timer"]["OnCalendar"].startswith("Mon ")
    assert service["Service"]["StateDirectory"] == "mlflow-carbon"
    words = shlex.split(service["Service"]["ExecStart"])
    assert words[words.index("--out") + 1].startswith("/var/lib/mlflow-carbon/")
    assert _arguments(words) == _arguments(shlex.split(_crontab_command()))


def test_the_kubernetes_cronjob_is_valid_and_asks_what_cron_asks() -> None:
    job = yaml.safe_load((RECIPES / "cronjob.yaml").read_text())
    kubernetes_validate.validate(job, "1.30", strict=True)
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert "/report" in {mount["mountPath"] for mount in container["volumeMounts"]}
    words = [*container["command"], *container["args"]]
    assert _arguments(words) == _arguments(shlex.split(_crontab_command()))


def test_the_airflow_task_asks_what_cron_asks() -> None:
    tree = ast.parse((RECIPES / "airflow_dag.py").read_text())
    (task,) = (
        node for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "BashOperator"
    )  # fmt: skip
    (command,) = (ast.literal_eval(w.value) for w in task.keywords if w.arg == "bash_command")
    assert _arguments(shlex.split(command)) == _arguments(shlex.split(_crontab_command()))


def test_github_actions(env: dict[str, str], tmp_path: Path) -> None:
    steps = yaml.safe_load((RECIPES / "github-actions.yml").read_text())["jobs"]["audit"]["steps"]
    runs = {step["name"]: step["run"] for step in steps if "run" in step}
    assert list(runs) == ["Install", "Audit", "Summary"]  # what Install installs is this checkout
    here = {**env, "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]
    shown = _run([*shell, runs["Audit"]], here, tmp_path, expect=1)
    _failed_and_on_record(shown, tmp_path / "carbon-audit")
    _run([*shell, runs["Summary"]], here, tmp_path)
    assert "## Summary" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    sarif = next(s["with"]["sarif_file"] for s in steps if "sarif" in s.get("uses", ""))
    assert (tmp_path / sarif).exists()
