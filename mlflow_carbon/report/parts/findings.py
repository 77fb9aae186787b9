"""What failed, and what could not be decided: rule by rule, with the evidence of each subject."""

from __future__ import annotations

from collections.abc import Sequence

from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.policy.model import State
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
    prose,
)
from mlflow_carbon.report.context import UNDECIDED, Context, Group
from mlflow_carbon.report.parts.front import of_subjects
from mlflow_carbon.report.shown import brief, name, place, shown

DETAILED = (State.FAIL, *UNDECIDED, State.WAIVED)
"""The states whose subjects are listed one by one."""
MOST_EVIDENCE = 6
"""Facts shown of one finding; all of them are in the attached data."""


def findings(c: Context) -> tuple[Block, ...]:
    """Every rule with its counts, then the failures."""
    failed = c.groups((State.FAIL,))
    if not failed:
        return (Paragraph(line(c.t("findings.lead_none")), "lead"), _rules(c))
    lead = c.t(
        "findings.lead",
        failed=c.t("findings.answers", c.audit.count(State.FAIL)),
        rules=c.t("summary.rules", sum(1 for one in c.audit.rules if one.counts[State.FAIL])),
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
    refs = dict.fromkeys(ref for one in (group.summary, *group.also) for ref in one.rule.controls)
    controls = ", ".join(
        f"{ref.framework}/{ref.control} ({t(f'relation.{ref.relation.value}')})" for ref in refs
    )
    also = ", ".join(name(one.pack_id) for one in group.also)
    facts = (
        *_said_once(c, group),
        (t("findings.why"), prose(rule.rationale)),
        (t("findings.do"), prose(rule.remediation)),
        (t("findings.not_shown"), prose(rule.does_not_show)),
        (t("findings.controls"), line(controls or t("none"))),
        (
            t("findings.written_at"),
            line(
                Code(place(rule.at)),
                f"; {t('findings.owner')}: {name(owner) if owner else t('not_set')}",
                f"; {t('findings.also', names=also)}" if also else "",
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


def _said_once(c: Context, group: Group) -> tuple[tuple[str, Line], ...]:
    """What holds for every subject of the group: the finding, if it is one and the same, and what was expected."""
    said: list[tuple[str, Line]] = []
    if (message := _shared_message(group)) is not None:
        said.append((c.t("findings.finding"), prose(shown(brief(message), 400))))
    if asked := _asked(group):
        expected: list[Inline] = []
        for fact, words in asked:
            told = c.t("findings.expected", expected=shown(words, 120))
            expected += ["; " if expected else "", Code(shown(fact, 80)), f" {told}"]
        said.append((c.t("findings.asked"), tuple(expected)))
    return tuple(said)


def _shared_message(group: Group) -> str | None:
    messages = {finding.message for finding in group.findings}
    return messages.pop() if len(messages) == 1 else None


def _asked(group: Group) -> tuple[tuple[str, str], ...]:
    """(fact, what was expected of it), if that is the same for all subjects and short enough to be said once."""
    asked = {tuple((o.fact, o.expected) for o in one.observations) for one in group.findings}
    (first, *others) = asked or {()}
    return () if others or len(first) > MOST_EVIDENCE else first


def _subjects(c: Context, group: Group) -> Table:
    t = c.t
    rule = group.summary.rule
    limit = c.shares.get((group.summary.pack_id, rule.id, group.state), 0)
    listed = group.findings[:limit]
    left_out = group.summary.counts[group.state] - len(group.findings)
    shared, asked = _shared_message(group) is not None, bool(_asked(group))
    widths = (46, 54) if shared else (30, 30, 40)
    headings = ("subject", "evidence") if shared else ("subject", "finding", "evidence")
    return Table(
        t("findings.table", rule=rule.id, state=c.state(group.state).word),
        tuple(Column(t(f"findings.{h}"), w) for h, w in zip(headings, widths, strict=True)),
        tuple(_row(c, finding, shared, asked) for finding in listed),
        omitted=c.more(len(group.findings) - len(listed), left_out, "findings.csv"),
    )


def _row(c: Context, finding: Finding, shared: bool, asked: bool) -> tuple[Line, ...]:
    subject = finding.subject
    who: Line = line(name(subject.label))
    if subject.key != subject.label:
        who = line(name(subject.label), " ", Code(name(subject.key)))
    told = () if shared else (prose(shown(finding.message, 400)),)
    return (who, *told, _evidence(c, finding, asked))


def _evidence(c: Context, finding: Finding, asked: bool) -> Line:
    """The facts with their values; where they were read, unless that is the subject's own record."""
    parts: list[Inline] = []
    facts: dict[tuple[str, str | None, str], list[str]] = {}
    for seen in finding.observations[:MOST_EVIDENCE]:
        key = (seen.fact, seen.observed, seen.read_from)
        facts.setdefault(key, []).append(shown(seen.expected, 120))
    for (fact, value, read_from), expected in facts.items():
        parts += ["; " if parts else "", Code(shown(fact, 80)), " "]
        parts.append(c.t("findings.not_there") if value is None else shown(brief(value), 120))
        if not asked:
            parts.append(f", {c.t('findings.expected', expected=', '.join(expected))}")
        if value is not None and not _own(finding, read_from):
            parts.append(f" ({c.t('findings.read_from', place=shown(read_from, 120))})")
    return tuple(parts) or line(c.t("none"))


def _own(finding: Finding, read_from: str) -> bool:
    """Whether a fact was read from the record of the subject: its run, and the key that the fact is called by."""
    run = finding.subject.key.partition("/")[0]
    return read_from in (finding.subject.label, f"run {run}") or read_from.startswith(f"run {run} ")


def _rules(c: Context) -> Table:
    t = c.t
    states = (
        State.FAIL, *UNDECIDED, State.WAIVED, State.PASS, State.NOT_APPLICABLE,
    )  # fmt: skip
    rules = sorted(c.rules(), key=lambda s: (s.rule.severity.rank, s.rule.id))
    numbers = [
        _numbers(
            t(f"short_state.{state.value}"), [t.number(summary.counts[state]) for summary in rules]
        )
        for state in states
    ]
    severity, subjects = Column(t("findings.severity"), 9), Column(t("findings.subjects"), 15)
    rest = 100 - severity.width - subjects.width - sum(column.width for column in numbers)
    rows = []
    for summary in rules:
        counts = [
            Strong(t.number(summary.counts[state])) if summary.counts[state] else "\u00b7"
            for state in states
        ]
        rows.append(
            cells(
                line(Code(summary.rule.id), f" {summary.rule.title}"), c.severity(summary.rule.severity),
                c.kind(summary.rule.scope, summary.subjects), *counts,
            )
        )  # fmt: skip
    columns = (Column(t("findings.rule"), max(rest, 18)), severity, subjects, *numbers)
    shared = len(c.audit.rules) - len(rules)
    omitted = t("findings.shared", shared) if shared else ""
    return Table(t("findings.rules_caption"), columns, tuple(rows), omitted=omitted)


def _numbers(heading: str, cells: Sequence[str]) -> Column:
    """A column in which no number breaks: a digit takes 1 % of the page's width, the gap 2 %."""
    longest = max((len(cell) for cell in cells), default=0)
    return Column(heading, max(5, len(heading) + 1, longest + 2), number=True)
