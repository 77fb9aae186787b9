"""``mlflow-carbon audit`` as its user meets it: what it prints, what it writes, its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient

from mlflow_carbon import resources
from mlflow_carbon.cli import audit as cli
from mlflow_carbon.cli.audit import command, ensure_room, whole_or_nothing
from mlflow_carbon.errors import CarbonError, OutputError, StoreError
from mlflow_carbon.report.write import FORMATS
from tests.evidence.conftest import Seeded

POLICY = """\
apiVersion: mlflow-carbon/v1
kind: PolicyPack
metadata: {id: org.test, version: 1.0.0, title: Test, owner: me, describe: A test.}
frameworks: [nist-ai-rmf@1.0]
rules:
  - id: ENE-900
    title: Energy stays in budget
    severity: medium
    scope: run
    rationale: Budgets decide.
    controls: [{ref: nist-ai-rmf/MEASURE-2.12, relation: supports}]
    assert: {metric: carbon/energy_kwh, at_most: LIMIT}
    finding: "Used {metric:carbon/energy_kwh|kWh}."
    remediation: Use less.
    does_not_show: That it was needed.
    tests:
      - {name: low, given: {metric.carbon/energy_kwh: 0}, expect: pass}
      - {name: high, given: {metric.carbon/energy_kwh: 1000}, expect: fail}
      - {name: none, given: {}, expect: no_evidence}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "budget.yaml"
    path.write_text(POLICY.replace("LIMIT", "2"))
    return path


def audit(uri: str, out: Path, policy: Path, *more: str) -> Result:
    arguments = ["--store", uri, "--out", str(out), "--policy", str(policy), "--format", "json"]
    return CliRunner().invoke(command, [*arguments, *more], catch_exceptions=True)


def refusal(result: Result) -> CarbonError:
    assert isinstance(result.exception, CarbonError), result.output
    return result.exception


def test_a_failed_rule_exits_with_1_and_prints_what_was_found(
    sqlite_store: Seeded, tmp_path: Path, policy: Path
) -> None:
    result = audit(sqlite_store.uri, tmp_path / "out", policy)
    assert result.exit_code == 1, result.output
    assert "ENE-900" in result.output
    assert "4 of 5 runs read." in result.output
    assert "Not read: 1, still running." in result.output
    assert "Energy: 3.5 kWh (3.15 kWh to 3.85 kWh)" in result.output
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["report.json"]


def test_the_reports_are_written_in_every_format(
    sqlite_store: Seeded, tmp_path: Path, policy: Path
) -> None:
    result = audit(sqlite_store.uri, tmp_path / "out", policy, "--format", "csv,html,json,pdf")
    assert result.exit_code == 1, result.output
    names = {
        "findings.csv",
        "findings.csv-metadata.json",
        "report.html",
        "report.json",
        "report.pdf",
    }
    assert {file.name for file in (tmp_path / "out").iterdir()} == names
    assert (tmp_path / "out" / "report.pdf").read_bytes().startswith(b"%PDF-")


def test_all_passing_exits_with_0_and_missing_evidence_with_3_only_when_strict(
    sqlite_store: Seeded, tmp_path: Path, policy: Path
) -> None:
    policy.write_text(POLICY.replace("LIMIT", "9"))
    assert audit(sqlite_store.uri, tmp_path, policy).exit_code == 0
    assert audit(sqlite_store.uri, tmp_path, policy, "--strict").exit_code == 3  # one still running
    chosen = ("--filter", "metrics.auc > 0")
    assert audit(sqlite_store.uri, tmp_path, policy, "--strict", *chosen).exit_code == 0
    policy.write_text(POLICY.replace("LIMIT", "9").replace("carbon/energy_kwh", "nosuch"))
    assert audit(sqlite_store.uri, tmp_path, policy, *chosen).exit_code == 0
    assert audit(sqlite_store.uri, tmp_path, policy, "--strict", *chosen).exit_code == 3


