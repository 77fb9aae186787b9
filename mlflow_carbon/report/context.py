"""What every part of the report needs: the audit, the words, and how figures are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.audit.summary import Audit, RuleSummary
from mlflow_carbon.evidence.model import SubjectKind
from mlflow_carbon.policy.model import Severity, State
from mlflow_carbon.report.blocks import SeverityMark, StateMark
from mlflow_carbon.report.texts import Texts
from mlflow_carbon.units import Range, show_emissions, show_energy

UNDECIDED = (State.NO_EVIDENCE, State.NEEDS_ATTESTATION, State.ERROR)


ORDER = (
    "summary", "scope", "energy", "findings", "open", "datasets", "waivers", "coverage", "integrity",
    "limits", "signoff",
)  # fmt: skip
"""The numbered parts after the cover. The order is the contract with the reader: docs/reports.md."""

NUMBER = {part: number for number, part in enumerate(ORDER, start=1)}


@dataclass(frozen=True, slots=True)
class Attached:
    """A data file that goes with the report."""

    name: str
    media_type: str
    content: bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class Group:
    """The findings of one rule that share one state."""

    summary: RuleSummary
    state: State
    findings: tuple[Finding, ...]
    also: tuple[RuleSummary, ...] = ()
    """The same rule in other policies, with the same answers."""

    def same(self, other: Group) -> bool:
        """Whether another policy's rule is the same and was answered alike."""
        told = [(one.subject.key, one.message) for one in self.findings]
        return (
            same_rule(self.summary, other.summary)
            and self.state is other.state
            and told == [(one.subject.key, one.message) for one in other.findings]
        )


def same_rule(one: RuleSummary, other: RuleSummary) -> bool:
    """Whether two policies have the same rule, and its answers were the same."""
    words = ("id", "title", "severity", "scope", "rationale", "remediation", "does_not_show")
    return one.counts == other.counts and all(
        getattr(one.rule, word) == getattr(other.rule, word) for word in words
    )


