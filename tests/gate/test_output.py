from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from mlflow_carbon.cli import gate
from mlflow_carbon.errors import OutputError
from mlflow_carbon.gate.output import markdown
from mlflow_carbon.gate.refusal import Violation
from mlflow_carbon.policy.load import load_pack
from mlflow_carbon.policy.model import Pack
from tests.gate import policy_files
from tests.gate.conftest import seed


@pytest.fixture
def uri(open_store: Callable[[], str]) -> str:
    return open_store()


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return load_pack(str(policy_files.write(tmp_path)))


def test_ci_gets_junit_and_a_summary(uri: str, tmp_path: Path, pack: Pack) -> None:
    seed(MlflowClient(uri, uri), "credit", passes=False)
    junit, summary = tmp_path / "gate.xml", tmp_path / "summary.md"
    summary.write_text("# Before\n")
    words = ["check", "models:/credit/1", "--policy", pack.file, "--store", uri, "--json"]
    result = CliRunner().invoke(
        gate.command, [*words, "--junit", str(junit), "--summary", str(summary)]
    )
    assert result.exit_code == 1
    assert json.loads(result.stdout)["allowed"] is False
    suite = ElementTree.parse(junit).getroot()
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "3", "failures": "1", "errors": "0", "skipped": "1"}
    (failure,) = suite.iter("failure")
    assert failure.get("type") == "no_evidence"
    text = summary.read_text()
    assert text.startswith("# Before\n### credit version 1 may not be promoted")
    assert "REV&#45;001" in text


def test_text_from_the_store_is_no_markup_in_a_summary(pack: Pack) -> None:
    evil = "x | [y](http://evil) <img src=x> @everyone `code`\n# Heading"
    violation = Violation(rule="A-1", severity="high", state="fail", message=evil, fix=evil)
    text = markdown(evil, pack, False, [violation])
    assert not set("[]()<>@`").intersection(text.replace("&#", ""))
    assert len([line for line in text.splitlines() if line.startswith("#")]) == 1
    assert all(line.count("|") in (0, 6) for line in text.splitlines())


def test_a_file_that_cannot_be_written_is_told(uri: str, tmp_path: Path, pack: Pack) -> None:
    seed(MlflowClient(uri, uri), "credit")
    words = ["check", "models:/credit/1", "--policy", pack.file, "--store", uri]
    result = CliRunner().invoke(gate.command, [*words, "--junit", str(tmp_path / "no" / "x.xml")])
    assert isinstance(result.exception, OutputError)
