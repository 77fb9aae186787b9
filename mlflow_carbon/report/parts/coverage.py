"""Which controls of which framework this audit knows anything about, including those it does not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mlflow_carbon.audit.summary import RuleSummary
from mlflow_carbon.policy import catalog
from mlflow_carbon.policy.model import Relation, State
from mlflow_carbon.report import charts
from mlflow_carbon.report.blocks import (
    Block,
    Bullets,
    Code,
    Column,
    Figure,
    Heading,
    Line,
    Paragraph,
    Strong,
    Table,
    line,
    prose,
)
from mlflow_carbon.report.context import UNDECIDED, Context, same_rule
from mlflow_carbon.report.shown import name

_OUTCOMES = ("fail", "no_evidence", "pass", "attested", "not_applicable")
"""In the order they are drawn: neighbours differ in lightness. All but ``attested`` borrow the colours of the states."""


@dataclass(frozen=True, slots=True)
class Covered:
    """One control and the rules that bear on it."""

    id: str
    says: str
    cls: str
    rules: tuple[tuple[RuleSummary, Relation], ...]

    @property
    def outcome(self) -> str:
        """By its worst rule. A control without a rule, or without an answer, was not assessed.

        ``attested``: all that passed rests on named persons' statements, nothing on records.
        """
        counts: Counter[State] = Counter()
        for summary, _ in self.rules:
            counts.update(summary.counts)
        if counts[State.FAIL]:
            return "fail"
        if any(counts[state] for state in (*UNDECIDED, State.WAIVED)):
            return "no_evidence"
        if not counts[State.PASS]:
            return "not_applicable"
        return "attested" if self.attested == counts[State.PASS] else "pass"

    @property
    def attested(self) -> int:
        """Passed answers that a named person's statement gave."""
        return sum(
            summary.counts[State.PASS]
            for summary, _ in self.rules
            if summary.rule.attest is not None
        )


@dataclass(frozen=True, slots=True)
class Coverage:
    """One framework. ``complete``: all its controls are known, not only those that are cited."""

    title: str
    complete: bool
    note: str
    controls: tuple[Covered, ...]

    def count(self, *outcomes: str) -> int:
        """Controls with one of these outcomes."""
        return sum(1 for control in self.controls if control.outcome in outcomes)


def coverages(c: Context) -> tuple[Coverage, ...]:
    """Every framework that a pack names or a rule cites."""
    cited: dict[str, dict[str, list[tuple[RuleSummary, Relation]]]] = {}
    for summary in c.audit.rules:
        for ref in summary.rule.controls:
            bearing = cited.setdefault(ref.framework, {}).setdefault(ref.control, [])
            if not any(same_rule(one, summary) for one, _ in bearing):
                bearing.append((summary, ref.relation))
    named = {ref.partition("@")[0]: ref for pack in c.audit.packs for ref in pack.frameworks}
    return tuple(
        _coverage(ident, named.get(ident, ident), cited.get(ident, {}))
        for ident in sorted({*cited, *named})
    )


def _coverage(
    ident: str, ref: str, cited: dict[str, list[tuple[RuleSummary, Relation]]]
) -> Coverage:
    known = next(
        (f for key, f in catalog.frameworks().items() if key == ref or ("@" not in ref and f.id == ident)),
        None,
    )  # fmt: skip
    says = {} if known is None else {control.id: control for control in known.controls.values()}
    ids = [*says, *sorted(set(cited) - set(says))]
    return Coverage(
        title=known.title if known else ref,
        complete=known is not None,
        note=known.note if known else "",
        controls=tuple(
            Covered(
                control,
                says[control].says if control in says else "",
                says[control].cls if control in says else "",
                tuple(cited.get(control, ())),
            )
            for control in ids
        ),
    )


def sentence(c: Context, found: Coverage) -> str:
    """How much of a framework the audit says anything about, out of how much."""
    t = c.t
    with_evidence = found.count("pass", "fail")
    if not found.complete:
        return t(
            "coverage.framework_cited",
            framework=found.title,
            cited=len(found.controls),
            with_evidence=with_evidence,
            attested=found.count("attested"),
        )
    return t(
        "coverage.framework", framework=found.title, all=len(found.controls), with_evidence=with_evidence,
        attested=found.count("attested"), undecided=found.count("no_evidence"), not_assessed=found.count("not_applicable"),
    )  # fmt: skip


