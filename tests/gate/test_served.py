"""After the promotion: files against the approved ones, standing, and the way back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

from mlflow_carbon.cli import gate
from mlflow_carbon.evidence import manifest
from mlflow_carbon.evidence.ledger import Ledger
from tests.gate import policy_files
from tests.gate.conftest import Seeded, seed

FILES = st.dictionaries(
    st.text(min_size=1, max_size=20),
    st.tuples(st.integers(0, 2**53 - 1), st.text(max_size=64)),
    max_size=6,
)


@pytest.fixture
def uri(open_store: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)  # where MLflow puts the artifacts of a SQLite store
    return open_store()


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return MlflowClient(uri, uri)


@pytest.fixture
def command(uri: str, tmp_path: Path) -> Callable[..., Result]:
    policy_files.write(tmp_path)

    def run(*words: str) -> Result:
        asked = ["--policy", str(tmp_path / "gate.yaml")] if words[0] in ("status", "watch") else []
        return CliRunner().invoke(gate.command, [*words, *asked, "--store", uri])

    return run


def with_files(client: MlflowClient, name: str, *, passes: bool = True) -> Seeded:
    seeded = seed(client, name, passes=passes)
    client.log_text(seeded.run_id, "flavors: {}", "model/MLmodel")
    client.log_text(seeded.run_id, "weights", "model/data/weights.bin")
    return seeded


APPROVE = ["--by", "Bob", "--role", "reviewer", "--reason", "Looked at it."]


def test_an_approval_keeps_the_files_as_they_are(
    client: MlflowClient, command: Callable[..., Result]
) -> None:
    with_files(client, "credit")
    result = command("approve", "models:/credit/1", *APPROVE)
    assert result.exit_code == 0, result
    tags = client.get_model_version("credit", "1").tags
    kept = manifest.from_text(tags[manifest.TAG])
    assert kept is not None
    assert set(kept.files or ()) == {"MLmodel", "data/weights.bin"}
    assert "with 2 files" in result.output
    (stated,) = (text for key, text in tags.items() if "approved." in key)
    assert json.loads(stated)["reference"] == kept.reference


def test_what_stands_is_said_to_stand(client: MlflowClient, command: Callable[..., Result]) -> None:
    with_files(client, "credit")
    with_files(client, "unpromoted", passes=False)
    command("approve", "models:/credit/1", *APPROVE)
    client.set_registered_model_alias("credit", "champion", "1")
    result = command("status", "--json")
    (one,) = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (one["model"], one["through"], one["stands"]) == ("credit", "alias champion", True)
    assert one["files"] == "unchanged"


def test_a_copy_in_a_protected_model_stands_on_the_evidence_of_its_original(
    client: MlflowClient, command: Callable[..., Result]
) -> None:
    with_files(client, "credit")
    command("approve", "models:/credit/1", *APPROVE)
    client.create_registered_model("prod.credit")
    client.copy_model_version("models:/credit/1", "prod.credit")
    (one,) = json.loads(command("status", "--json").stdout)
    assert (one["model"], one["stands"], one["files"]) == ("prod.credit", True, "unchanged")
    client.set_model_version_tag("credit", "1", "review", "failed")
    (one,) = json.loads(command("status", "--json").stdout)
    assert (one["model"], one["stands"]) == ("prod.credit", False)
    client.delete_model_version("credit", "1")
    (one,) = json.loads(command("status", "--json").stdout)
    assert one["stands"]  # by the tags it took along


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("model/data/weights.bin", "data/weights.bin was changed"),
        ("model/new.py", "new.py was added"),
    ],
)
def test_a_file_replaced_after_the_approval_is_found(
    client: MlflowClient, command: Callable[..., Result], path: str, words: str
) -> None:
    seeded = with_files(client, "credit")
    command("approve", "models:/credit/1", *APPROVE)
    client.set_registered_model_alias("credit", "champion", "1")
    client.log_text(seeded.run_id, "something else", path)
    result = command("status", "--json")
    (one,) = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [(v["rule"], v["severity"]) for v in one["violations"]] == [("GATE-FILES", "critical")]
    assert words in one["violations"][0]["message"]


def test_a_promotion_around_the_gate_is_found(
    client: MlflowClient, command: Callable[..., Result]
) -> None:
    """Whoever writes to the database with a client of their own passes no gate; this is how it shows."""
    with_files(client, "credit", passes=False)
    client.set_registered_model_alias("credit", "champion", "1")
    result = command("status")
    assert result.exit_code == 1
    assert "REV-001" in result.output


def test_nothing_promoted_is_no_failure(command: Callable[..., Result]) -> None:
    result = command("status")
    assert (result.exit_code, result.output) == (0, "Nothing is behind a protected name.\n")


def test_watch_only_looks_unless_told_otherwise(
    client: MlflowClient, command: Callable[..., Result]
) -> None:
    with_files(client, "credit")
    with_files(client, "credit", passes=False)
    client.set_registered_model_alias("credit", "champion", "2")
    assert command("watch").exit_code == 1
    assert client.get_registered_model("credit").aliases == {"champion": 2}


def test_a_fallen_alias_goes_back_to_the_last_version_that_passes(
    client: MlflowClient, command: Callable[..., Result], tmp_path: Path
) -> None:
    for passes in (True, True, False, False):
        with_files(client, "credit", passes=passes)
    client.set_registered_model_alias("credit", "champion", "4")
    path = tmp_path / "ledger.jsonl"
    result = command("watch", "--rollback", "--ledger", str(path))
    assert result.exit_code == 1
    assert "alias champion moved back to version 2" in result.output
    assert client.get_registered_model("credit").aliases == {"champion": 2}
    (entry,) = Ledger(path).read().entries
    assert entry.said["outcome"] == "rolled back"
    assert entry.said["violations"] == ["REV-001 no_evidence"]


def test_with_nothing_to_go_back_to_the_alias_stays(
    client: MlflowClient, command: Callable[..., Result], tmp_path: Path
) -> None:
    with_files(client, "credit", passes=False)
    client.set_registered_model_alias("credit", "champion", "1")
    result = command("watch", "--rollback", "--ledger", str(tmp_path / "ledger.jsonl"))
    assert result.exit_code == 1
    assert "no other version passes; alias champion stays" in result.output


def test_the_ledger_is_shown_and_a_changed_line_is_told(tmp_path: Path) -> None:
    from datetime import datetime, timezone

    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    now = datetime(2026, 11, 23, tzinfo=timezone.utc)
    ledger.append({"outcome": "refused", "action": "Alias\x1b[31m", "by": "ana"}, now)
    shown = CliRunner().invoke(gate.command, ["ledger", "--ledger", str(path)])
    assert shown.exit_code == 0
    assert "1 2026-11-23 00:00:00 refused: Alias [31m (by ana)" in shown.output
    path.write_text(path.read_text().replace("refused", "allowed"))
    shown = CliRunner().invoke(gate.command, ["ledger", "--ledger", str(path)])
    assert shown.exit_code == 1
    assert "line 1 is damaged or was changed" in shown.output


@settings(deadline=None)
@given(FILES)
def test_a_manifest_survives_its_tag(files: dict[str, tuple[int, str]]) -> None:
    taken = manifest.of(files)
    assert manifest.from_text(taken.to_text()) == taken
    assert taken.changes_since(taken) == ()


@settings(deadline=None)
@given(FILES, FILES)
def test_different_files_are_never_the_same_manifest(
    then: dict[str, tuple[int, str]], now: dict[str, tuple[int, str]]
) -> None:
    assert bool(manifest.of(now).changes_since(manifest.of(then))) == (then != now)


def test_a_manifest_that_was_edited_is_none() -> None:
    text = manifest.of({"MLmodel": (3, "ab")}).to_text()
    assert manifest.from_text(text.replace("ab", "cd")) is None
    assert manifest.from_text("[]") is None
    assert manifest.from_text('{"root": "x", "files": {"a": 1}}') is None
    assert manifest.from_text('{"root": "x", "files": {"a": [9007199254740992, "x"]}}') is None


def test_a_list_too_long_for_a_tag_is_kept_as_its_hash() -> None:
    many = manifest.of({f"part-{number}": (1, "a" * 64) for number in range(1000)})
    read = manifest.from_text(many.to_text())
    assert read is not None
    assert (read.root, read.files) == (many.root, None)
    assert manifest.of({}).changes_since(read) == ("files were changed, added or removed",)
