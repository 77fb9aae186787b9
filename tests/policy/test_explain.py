"""``policy explain``: every leaf with its answer, its value, where it was read and where it is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_carbon.evidence.model import SubjectKind
from mlflow_carbon.policy.explain import explain
from tests.policy.conftest import AS_OF, PackOf, evidence, policy_text


def test_each_part_is_shown_with_its_answer_its_value_its_source_and_its_line(
    pack_of: PackOf,
) -> None:
    body = "assert:\n  any:\n    - {metric: a, at_most: 1}\n    - {tag: b, equals: x}\n    - {param: c, at_most: 1}"
    rule = pack_of(policy_text(body)).rules[0]
    shown = list(explain(rule, evidence({"metric.a": 3.0, "param.c": "0"}), AS_OF))
    assert shown[0] == "ENE-900 on run 1 (run): pass"
    assert shown[3] == "    [true   ] at least one of   policy.yaml:14"
    assert (
        shown[4]
        == "      [false  ] metric a is 3 (asked: at most 1; run 1 metric.a)   policy.yaml:14"
    )
    assert shown[5].startswith(
        "      [unknown] tag b is not on record (asked: x; looked for in run 1)"
    )
    assert shown[6].startswith("      [true   ] param c is 0")


def test_each_member_is_shown_and_so_is_that_there_was_none(pack_of: PackOf) -> None:
    body = "assert: {for_each: {metrics: '^eval/'}, assert: {each: value, at_least: 0.9}}"
    rule = pack_of(policy_text(body)).rules[0]
    shown = "\n".join(explain(rule, evidence({"metric.eval/a": 0.5}), AS_OF))
    assert "eval/a:\n        [false  ] metric eval/a is 0.5" in shown
    assert "nothing was checked" in "\n".join(explain(rule, evidence({}), AS_OF))


def test_a_value_of_the_wrong_type_is_shown_as_an_error(pack_of: PackOf) -> None:
    rule = pack_of(policy_text("assert: {param: c, at_most: 1}")).rules[0]
    shown = "\n".join(explain(rule, evidence({"param.c": "many"}), AS_OF))
    assert "[error  ] param c is many" in shown
    assert "many is not a number" in shown


def test_an_attestation_is_shown_with_who_made_it(pack_of: PackOf) -> None:
    text = policy_text("attest: {statement: reviewed, asks: I have looked.}", scope="model_version")
    rule = pack_of(text).rules[0]
    shown = list(explain(rule, evidence({}, kind=SubjectKind.MODEL_VERSION), AS_OF))
    assert "  attest reviewed: nobody   policy.yaml:12" in shown


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A store with one run that has energy 9 kWh; its address and the run's id."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    script = (
        "import sys, mlflow\n"
        f"mlflow.set_tracking_uri({uri!r})\n"
        "with mlflow.start_run() as run:\n"
        "    mlflow.log_metric('carbon/energy_kwh', 9.0)\n"
        "print(run.info.run_id)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=folder,
        env={**os.environ, "MLFLOW_CARBON_ENABLED": "false"},  # the figure is to stay 9 kWh
        capture_output=True,
        text=True,
        check=True,
    )
    return uri, done.stdout.split()[-1]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "mlflow_carbon.cli", "policy", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_verdict_on_a_real_run_is_explained(store: tuple[str, str], tmp_path: Path) -> None:
    uri, run_id = store
    (tmp_path / "p.yaml").write_text(policy_text("assert: {metric: carbon/energy_kwh, at_most: 5}"))
    done = run("explain", "ENE-900", run_id, "--policy", "p.yaml", "--store", uri, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"(asked: at most 5; run {run_id} metric carbon/energy_kwh)   p.yaml:12" in done.stdout
    unknown = run(
        "explain", "ENE-900", "no-such-run", "--policy", "p.yaml", "--store", uri, cwd=tmp_path
    )
    assert unknown.returncode == 4
    assert "there is no run no-such-run" in unknown.stderr
    assert "Traceback" not in unknown.stderr


def test_the_verdicts_that_a_new_policy_changes_on_a_store_are_listed(
    store: tuple[str, str], tmp_path: Path
) -> None:
    uri, run_id = store
    old = policy_text("assert: {metric: carbon/energy_kwh, at_most: 5}")
    (tmp_path / "old.yaml").write_text(old)
    (tmp_path / "new.yaml").write_text(old.replace("at_most: 5", "at_most: 50"))
    done = run("diff", "old.yaml", "new.yaml", "--store", uri, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"({run_id}): fail -> pass" in done.stdout
    assert "ENE-900: 1 fail -> 1 pass" in done.stdout
    assert "1 verdict changed on 1 subject" in done.stdout


def test_what_was_read_from_a_dataset_and_from_the_sealed_artifact_is_explained_with_its_source(
    tmp_path: Path,
) -> None:
    """A measured run whose accuracy was raised after it had been sealed."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    script = (
        "import mlflow, pandas\n"
        f"mlflow.set_tracking_uri({uri!r})\n"
        "with mlflow.start_run() as run:\n"
        "    frame = pandas.DataFrame({'x': [1, 2, 3]})\n"
        "    mlflow.log_input(mlflow.data.from_pandas(frame, name='loans'), context='training')\n"
        "    mlflow.log_metric('accuracy', 0.5)\n"
        "mlflow.MlflowClient().log_metric(run.info.run_id, 'accuracy', 0.99)\n"
        "print(run.info.run_id)\n"
    )
    measured = {
        **os.environ,
        "MLFLOW_CARBON_ENABLED": "true",
        "MLFLOW_CARBON_SPOOL_DIR": str(tmp_path),
    }
    trained = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=tmp_path,
        env=measured,
        capture_output=True,
        text=True,
        check=True,
    )
    run_id = trained.stdout.split()[-1]
    (tmp_path / "p.yaml").write_text(
        policy_text("assert: {dataset: sha256, present: true}", scope="dataset_input")
    )
    read = run("explain", "ENE-900", run_id, "--policy", "p.yaml", "--store", uri, cwd=tmp_path)
    assert "ENE-900 on loans (training)" in read.stdout, read
    assert re.search(
        r"\[true   \] dataset sha256 is [0-9a-f]{64} \(asked: \S.*; .*loans", read.stdout
    )
    sealed = run("explain", "INT-002", run_id, "--store", uri, cwd=tmp_path)
    assert "[false  ] seal state is altered (asked: " in sealed.stdout, sealed
    assert f"; run {run_id} compared with its seal)   integrity.yaml:" in sealed.stdout
    assert "changed: metric accuracy" in sealed.stdout