def coverage(c: Context) -> tuple[Block, ...]:
    """A sentence, a chart and a table for each framework."""
    blocks: list[Block] = [Paragraph(line(c.t("coverage.lead")), "lead")]
    for place, found in enumerate(coverages(c)):
        blocks += [Heading(line(found.title)), Paragraph(line(sentence(c, found)))]
        if found.note:
            blocks.append(Paragraph(prose(found.note), "note"))
        if found.complete:
            blocks.append(_chart(c, found, place))
        if assessed := [control for control in found.controls if control.rules]:
            blocks.append(_table(c, found, assessed))
        blocks += _without_rule(c, found)
    return tuple(blocks)


def _without_rule(c: Context, found: Coverage) -> list[Block]:
    """Every control that no rule bears on, under the kind of evidence it could have."""
    kinds: dict[str, list[Line]] = {}
    for control in found.controls:
        if not control.rules:
            told = line(Code(name(control.id)), f" {control.says}")
            kinds.setdefault(control.cls, []).append(told)
    if not kinds:
        return []
    blocks: list[Block] = [Heading(line(c.t("coverage.without", framework=found.title)))]
    for cls, items in kinds.items():
        kind = c.t(f"cls.{cls}") if cls else c.t("unknown")
        words = c.t("coverage.without_kind", len(items), kind=kind)
        blocks += [Paragraph(line(words)), Bullets(tuple(items), dense=True)]
    return blocks


def _words(c: Context) -> dict[str, str]:
    return {outcome: c.t(f"coverage.outcome.{outcome}") for outcome in _OUTCOMES}


def _chart(c: Context, found: Coverage, place: int) -> Figure:
    t, words = c.t, _words(c)
    families: dict[str, Counter[str]] = {}
    for control in found.controls:
        family = control.id.partition("-")[0].partition(".")[0]
        families.setdefault(family, Counter())[control.outcome] += 1
    rows, told = [], []
    for family, counts in families.items():
        segments = tuple((outcome, float(counts[outcome])) for outcome in _OUTCOMES)
        rows.append(charts.Bar(family, segments, t.number(counts.total())))
        values = ", ".join(f"{words[o]} {counts[o]}" for o in _OUTCOMES if counts[o])
        told.append(t("coverage.chart_item", group=family, values=values))
    alt = t("coverage.chart_alt", framework=found.title, items="; ".join(told))
    return Figure(
        f"coverage-{place}",
        t("coverage.chart"),
        charts.bars(rows, words, t.number),
        alt,
        t("coverage.chart_caption"),
    )


def _table(c: Context, found: Coverage, controls: list[Covered]) -> Table:
    t = c.t
    return Table(
        t("coverage.caption", framework=found.title),
        (
            Column(t("coverage.control"), 32), Column(t("coverage.evidence"), 24),
            Column(t("coverage.rules"), 24), Column(t("coverage.result"), 20),
        ),
        tuple(_row(c, control) for control in controls),
    )  # fmt: skip


def _row(c: Context, control: Covered) -> tuple[Line, ...]:
    t = c.t
    by_relation: dict[Relation, list[str]] = {}
    for summary, relation in control.rules:
        by_relation.setdefault(relation, []).append(summary.rule.id)
    rules = "; ".join(
        t(
            "coverage.rule_value",
            rules=", ".join(dict.fromkeys(ids)),
            relation=t(f"relation.{relation.value}"),
        )
        for relation, ids in by_relation.items()
    )
    answers = sum(summary.subjects for summary, _ in control.rules)
    passed = sum(summary.counts[State.PASS] for summary, _ in control.rules)
    result: Line = line(Strong(t(f"coverage.outcome.{control.outcome}")))
    if answers:
        result += line(f", {t('coverage.result_value', passed=passed, answers=answers)}")
    if control.attested and control.outcome != "attested":
        result += line(f", {t('coverage.attested_value', control.attested)}")
    return (
        line(Code(name(control.id)), f" {control.says}"),
        line(t(f"cls.{control.cls}") if control.cls else t("unknown")),
        line(rules),
        result,
    )
