"""Every data format against its official schema or an independent reader, and what the states become there."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import junitparser
import pyarrow.parquet as pq
import pypdfium2
import pytest

from mlflow_carbon import resources
from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.policy.model import State
from mlflow_carbon.report.csv import COLUMNS, cell
from mlflow_carbon.report.markdown import plain
from tests.report.sample import HOSTILE_FORMULA


@pytest.fixture(scope="session")
def sarif(written: dict[str, Path]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(written["sarif"].read_text())
    return data


@pytest.fixture(scope="session")
def lines(written: dict[str, Path]) -> list[dict[str, str]]:
    with written["csv"].open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_json_is_valid_against_its_published_schema(written: dict[str, Path]) -> None:
    schema = json.loads((resources.templates() / "report" / "report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    data = json.loads(written["json"].read_text(encoding="utf-8"))
    assert list(validator.iter_errors(data)) == []
    data["findings"][0]["state"] = "fine"
    data["score"] = 99
    assert len(list(validator.iter_errors(data))) == 2


def test_json_says_null_for_what_is_unknown_and_never_zero(written: dict[str, Path]) -> None:
    data = json.loads(written["json"].read_text(encoding="utf-8"))
    unmeasured = next(run for run in data["energy"]["runs"] if run["method"] == "missing")
    assert unmeasured["energy_j"] is None
    assert unmeasured["emissions_g"] is None
    assert next(d for d in data["datasets"] if d["digest"] == "deadbeef")["rows"] is None


def test_json_says_which_rules_a_named_person_answers(written: dict[str, Path]) -> None:
    rules = json.loads(written["json"].read_text(encoding="utf-8"))["rules"]
    asked = {rule["id"]: rule["attest"] for rule in rules if rule["attest"] is not None}
    assert list(asked) == ["MOD-007"]
    assert asked["MOD-007"]["statement"] == "intended-use-reviewed"


def test_sarif_is_valid_against_the_oasis_schema(sarif: dict[str, Any]) -> None:
    schema = json.loads((Path(__file__).parent / "schemas" / "sarif-2.1.0-rtm.5.json").read_text())
    validator = jsonschema.Draft4Validator(schema)
    assert list(validator.iter_errors(sarif)) == []
    assert list(validator.iter_errors({**sarif, "version": "2.2"}))


def test_sarif_has_one_rule_id_for_each_rule_and_a_kind_for_each_state(
    sarif: dict[str, Any], audit: Audit
) -> None:
    (run,) = sarif["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(audit.rules)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    kinds = Counter((r["properties"]["state"], r["kind"]) for r in run["results"])
    assert kinds["no_evidence", "open"] == audit.count(State.NO_EVIDENCE)
    assert kinds["needs_attestation", "review"] == audit.count(State.NEEDS_ATTESTATION)
    assert kinds["not_applicable", "notApplicable"] == audit.count(State.NOT_APPLICABLE)
    suppressed = [result for result in run["results"] if result.get("suppressions")]
    assert len(suppressed) == audit.count(State.WAIVED)
    assert suppressed[0]["kind"] == "fail"
    assert "W-2026-014" in suppressed[0]["suppressions"][0]["justification"]
    notes = run["invocations"][0]["toolExecutionNotifications"]
    assert len(notes) == audit.count(State.ERROR)
    assert run["invocations"][0]["executionSuccessful"] is False


def test_junit_counts_are_those_of_the_audit(written: dict[str, Path], audit: Audit) -> None:
    read = junitparser.JUnitXml.fromfile(str(written["junit"]))
    assert read.tests == len(audit.findings)
    assert read.failures == audit.count(State.FAIL)
    assert read.errors == audit.count(State.ERROR)
    passed = sum(case.is_passed for suite in read for case in suite)
    assert passed == audit.count(State.PASS)


def test_csv_has_a_line_for_each_answer(lines: list[dict[str, str]], audit: Audit) -> None:
    assert len(lines) == len(audit.findings)
    assert {line["identity"] for line in lines} == {f.identity for f in audit.findings}


def test_parquet_has_the_columns_of_the_csv_and_values_as_they_are(
    written: dict[str, Path], audit: Audit
) -> None:
    table = pq.read_table(written["parquet"])
    assert tuple(table.column_names) == COLUMNS
    assert table["identity"].to_pylist() == [finding.identity for finding in audit.findings]
    assert any(key.startswith("00c0ffee") for key in table["subject_key"].to_pylist())
    assert HOSTILE_FORMULA in table["subject_label"].to_pylist()


def test_no_cell_of_the_csv_is_a_formula(lines: list[dict[str, str]]) -> None:
    values = [value for line in lines for value in line.values()]
    assert not [value for value in values if value.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert any(value == f"'{HOSTILE_FORMULA}" for value in values)
    assert cell(" =1+1") == "' =1+1"
    assert cell("-3") == "'-3"


def test_every_format_tells_the_selection_and_how_many_runs_were_read_and_were_not(
    written: dict[str, Path], sarif: dict[str, Any], audit: Audit
) -> None:
    whole = json.loads(written["json"].read_text(encoding="utf-8"))["selection"]
    assert (whole["runs_selected"], whole["runs_read"]) == (13, 12)
    assert len(whole["failed_to_read"]) == 1
    assert sarif["runs"][0]["invocations"][0]["properties"]["selection"] == whole
    kept = pq.read_schema(written["parquet"]).metadata[b"mlflow_carbon.selection"]
    assert json.loads(kept) == whole
    beside = json.loads(written["csvw"].read_text())
    assert beside["notes"] == [{"selection": whole}]
    assert written["csvw"].name == f"{beside['url']}-metadata.json"
    assert [c["name"] for c in beside["tableSchema"]["columns"]] == list(COLUMNS)
    first, *others = junitparser.JUnitXml.fromfile(str(written["junit"]))
    told = {one.name: one.value for one in first.properties()}
    assert told["selection.filter"] == audit.selection.filter
    assert told["selection.runs_selected"] == "13"
    assert told["selection.runs_read"] == "12"
    assert told["selection.failed_to_read"] == "1"
    assert [one for suite in others for one in suite.properties()] == []
    (result,) = json.loads(written["oscal"].read_text())["assessment-results"]["results"]
    props = {one["name"]: one["value"] for one in result["props"]}
    assert props["selection-filter"] == audit.selection.filter
    assert props["selection-failed-to-read"] == "1"
    for name in ("html", "markdown"):
        text = written[name].read_text(encoding="utf-8")
        assert "12 of 13; 1 could not be read" in text
        assert "tags.team = " in text
    with pypdfium2.PdfDocument(written["pdf"]) as pdf:
        text = "".join(page.get_textpage().get_text_bounded() for page in pdf)
    assert "12 of 13; 1 could not be read" in text
    assert audit.selection.filter in text


def test_markdown_shows_hostile_names_as_text_and_fits_a_comment(written: dict[str, Path]) -> None:
    text = written["markdown"].read_text(encoding="utf-8")
    assert len(text) < 65_536
    outside = re.sub(r"`[^`]*`", "", text)
    assert not re.search(r"(?<!\\)<script", outside)
    assert "://" not in outside.replace("&#58;//", "")
    assert "## Summary" in text
    assert "\u202e" not in text


def test_markdown_makes_no_mention_link_or_image_of_a_name() -> None:
    shown = plain("![x](http://127.0.0.1/) @everyone www.example.org <b>")
    assert "](" not in shown.replace("\\](", "")
    assert "://" not in shown
    assert "@" not in shown
    assert "www." not in shown
    assert "\\<b\\>" in shown


def test_the_same_audit_gives_the_same_bytes_in_every_format(
    audit: Audit, written: dict[str, Path], tmp_path: Path
) -> None:
    from mlflow_carbon.report.write import write_reports

    again = write_reports(audit, tmp_path, [name for name in written if name != "pdf"])
    assert all(path.read_bytes() == written[name].read_bytes() for name, path in again.items())