def test_fail_on_asks_only_for_rules_of_that_severity_or_worse(
    sqlite_store: Seeded, tmp_path: Path, policy: Path
) -> None:
    assert audit(sqlite_store.uri, tmp_path, policy, "--fail-on", "medium").exit_code == 1
    assert audit(sqlite_store.uri, tmp_path, policy, "--fail-on", "high").exit_code == 0
    assert audit(sqlite_store.uri, tmp_path, policy, "--fail-on", "never").exit_code == 0


def test_a_rule_that_cannot_be_evaluated_exits_with_4(
    sqlite_store: Seeded, tmp_path: Path, policy: Path
) -> None:
    text = POLICY.replace("LIMIT", "9").replace(
        "metric: carbon/energy_kwh", "tag: mlflow_carbon.tree"
    )
    policy.write_text(text.replace("metric.carbon/energy_kwh", "tag.mlflow_carbon.tree"))
    assert audit(sqlite_store.uri, tmp_path, policy, "--filter", "metrics.auc > 0").exit_code == 4


def test_the_same_date_gives_the_same_bytes(
    sqlite_store: Seeded, tmp_path: Path, policy: Path
) -> None:
    for folder in ("a", "b"):
        audit(sqlite_store.uri, tmp_path / folder, policy, "--as-of", "2026-11-01")
    first, second = ((tmp_path / folder / "report.json").read_bytes() for folder in ("a", "b"))
    assert first == second
    assert "--as-of 2026-11-01T23:59:59+00:00" in json.loads(first)["command"]


def test_a_run_that_ended_just_now_is_part_of_an_audit_of_now(tmp_path: Path, policy: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'now.db'}"
    client = MlflowClient(uri)
    run_id = client.create_run("0").info.run_id
    client.set_terminated(run_id)
    result = audit(uri, tmp_path / "out", policy)
    assert "1 of 1 runs read." in result.output, result.output


def test_source_date_epoch_takes_the_place_of_now_so_that_the_bytes_are_the_same(
    sqlite_store: Seeded, tmp_path: Path, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "4070908800")
    formats = ("--format", "pdf,html,json")
    for folder in ("a", "b"):
        result = audit(sqlite_store.uri, tmp_path / folder, policy, *formats)
        assert result.exit_code == 1, result.output
    for name in ("report.pdf", "report.html", "report.json"):
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("a", "b"))
        assert first == second, name
    data = json.loads((tmp_path / "a" / "report.json").read_bytes())
    assert data["as_of"] == "2099-01-01T00:00:00Z"
    audit(sqlite_store.uri, tmp_path / "c", policy, "--as-of", "2099-02-01")  # it wins
    data = json.loads((tmp_path / "c" / "report.json").read_bytes())
    assert data["as_of"].startswith("2099-02-01")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    assert "whole seconds since 1970" in str(refusal(audit(sqlite_store.uri, tmp_path, policy)))


def test_shipped_policies_are_named_alike_on_every_machine(
    sqlite_store: Seeded, tmp_path: Path
) -> None:
    formats = ",".join(name for name in FORMATS if name not in {"pdf", "parquet"})
    arguments = ["--store", sqlite_store.uri, "--out", str(tmp_path), "--format", formats]
    CliRunner().invoke(command, arguments, catch_exceptions=False)
    data = json.loads((tmp_path / "report.json").read_bytes())
    assert data["packs"][0]["file"] == "policies/packs/baseline.yaml"
    for file in tmp_path.iterdir():
        assert str(resources.policies()) not in file.read_text(encoding="utf-8"), file.name
    assert "policies/packs/baseline.yaml:" in (tmp_path / "report.html").read_text("utf-8")


def test_a_password_is_in_no_output(tmp_path: Path, policy: Path) -> None:
    result = audit("http://ann:hunter2@127.0.0.1:1/", tmp_path, policy)
    assert refusal(result).exit_code == 4
    assert "hunter2" not in str(result.exception) + result.output


def test_a_store_that_is_not_there_leaves_no_report(tmp_path: Path, policy: Path) -> None:
    result = audit(f"sqlite:///{tmp_path}/none.db", tmp_path / "out", policy)
    assert isinstance(refusal(result), StoreError)
    assert not (tmp_path / "out").exists()


