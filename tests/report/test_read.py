"""An audit read back from its report.json tells the same; what is no report is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.cli.main import cli
from mlflow_carbon.errors import DataError, SettingsError
from mlflow_carbon.report.read import read_audit
from mlflow_carbon.report.write import write_reports


def test_every_format_of_an_audit_read_back_has_the_same_bytes(
    audit: Audit, written: dict[str, Path], tmp_path: Path
) -> None:
    again = read_audit(written["json"].read_bytes(), "report.json")
    paths = write_reports(again, tmp_path, tuple(written))
    assert {
        name for name in written if paths[name].read_bytes() != written[name].read_bytes()
    } == set()


def test_a_report_is_written_again_in_another_language(
    written: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "look.yaml").write_text("language: de\nclassification: Vertraulich\n")
    arguments = [
        "report", str(written["json"].parent), "--format", "html,markdown", "--out", str(tmp_path / "out"),
        "--look", str(tmp_path / "look.yaml"),
    ]  # fmt: skip
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "report.html",
        "report.md",
    ]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert '<html lang="de">' in page
    assert "Vertraulich" in page


def test_a_report_that_is_refused_leaves_no_folder_that_it_made(
    written: dict[str, Path], tmp_path: Path
) -> None:
    look = tmp_path / "look.yaml"
    look.write_text("language: tlh\n")
    arguments = ["report", str(written["json"]), "--look", str(look), "--out"]
    done = CliRunner().invoke(cli, [*arguments, str(tmp_path / "new" / "out")])
    assert isinstance(done.exception, SettingsError), done.output
    assert list(tmp_path.iterdir()) == [look]


def _with(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data.update({key: value})


def _wrong_run(data: dict[str, Any]) -> None:
    data["energy"]["runs"][0]["energy_j"] = {"low": 2, "mid": 1, "high": 3}


def _wrong_label(data: dict[str, Any]) -> None:
    data["findings"][0]["subject"]["label"] = 7


def _unknown_rule(data: dict[str, Any]) -> None:
    data["findings"][0]["rule"] = "NO-999"


@pytest.mark.parametrize(
    "spoil",
    [
        _with("$schema", "urn:mlflow-carbon:report:9.0"),
        _with("as_of", "2026-11-20T09:30:00"),
        _with("findings", {"a": 1}),
        _with("power", [{"run_id": "a", "name": "b", "steps": []}]),
        _with("findings_left_out", -1),
        _with("selection", None),
        _wrong_run,
        _wrong_label,
        _unknown_rule,
    ],
)
def test_a_file_that_is_no_sound_report_is_refused_with_its_name(
    written: dict[str, Path], spoil: Callable[[dict[str, Any]], None]
) -> None:
    data = json.loads(written["json"].read_bytes())
    spoil(data)
    with pytest.raises(DataError, match=r"^last week\.json: is (no|of)"):
        read_audit(json.dumps(data).encode(), "last week.json")


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"$schema": 1}'])
def test_any_other_bytes_are_refused_too(content: bytes) -> None:
    with pytest.raises(DataError, match="notes"):
        read_audit(content, "notes.txt")
