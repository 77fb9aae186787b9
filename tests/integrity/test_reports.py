"""A report that was handed over: whoever has the list of trusted keys can tell whether it is the one that was signed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient

from mlflow_carbon.cli.audit import command as audit
from mlflow_carbon.cli.keys import command as keys
from mlflow_carbon.cli.verify import command as verify_command
from mlflow_carbon.evidence.history import EXPERIMENT

FILES = ("report.json", "report.html", "findings.csv", "report.sarif")


def verify(*reports: Path, more: tuple[str, ...] = ()) -> Result:
    words = [word for report in reports for word in ("--report", str(report))]
    return CliRunner().invoke(verify_command, [*words, *more])


@pytest.fixture
def handed_over(uri: str, run_id: str, tmp_path: Path) -> Path:
    made = CliRunner().invoke(
        keys, ["generate", "office", "--owner", "Audit office", "--use", "audit"]
    )
    assert made.exit_code == 0, made.output
    client = MlflowClient(uri)
    if client.get_experiment_by_name(EXPERIMENT) is None:
        place, tags = (tmp_path / "audits").as_uri(), {"mlflow_carbon.audits": "true"}
        client.create_experiment(EXPERIMENT, artifact_location=place, tags=tags)
    words = ["--store", uri, "--out", str(tmp_path / "out"), "--sign", "office", "--record"]
    formats = ["--format", "json,html,csv,sarif", "--fail-on", "never"]
    signed = CliRunner().invoke(audit, [*words, *formats], catch_exceptions=False)
    assert signed.exit_code == 0, signed.output
    assert "report.dsse.json" in signed.output
    return tmp_path / "out"


def test_every_file_of_a_signed_report_is_unchanged_and_on_record(
    handed_over: Path, uri: str
) -> None:
    result = verify(*(handed_over / name for name in FILES), more=("--store", uri))
    assert result.exit_code == 0, result.output
    assert result.output.count("since Audit office signed it on") == len(FILES)
    assert result.output.count("on record in the store as the audit of") == len(FILES)


def test_one_changed_character_is_told_with_both_hashes(handed_over: Path) -> None:
    report = handed_over / "report.json"
    report.write_text(report.read_text().replace("}", "} ", 1))
    result = verify(report, handed_over / "findings.csv")
    assert result.exit_code == 1
    assert "changed   report.json (its SHA-256 is " in result.output
    assert "unchanged findings.csv" in result.output


def test_a_renamed_copy_is_still_the_signed_one_and_a_strange_file_is_doubtful(
    handed_over: Path,
) -> None:
    copy = shutil.copy(handed_over / "report.html", handed_over / "for-the-board.html")
    (handed_over / "notes.txt").write_text("ours")
    assert verify(Path(copy)).exit_code == 0
    strange = verify(handed_over / "notes.txt")
    assert strange.exit_code == 1
    assert "the signature is not over a file of this name" in strange.output


def test_who_gives_the_signature_is_told_to_give_the_report(handed_over: Path) -> None:
    result = verify(handed_over / "report.dsse.json")
    assert result.exit_code == 1
    assert "this is the signature: give a file that it is over, findings.csv" in result.output


def test_without_the_signature_nothing_is_known(handed_over: Path, tmp_path: Path) -> None:
    alone = tmp_path / "report.json"
    alone.write_text((handed_over / "report.json").read_text() + "\n")  # nor on record
    assert verify(alone).exit_code == 0
    strict = verify(alone, more=("--strict", "--json"))
    assert strict.exit_code == 3
    told = json.loads(strict.output)
    assert told["state"] == "unsigned"
    assert told["signed_by"] is None


def test_a_revoked_key_and_an_envelope_with_another_statement_are_doubtful(
    handed_over: Path,
) -> None:
    envelope = handed_over / "report.dsse.json"
    good = envelope.read_text()
    data = json.loads(good)
    data["payload"] = data["payload"][:-8] + "AAAAAAA="
    envelope.write_text(json.dumps(data))
    assert verify(handed_over / "report.json").exit_code == 1
    envelope.write_text(good)
    assert verify(handed_over / "report.json").exit_code == 0
    CliRunner().invoke(keys, ["revoke", "office", "--because", "laptop lost"])
    revoked = verify(handed_over / "report.json")
    assert revoked.exit_code == 1
    assert "laptop lost" in revoked.output
