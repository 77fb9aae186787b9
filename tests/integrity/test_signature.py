"""Who signed a run's record, what a witness saw of it, and what both say about later changes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient

import mlflow_carbon
from mlflow_carbon.audit.run import run_audit
from mlflow_carbon.audit.select import AuditRequest
from mlflow_carbon.cli import keys as keys_command
from mlflow_carbon.cli import verify as verify_command
from mlflow_carbon.cli import witness as witness_command
from mlflow_carbon.evidence.ledger import Ledger
from mlflow_carbon.evidence.seal import Seals, check_run
from mlflow_carbon.evidence.sealed import Seal
from mlflow_carbon.evidence.signature import Standing
from mlflow_carbon.evidence.witness import Seen, read, witness
from mlflow_carbon.policy.load import load_pack
from mlflow_carbon.policy.model import State
from mlflow_carbon.settings import keys_folder, trusted_keys
from mlflow_carbon.signing import keys, trust
from mlflow_carbon.signing.trust import Trust

NOW = datetime.now(timezone.utc) + timedelta(
    hours=2
)  # after every key was made, however late in the suite


def generate(name: str, use: str) -> Path:
    words = ["generate", name, "--owner", f"{name}@example.org", "--use", use]
    assert CliRunner().invoke(keys_command.command, words).exit_code == 0
    return keys_folder() / f"{name}.pem"


def trusted() -> Trust:
    return trust.load(trusted_keys())


def verify(*words: str) -> Result:
    return CliRunner().invoke(verify_command.command, [*words])


@pytest.fixture
def signed_run(record: Callable[[], str]) -> str:
    mlflow_carbon.disable()
    key = generate("training", "evidence")
    assert mlflow_carbon.enable(sample_period_s=0.05, region="FR", signing_key=key)
    return record()


def test_a_run_is_signed_when_a_key_is_given(client: MlflowClient, signed_run: str) -> None:
    check = check_run(client, signed_run, trusted())
    assert check.seal is Seal.SEALED
    assert check.signature.standing is Standing.SIGNED
    assert check.signature.by == "training@example.org"


def test_a_run_without_a_key_is_sealed_and_unsigned(client: MlflowClient, run_id: str) -> None:
    assert check_run(client, run_id, trusted()).signature.standing is Standing.UNSIGNED


def test_a_revoked_key_makes_the_signature_doubtful_and_says_why(
    uri: str, client: MlflowClient, signed_run: str
) -> None:
    words = ["revoke", "training", "--because", "the laptop was stolen"]
    assert CliRunner().invoke(keys_command.command, words).exit_code == 0
    check = check_run(client, signed_run, trusted())
    assert check.signature.standing is Standing.DOUBTFUL
    assert "the laptop was stolen" in verify("--store", uri, "--run", signed_run).output


def test_an_envelope_of_another_run_does_not_count(
    client: MlflowClient, signed_run: str, record: Callable[[], str], tmp_path: Path
) -> None:
    mlflow_carbon.disable()
    assert mlflow_carbon.enable(sample_period_s=0.05, region="FR", signing_key=None)
    other = record()
    path = client.download_artifacts(signed_run, "mlflow_carbon/evidence.dsse.json", str(tmp_path))
    client.log_artifact(other, path, "mlflow_carbon")
    signature = check_run(client, other, trusted()).signature
    assert signature.standing is Standing.DOUBTFUL
    assert "another document" in signature.reason


def test_a_key_that_cannot_be_read_leaves_the_run_sealed(
    client: MlflowClient, record: Callable[[], str], tmp_path: Path
) -> None:
    mlflow_carbon.disable()
    missing = tmp_path / "gone.pem"
    assert mlflow_carbon.enable(sample_period_s=0.05, region="FR", signing_key=missing)
    run_id = record()
    check = check_run(client, run_id, trusted())
    assert (check.seal, check.signature.standing) == (Seal.SEALED, Standing.UNSIGNED)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "witness.jsonl")


def see(client: MlflowClient, ledger: Ledger, *run_ids: str) -> Seen:
    path = keys_folder() / "auditor.pem"
    key = keys.load(path if path.exists() else generate("auditor", "witness"))
    witness(client, run_ids, ledger, key, NOW)
    return read(ledger, trusted())


def test_every_artifact_that_is_changed_removed_or_added_is_named_after_a_witness(
    uri: str, client: MlflowClient, run_id: str, ledger: Ledger, tmp_path: Path
) -> None:
    for name in ("model.bin", "card.md"):
        (tmp_path / name).write_text(name)
        client.log_artifact(run_id, str(tmp_path / name), "model")
    seen = see(client, ledger, run_id)
    assert Seals(uri, trusted(), seen).check(run_id).seal is Seal.SEALED
    (tmp_path / "model.bin").write_text("other!!!!")
    client.log_artifact(run_id, str(tmp_path / "model.bin"), "model")
    (tmp_path / "late.txt").write_text("late")
    client.log_artifact(run_id, str(tmp_path / "late.txt"))
    artifacts = Path(client.get_run(run_id).info.artifact_uri.removeprefix("file://"))
    (artifacts / "model" / "card.md").unlink()
    check = Seals(uri, trusted(), seen).check(run_id)
    assert check.seal is Seal.ALTERED
    assert [(one.place, one.key, one.kind) for one in check.changes] == [
        ("artifact", "late.txt", "added"),
        ("artifact", "model/card.md", "removed"),
        ("artifact", "model/model.bin", "changed"),
    ]
    assert check.witnessed_at == NOW


def test_a_record_that_was_replaced_and_sealed_again_is_named(
    uri: str, client: MlflowClient, record: Callable[[str | None], str], ledger: Ledger
) -> None:
    run_id = record(None)
    seen = see(client, ledger, run_id)
    record(run_id)
    check = Seals(uri, trusted(), seen).check(run_id)
    assert check.seal is Seal.ALTERED
    assert ("document", "evidence") in [(one.place, one.key) for one in check.changes]
    assert "sealed 2 times" in check.reason


def test_a_run_that_vanished_for_good_is_named(
    uri: str, client: MlflowClient, run_id: str, ledger: Ledger
) -> None:
    said = see(client, ledger, run_id)
    gone = "f" * 32
    ledger.append({"kind": "run", "run_id": gone, "name": "cheap", "record_sha256": "ab", "files": {}}, NOW)  # fmt: skip
    assert gone not in read(ledger, trusted()).runs
    again = see(client, ledger, run_id)
    assert again.runs.keys() == said.runs.keys()
    assert "not signed" in again.faults[0]
    client.log_text(run_id, "more", "more.txt")
    seen = see(client, ledger, run_id)
    (check,) = Seals(uri, trusted(), seen).vanished()
    assert (check.run_id, check.seal) == (gone, Seal.ALTERED)
    assert "gone from the store" in check.reason


def test_a_ledger_that_was_edited_is_not_believed_at_all(
    uri: str, client: MlflowClient, run_id: str, ledger: Ledger
) -> None:
    see(client, ledger, run_id)
    ledger.path.write_text(ledger.path.read_text().replace("train", "tr4in", 1))
    seen = read(ledger, trusted())
    assert seen.runs == {}
    assert "damaged or was changed" in seen.faults[0]
    result = verify("--store", uri, "--run", run_id, "--ledger", str(ledger.path))
    assert result.exit_code == 1


def test_a_ledger_rebuilt_by_somebody_without_the_key_is_not_believed(
    client: MlflowClient, run_id: str, ledger: Ledger, tmp_path: Path
) -> None:
    see(client, ledger, run_id)
    forged = Ledger(tmp_path / "forged.jsonl")
    thief = keys.create(tmp_path / "thief.pem")
    witness(client, [run_id], forged, thief, NOW - timedelta(days=30))
    seen = read(forged, trusted())
    assert seen.runs == {}
    assert "not among the trusted keys" in seen.faults[0]


def test_lines_cut_off_are_noticed_by_the_head_that_was_noted(
    uri: str, client: MlflowClient, run_id: str, ledger: Ledger
) -> None:
    generate("auditor", "witness")
    words = ["--store", uri, "--ledger", str(ledger.path), "--key", "auditor"]
    first = CliRunner().invoke(witness_command.command, words)
    assert first.exit_code == 0, first.output
    short = ledger.path.read_bytes()
    client.log_text(run_id, "more", "more.txt")
    CliRunner().invoke(witness_command.command, words)
    head = read(ledger, trusted()).head
    arguments = ("--store", uri, "--run", run_id, "--ledger", str(ledger.path), "--head", head)
    assert verify(*arguments).exit_code == 0
    ledger.path.write_bytes(short)
    result = verify(*arguments)
    assert result.exit_code == 1
    assert "lines were cut off" in result.output


def test_rules_about_seals_are_answered_the_same_by_both_engines(
    uri: str, client: MlflowClient, signed_run: str, record: Callable[[], str]
) -> None:
    altered = record()
    client.log_metric(altered, "accuracy", 0.99)
    pack = load_pack("integrity")

    def states(engine: str) -> dict[tuple[str, str], tuple[State, str]]:
        seals = Seals(uri, trusted())
        request = AuditRequest(store=uri, packs=(pack,), engine=engine, seals=seals.check)
        audit = run_audit(request, NOW + timedelta(hours=1))
        assert audit.seals is not None
        return {(f.rule_id, f.subject.key): (f.state, f.message) for f in audit.findings}

    plain, columns = states("plain"), states("columns")
    assert plain == columns
    assert plain["INT-002", signed_run][0] is State.PASS
    assert plain["INT-005", signed_run][0] is State.PASS
    assert plain["INT-002", altered] == (State.FAIL, "The record is altered; changed: metric accuracy.")  # fmt: skip
    request = AuditRequest(store=uri, packs=(pack,), engine="columns")
    unasked = {f.rule_id: f.state for f in run_audit(request, NOW + timedelta(hours=1)).findings if f.subject.key == altered}  # fmt: skip
    assert unasked["INT-002"] is State.NO_EVIDENCE