@dataclass(frozen=True)
class Context:
    """An audit with the words to tell it in."""

    audit: Audit
    t: Texts
    detail_rows: int
    attached: tuple[Attached, ...] = ()
    shares: dict[tuple[str, str, State], int] = field(default_factory=dict)
    """Rows each group of findings may show."""

    def state(self, state: State) -> StateMark:
        """The mark of a state."""
        return StateMark(state, self.t(f"state.{state.value}"))

    def severity(self, severity: Severity) -> SeverityMark:
        """The mark of a severity."""
        return SeverityMark(severity, self.t(f"severity.{severity.value}"))

    def local(self, figure: str) -> str:
        """A figure written with the language's separators."""
        thousands, decimal = self.t("number.thousands"), self.t("number.decimal")
        return figure.translate({ord(","): thousands, ord("."): decimal})

    def energy(self, energy_j: float | None) -> str:
        """Joules in the unit that fits, or the word for unknown."""
        return self.t("unknown") if energy_j is None else self.local(show_energy(energy_j))

    def emissions(self, emissions_g: float | None) -> str:
        """Grams in the unit that fits, or the word for unknown."""
        return self.t("unknown") if emissions_g is None else self.local(show_emissions(emissions_g))

    def energy_range(self, energy: Range | None) -> str:
        """Mid with its bounds."""
        if energy is None:
            return self.t("unknown")
        low, mid, high = (self.energy(value) for value in (energy.low, energy.mid, energy.high))
        return self.t("energy.range", mid=mid, low=low, high=high)

    def emissions_range(self, emissions: Range | None) -> str:
        """Mid with its bounds."""
        if emissions is None:
            return self.t("unknown")
        low, mid, high = (
            self.emissions(value) for value in (emissions.low, emissions.mid, emissions.high)
        )
        return self.t("energy.range", mid=mid, low=low, high=high)

    def percent(self, share: float) -> str:
        """A share; never rounded up to all or down to nothing."""
        if 0 < share < 0.005:
            return "< 1 %"
        if 0.995 <= share < 1:
            return "> 99 %"
        return f"{share * 100:.0f} %"

    def moment(self, at: datetime | None) -> str:
        """A moment in UTC, to the minute."""
        if at is None:
            return self.t("unknown")
        return at.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")

    def kind(self, kind: SubjectKind, n: int) -> str:
        """``3 runs``."""
        return self.t(f"kind.{kind.value}", n)

    def among(self, kind: SubjectKind, n: int) -> str:
        """``3 runs`` as it stands after *of*."""
        return self.t(f"among.{kind.value}", n)

    def listed(self, names: Iterable[str]) -> str:
        """Names with commas, or the word for none."""
        return ", ".join(names) or self.t("none")

    def groups(self, states: Iterable[State]) -> list[Group]:
        """The findings in these states by rule, most severe first; the order of states breaks ties.

        A rule that several policies have, with the same answers, is one group.
        """
        order = {state: place for place, state in enumerate(states)}
        listed: dict[tuple[str, str, State], list[Finding]] = {}
        for finding in self.audit.findings:
            if finding.state in order:
                key = (finding.pack_id, finding.rule_id, finding.state)
                listed.setdefault(key, []).append(finding)
        groups = [
            Group(summary, state, tuple(listed.get((summary.pack_id, summary.rule.id, state), ())))
            for summary in self.audit.rules
            for state in order
            if summary.counts.get(state, 0)
        ]
        merged: list[Group] = []
        for group in groups:
            place = next((n for n, one in enumerate(merged) if one.same(group)), None)
            if place is None:
                merged.append(group)
            else:
                also = (*merged[place].also, group.summary)
                merged[place] = replace(merged[place], also=also)
        return sorted(
            merged,
            key=lambda g: (
                g.summary.rule.severity.rank, order[g.state],
                -g.summary.counts[g.state], g.summary.rule.id,
            ),
        )  # fmt: skip

    def rules(self) -> list[RuleSummary]:
        """Every rule once, also where several policies have it and its answers are the same."""
        once: list[RuleSummary] = []
        for summary in self.audit.rules:
            if not any(same_rule(one, summary) for one in once):
                once.append(summary)
        return once

    def subjects(self, kind: SubjectKind) -> int:
        """How many subjects of a kind there are: each rule is put to every one in its scope."""
        return max((s.subjects for s in self.audit.rules if s.rule.scope is kind), default=0)

    def more(self, attached: int, left_out: int, file: str) -> str:
        """What a table does not show: ``attached`` rows are in the file, ``left_out`` are only counted."""
        if attached + left_out <= 0:
            return ""
        if not left_out:
            return self.t("document.more_rows", attached, file=file)
        return self.t("document.more_counted", attached + left_out, attached=attached, file=file)

    def by_severity(self) -> dict[Severity, Counter[State]]:
        """Answers by the severity of their rule."""
        table: dict[Severity, Counter[State]] = {severity: Counter() for severity in Severity}
        for summary in self.audit.rules:
            table[summary.rule.severity].update(summary.counts)
        return table

    @property
    def answers(self) -> int:
        """One for each rule and subject it was put to."""
        return sum(summary.subjects for summary in self.audit.rules)

    @property
    def undecided(self) -> int:
        """Answers that the records do not give."""
        return sum(self.audit.count(state) for state in UNDECIDED)


def fair_shares(wanted: list[int], budget: int) -> list[int]:
    """Split ``budget`` rows so that small groups are shown whole before large ones get more.

    The sum is the budget or the sum wanted, whichever is less.
    """
    given = [0] * len(wanted)
    smallest_first = sorted(range(len(wanted)), key=lambda place: wanted[place])
    for done, place in enumerate(smallest_first):
        given[place] = min(wanted[place], budget // (len(wanted) - done))
        budget -= given[place]
    return given
