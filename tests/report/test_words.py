"""What a report never says, and what it always says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pypdfium2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon import resources
from mlflow_carbon.audit.baseline import OPEN
from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.carbon import tables
from mlflow_carbon.carbon.intensity import factor_for
from mlflow_carbon.carbon.providers import ElectricityMaps, WattTime
from mlflow_carbon.carbon.region import parse_region
from mlflow_carbon.evidence.model import SubjectKind
from mlflow_carbon.policy.model import ControlRef, Relation, State
from mlflow_carbon.report import texts
from mlflow_carbon.report.blocks import Facts, RuleGroup, Table
from mlflow_carbon.report.context import ORDER, fair_shares
from mlflow_carbon.report.document import build
from mlflow_carbon.report.shown import shown, visible

# "not-satisfied" is OSCAL's own word for the opposite.
BANNED = re.compile(
    r"\bcomplian(t|ce with)|\bcertif(ied|ies|y)|(?<!not-)\bsatisf(ies|ied)|meets? the requirements?|"
    r"\bkonform (mit|zu)\b|\bzertifiziert|\berfüllt die (anforderung|vorgabe)|out of 100\b|\b\d+ ?/ ?100\b",
    re.IGNORECASE,
)


def _shipped() -> list[Path]:
    folders = (
        resources.templates(),
        resources.policies() / "packs",
        resources.policies() / "frameworks",
    )
    kinds = {".yaml", ".j2", ".md", ".html", ".js"}
    return [
        path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in kinds
    ]


def test_no_template_and_no_policy_promises_conformity() -> None:
    files = _shipped()
    assert len(files) > 5
    found = {
        f"{path.name}: {match.group()}"
        for path in files
        for match in BANNED.finditer(path.read_text(encoding="utf-8"))
    }
    assert found == set()


def test_no_output_promises_conformity(written: dict[str, Path]) -> None:
    with pypdfium2.PdfDocument(written["pdf"]) as pdf:
        outputs = {"pdf": "\n".join(page.get_textpage().get_text_bounded() for page in pdf)}
    for name, path in written.items():
        if name not in {"pdf", "parquet"}:
            outputs[name] = path.read_text(encoding="utf-8")
    assert {name: m.group() for name, text in outputs.items() if (m := BANNED.search(text))} == {}


def test_the_banned_words_would_be_found() -> None:
    for claim in (
        "is compliant",
        "Certified model",
        "satisfies Art. 10",
        "meets the requirements of",
        "72/100",
    ):
        assert BANNED.search(claim)


def test_the_parts_stand_in_their_order_and_limits_come_before_findings(audit: Audit) -> None:
    document = build(audit, texts.load("en"))
    assert tuple(part.id for part in document.parts) == (*ORDER, "annex")
    assert ORDER.index("scope") < ORDER.index("findings") < ORDER.index("open")
    assert [part.number for part in document.parts] == [*map(str, range(1, 12)), ""]


def test_failures_and_undecided_answers_are_told_in_the_same_detail(audit: Audit) -> None:
    document = build(audit, texts.load("en"))
    groups = {
        part.id: [block for block in part.blocks if isinstance(block, RuleGroup)]
        for part in document.parts
    }
    assert {group.state.state for group in groups["findings"]} == {State.FAIL}
    assert {group.state.state for group in groups["open"]} == {
        State.NO_EVIDENCE,
        State.NEEDS_ATTESTATION,
        State.ERROR,
    }
    assert {group.state.state for group in groups["waivers"]} == {State.WAIVED}
    for group in (*groups["findings"], *groups["open"]):
        assert re.search(r"\d+ of \d+", group.count)
        told = {label for label, _ in group.facts.rows}
        told |= {column.heading for column in group.table.columns}
        assert told >= {
            "Finding", "Evidence", "Why it matters", "What to do", "What a pass would not show",
            "Controls", "Written at",
        }  # fmt: skip


def test_details_are_capped_and_what_is_left_out_is_counted(audit: Audit) -> None:
    document = build(audit, texts.load("en"), detail_rows=20)
    groups = [b for part in document.parts for b in part.blocks if isinstance(b, RuleGroup)]
    listed = sum(len(group.table.rows) for group in groups)
    assert listed == 20
    left_out = [int(group.table.omitted.split()[0]) for group in groups if group.table.omitted]
    detailed = {State.FAIL, State.NO_EVIDENCE, State.NEEDS_ATTESTATION, State.ERROR, State.WAIVED}
    assert listed + sum(left_out) == sum(audit.count(state) for state in detailed)


@given(st.lists(st.integers(0, 500), max_size=30), st.integers(0, 400))
def test_small_groups_are_shown_whole_before_large_ones_get_more(
    wanted: list[int], budget: int
) -> None:
    given_rows = fair_shares(wanted, budget)
    assert sum(given_rows) == min(sum(wanted), budget)
    assert all(got <= want for got, want in zip(given_rows, wanted, strict=True))
    cut = [got for got, want in zip(given_rows, wanted, strict=True) if got < want]
    assert all(
        got >= min(want, min(cut, default=0)) for got, want in zip(given_rows, wanted, strict=True)
    )


@given(st.text())
def test_nothing_invisible_is_shown(text: str) -> None:
    assert all(character.isprintable() for character in visible(text))
    assert len(shown(text, 50)) <= 10 * 50 + 40


@pytest.mark.parametrize("language", texts.languages())
def test_every_language_has_every_text_with_the_same_places(language: str) -> None:
    english, other = texts.load("en").entries, texts.load(language).entries
    assert set(other) == set(english)

    def places(entry: object) -> set[str]:
        return set(re.findall(r"\$(\w+)", yaml.safe_dump(entry)))

    assert {key for key in english if places(english[key]) != places(other[key])} == set()
    assert {k for k in english if isinstance(english[k], str) != isinstance(other[k], str)} == set()


def test_the_sample_has_an_open_answer_about_every_kind_of_subject(audit: Audit) -> None:
    """So that no format and no language misses one."""
    assert {one.subject.kind for one in audit.findings if one.state in OPEN} == set(SubjectKind)


def test_a_rule_that_two_policies_share_is_told_once_with_the_controls_of_both(
    audit: Audit,
) -> None:
    ref = ControlRef("nist-ai-rmf", "GOVERN-1.1", Relation.INFORMS)
    copied = tuple(
        replace(one, pack_id="other", rule=replace(one.rule, controls=(ref,)))
        for one in audit.rules
    )
    twice = replace(
        audit,
        rules=(*audit.rules, *copied),
        findings=(*audit.findings, *(replace(one, pack_id="other") for one in audit.findings)),
    )
    both, single = (build(one, texts.load("en")) for one in (twice, audit))
    told, before = (
        [block for part in one.parts for block in part.blocks if isinstance(block, RuleGroup)]
        for one in (both, single)
    )
    assert [group.rule_id for group in told] == [group.rule_id for group in before]
    for group in told:
        facts = {label: "".join(map(str, value)) for label, value in group.facts.rows}
        assert "GOVERN-1.1" in facts["Controls"]
        assert "the same in other" in facts["Written at"]
    (table,) = (
        block
        for part in both.parts
        for block in part.blocks
        if isinstance(block, Table) and block.caption == "Every rule and its answers"
    )
    assert len(table.rows) == len(audit.rules)
    assert table.omitted.startswith(f"{len(audit.rules)} rules more are the same")


@pytest.mark.parametrize(("language", "told"), [
    ("en", "0 of 72 controls of NIST AI Risk Management Framework 1.0 have answers from records in this audit, 1 rest on"),
    ("de", "Zu 0 von 72 Kontrollen aus NIST AI Risk Management Framework 1.0 gibt es Antworten aus Aufzeichnungen, 1 beruhen nur auf"),
])  # fmt: skip
def test_a_control_that_rests_on_statements_alone_is_told_apart_from_answers_from_records(
    audit: Audit, language: str, told: str
) -> None:
    asked = next(one for one in audit.rules if one.rule.attest is not None)
    passed = replace(asked, counts={**dict.fromkeys(State, 0), State.PASS: 2})
    document = build(replace(audit, rules=(passed,), findings=()), texts.load(language))
    part = next(part for part in document.parts if part.id == "coverage")
    assert told in str(part.blocks)
    assert told in str(next(part for part in document.parts if part.id == "summary").blocks)
    words = texts.load(language)
    table = next(
        b for b in part.blocks if isinstance(b, Table) and "MANAGE-1.1" in str(b.rows[0][0])
    )
    assert words("coverage.outcome.attested") in str(table.rows)


def test_a_control_with_answers_from_records_says_how_many_are_statements(audit: Audit) -> None:
    asked = next(one for one in audit.rules if one.rule.attest is not None)
    passed = replace(asked, counts={**dict.fromkeys(State, 0), State.PASS: 1})
    read = replace(passed, rule=replace(asked.rule, id="MOD-099", attest=None))
    document = build(replace(audit, rules=(passed, read), findings=()), texts.load("en"))
    part = next(part for part in document.parts if part.id == "coverage")
    table = next(
        b for b in part.blocks if isinstance(b, Table) and "MANAGE-1.1" in str(b.rows[0][0])
    )
    result = "".join(piece if isinstance(piece, str) else piece.text for piece in table.rows[0][3])
    assert result == "Evidence supports, 2 of 2 answers passed, 1 of them by a person's statement"


@pytest.mark.parametrize(("recorded", "told"), [
    ("Ember 2026, 2025, lifecycle, annual average, location-based", "Ember 2026, 2025, Lebenszyklus, Jahresmittel, ortsbezogen"),
    ("own direct line 1.5, 2025, direct, hourly marginal, location-based (direct, by us)", "own direct line 1.5, 2025, direkt, marginal im Stundenmittel, ortsbezogen (direct, by us)"),
    ("2023, direct, annual average, location-based (CO2 only, not CO2e)", "2023, direkt, Jahresmittel, ortsbezogen (nur CO2, nicht CO2e)"),
    ("mixed: lifecycle, annual average, location-based; direct, hourly marginal, location-based (CO2 only)",
     "gemischt: Lebenszyklus, Jahresmittel, ortsbezogen; direkt, marginal im Stundenmittel, ortsbezogen (nur CO2)"),
    ("written by hand", "written by hand"),
])  # fmt: skip
def test_what_a_factor_means_is_told_in_the_language_of_the_report_and_its_source_as_recorded(
    audit: Audit, recorded: str, told: str
) -> None:
    one = replace(audit, energy=replace(audit.energy, factors=(f"41.4 g/kWh, {recorded}",)))

    def shown(language: str) -> str:
        words = texts.load(language)
        part = next(part for part in build(one, words).parts if part.id == "energy")
        facts = next(block for block in part.blocks if isinstance(block, Facts))
        return "".join(map(str, dict(facts.rows)[words("energy.factors")]))

    assert shown("en") == f"41.4 g/kWh, {recorded}"
    assert shown("de") == f"41,4 g/kWh, {told}"


def test_every_note_on_a_shipped_factor_can_be_translated() -> None:
    places = [row["code"] for row in tables.rows("grid_country")]
    places += [row["code"] for row in tables.rows("grid_subnational")]
    places += [f"{row['provider']}/{row['region']}" for row in tables.rows("cloud_regions")]
    notes = {factor_for(parse_region(place)).note for place in dict.fromkeys(places)} - {""}
    notes |= {service("key").about.note for service in (ElectricityMaps, WattTime)}
    assert len(notes) == 6
    assert {note for note in notes if f"factor.{note}" not in texts.load("en").entries} == set()


def test_an_audit_of_very_many_runs_says_what_it_counted_but_did_not_list(audit: Audit) -> None:
    fails = [f for f in audit.findings if f.state is State.FAIL]
    kept = tuple(f for f in audit.findings if f not in fails[5:])
    energy = replace(audit.energy, rows_left_out=999_988)
    large = replace(audit, findings=kept, findings_left_out=len(fails) - 5, energy=energy)
    document = build(large, texts.load("en"))
    blocks = [block for part in document.parts for block in part.blocks]
    groups = [b for b in blocks if isinstance(b, RuleGroup) and b.state.state is State.FAIL]
    assert len(groups) == sum(bool(s.counts[State.FAIL]) for s in audit.rules)
    left_out = sum(
        int(g.table.omitted.split()[0]) for g in groups if "listed nowhere" in g.table.omitted
    )
    assert left_out == len(fails) - 5
    (runs,) = (b for b in blocks if isinstance(b, Table) and b.caption == "Runs by energy")
    assert runs.omitted.startswith("999,988 more rows are counted")
