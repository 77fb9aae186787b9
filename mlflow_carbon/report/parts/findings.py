"""What failed, and what could not be decided: rule by rule, with the evidence of each subject."""

from __future__ import annotations

from collections.abc import Sequence

from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.policy.model import Observation, State
from mlflow_carbon.report.blocks import (
    Block,
    Code,
    Column,
    Facts,
    Heading,
    Inline,
    Line,
    Paragraph,
    RuleGroup,
    Strong,
    Table,
    cells,
    line,
)
from mlflow_carbon.report.context import UNDECIDED, Context, Group
from mlflow_carbon.report.parts.front import of_subjects
from mlflow_carbon.report.shown import name, shown

DETAILED = (State.FAIL, *UNDECIDED, State.WAIVED)
"""The states whose subjects are listed one by one."""


def findings(c: Context) -> tuple[Block, ...]:
    """Every rule with its counts, then the failures."""
    failed = c.groups((State.FAIL,))
    if not failed:
        return (Paragraph(line(c.t("findings.lead_none")), "lead"), _rules(c))
    lead = c.t(
        "findings.lead",
        failed=c.t("findings.answers", c.audit.count(State.FAIL)),
        rules=c.t("summary.rules", len(failed)),
    )
    return (
        Paragraph(line(lead), "lead"),
        _rules(c),
        Heading(line(c.t("findings.failures_heading"))),
        *(rule_group(c, group) for group in failed),
    )


def undecided(c: Context) -> tuple[Block, ...]:
    """No evidence, no attestation, no evaluation: of equal rank with the failures."""
    groups = c.groups(UNDECIDED)
    if not groups:
        return (Paragraph(line(c.t("open.lead_none")), "lead"),)
    lead = c.t("open.lead", answers=c.t("open.answers", c.undecided))
    return (Paragraph(line(lead), "lead"), *(rule_group(c, group) for group in groups))


def rule_group(c: Context, group: Group) -> RuleGroup:
    """One rule in one state, with its subjects."""
    t, rule = c.t, group.summary.rule
    owner = next((p.owner for p in c.audit.packs if p.id == group.summary.pack_id), "")
    controls = ", ".join(
        f"{ref.framework}/{ref.control} ({t(f'relation.{ref.relation.value}')})"
        for ref in rule.controls
    )
    facts = (
        (t("findings.why"), line(rule.rationale)),
        (t("findings.do"), line(rule.remediation)),
        (t("findings.not_shown"), line(rule.does_not_show)),
        (t("findings.controls"), line(controls or t("none"))),
        (
            t("findings.written_at"),
            line(
                Code(str(rule.at)),
                f"; {t('findings.owner')}: {name(owner) if owner else t('not_set')}",
            ),
        ),
    )
    return RuleGroup(
        anchor=f"{group.summary.pack_id}-{rule.id}-{group.state.value}",
        state=c.state(group.state),
        severity=c.severity(rule.severity),
        rule_id=rule.id,
        title=rule.title,
        count=of_subjects(c, group),
        facts=Facts(facts),
        table=_subjects(c, group),
    )


def _subjects(c: Context, group: Group) -> Table:
    t = c.t
    rule = group.summary.rule
    limit = c.shares.get((group.summary.pack_id, rule.id, group.state), 0)
    listed = group.findings[:limit]
    left_out = group.summary.counts[group.state] - len(group.findings)
    return Table(
        t("findings.table", rule=rule.id, state=c.state(group.state).word),
        (
            Column(t("findings.subject"), 30), Column(t("findings.finding"), 28),
            Column(t("findings.evidence"), 42),
        ),
        tuple(_row(c, finding) for finding in listed),
        omitted=c.more(len(group.findings) - len(listed), left_out, "findings.csv"),
    )  # fmt: skip


def _row(c: Context, finding: Finding) -> tuple[Line, ...]:
    subject = finding.subject
    who: Line = line(name(subject.label))
    if subject.key != subject.label:
        who = line(name(subject.label), " ", Code(name(subject.key)))
    return (who, line(shown(finding.message, 400)), _evidence(c, finding.observations))


def _evidence(c: Context, observations: Sequence[Observation]) -> Line:
    t = c.t
    parts: list[Inline] = []
    for seen in observations[:6]:
        expected = shown(seen.expected, 120)
        if seen.observed is None:
            told = t("findings.missing", expected=expected)
        else:
            told = t("findings.observed", observed=shown(seen.observed, 120), expected=expected)
        end = t("findings.read_from", place=shown(seen.read_from, 120)) if seen.read_from else ""
        parts += [Code(shown(seen.fact, 80)), f" {told}; {end}. "]
    return tuple(parts) or line(t("none"))


def _rules(c: Context) -> Table:
    t = c.t
    states = (
        State.FAIL, *UNDECIDED, State.WAIVED, State.PASS, State.NOT_APPLICABLE,
    )  # fmt: skip
    columns = (
        Column(t("findings.rule"), 36), Column(t("findings.severity"), 11),
        Column(t("findings.subjects"), 11, number=True),
        *(Column(t(f"short_state.{state.value}"), 6, number=True) for state in states),
    )  # fmt: skip
    rows = []
    for summary in sorted(c.audit.rules, key=lambda s: (s.rule.severity.rank, s.rule.id)):
        counts = [
            Strong(t.number(summary.counts[state])) if summary.counts[state] else "\u00b7"
            for state in states
        ]
        rows.append(
            cells(
                line(Code(summary.rule.id), f" {summary.rule.title}"), c.severity(summary.rule.severity),
                t.number(summary.subjects), *counts,
            )
        )  # fmt: skip
    return Table(t("findings.rules_caption"), columns, tuple(rows))