def test_an_experiment_without_runs_leaves_no_report(
    sqlite_store: Seeded, tmp_path: Path, policy: Path
) -> None:
    result = audit(sqlite_store.uri, tmp_path / "out", policy, "--experiment", "Default")
    assert refusal(result).exit_code == 4
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "asked",
    [
        ("--store", "sqlite:///none.db"),
        ("--experiment", "nowhere"),
        ("--experiment", "Default", "--incremental", "kept"),
        ("--filter", "metrics auc"),
        ("--policy", "nosuch.yaml"),
        ("--engine", "spark"),
    ],
)
def test_a_refused_audit_leaves_no_folder_that_it_made(
    asked: tuple[str, ...],
    sqlite_store: Seeded,
    tmp_path: Path,
    policy: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    refusal(audit(sqlite_store.uri, Path("new/out"), policy, *asked))
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "new").mkdir()
    refusal(audit(sqlite_store.uri, Path("new/out"), policy, *asked))
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "new"])


def test_an_unknown_policy_is_a_usage_error(sqlite_store: Seeded, tmp_path: Path) -> None:
    assert refusal(audit(sqlite_store.uri, tmp_path, tmp_path / "none.yaml")).exit_code == 2


def test_an_unknown_format_and_a_wrong_date_are_usage_errors(tmp_path: Path, policy: Path) -> None:
    wrong_format = audit("sqlite:///x.db", tmp_path, policy, "--format", "docx")
    assert wrong_format.exit_code == 2
    assert "'docx'; choose from pdf, html, json, csv" in wrong_format.output
    wrong_date = audit("sqlite:///x.db", tmp_path, policy, "--as-of", "yesterday")
    assert wrong_date.exit_code == 2
    assert "'yesterday' is not a date" in wrong_date.output


def test_an_output_path_that_is_a_file_is_refused_before_the_work(
    tmp_path: Path, policy: Path
) -> None:
    (tmp_path / "taken").write_text("mine")
    result = audit("sqlite:///nowhere.db", tmp_path / "taken" / "out", policy)
    assert isinstance(refusal(result), OutputError)
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_folder_that_may_not_be_written_is_refused() -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        ensure_room(Path("/proc/self/none"), 1)


def test_a_disk_without_room_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="MiB are free"):
        ensure_room(tmp_path, 2**62)


def test_a_report_that_breaks_off_leaves_the_one_before_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("before")

    def break_off() -> None:
        with whole_or_nothing(tmp_path) as partial:
            (partial / "report.json").write_text("half")
            raise OutputError("no room")

    with pytest.raises(OutputError, match="no room"):
        break_off()
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("report.json", "before")]


def test_formats_may_be_given_with_commas_between_or_one_after_another(
    sqlite_store: Seeded, policy: Path, tmp_path: Path
) -> None:
    audit(sqlite_store.uri, tmp_path, policy, "--format", "json,junit", "--format", "csvw")
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert {"report.json", "findings.csv-metadata.json"} <= names
    assert any(name.endswith(".xml") for name in names)


def test_the_formats_offered_are_those_that_can_be_written() -> None:
    assert set(cli.FORMATS) == set(FORMATS)


def test_every_option_says_what_it_does() -> None:
    options = [one for one in command.params if isinstance(one, click.Option)]
    assert [one.name for one in options if not one.help] == []


def test_the_installed_command_prints_plain_lines_and_no_traceback(
    sqlite_store: Seeded, tmp_path: Path, policy: Path
) -> None:
    arguments = ["audit", "--store", sqlite_store.uri, "--policy", str(policy), "--format", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "mlflow_carbon.cli", *arguments, "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
        check=False,
    )
    assert done.returncode == 1, done.stderr
    stages = ["Reading runs ...", "Reading models ...", "Checking ...", "Writing the report ..."]
    assert done.stderr.splitlines() == stages
    assert "report.json" in done.stdout


def test_a_time_that_ends_before_it_begins_is_a_wrong_command(
    sqlite_store: Seeded, tmp_path: Path, policy: Path
) -> None:
    asked = ["--since", "2026-01-02", "--until", "2026-01-01"]
    result = audit(sqlite_store.uri, tmp_path, policy, *asked)
    assert result.exit_code == 2
    assert "--since 2026-01-02 is later than --until 2026-01-01" in result.output
