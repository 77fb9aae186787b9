"""What a person reads, and a program gets, when the gate stays closed."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.gate.decision import Decision
from mlflow_carbon.policy.model import Gate, State

_SHOWN, _WIDTH = 2, 320
_STATE_WORDS = {
    State.FAIL: "failed",
    State.NO_EVIDENCE: "no evidence",
    State.NEEDS_ATTESTATION: "needs a person's statement",
    State.ERROR: "could not be evaluated",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One reason in the way, ready for JSON."""

    rule: str
    severity: str
    state: str
    message: str
    fix: str

    def as_dict(self) -> dict[str, str]:
        """Field name -> text."""
        return {
            "rule": self.rule,
            "severity": self.severity,
            "state": self.state,
            "message": self.message,
            "fix": self.fix,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why one action was not let through. ``action`` completes "... is refused"."""

    action: str
    policy: str
    violations: tuple[Violation, ...]
    everything: str = ""
    """The page or the command that shows the rest; empty where none applies."""

    def message(self) -> str:
        """At most five lines: what, which rules with their remedy, and where the rest is."""
        shown = self.violations[:_SHOWN]
        lines = [_line(f"{self.action} is refused by policy {self.policy}.")]
        # Numbered: the dialog of MLflow's pages runs the lines together.
        lines += [_line(f"{n}. {_sentence(one)}") for n, one in enumerate(shown, 1)]
        if more := len(self.violations) - len(shown):
            lines.append(f"... and {more} more.")
        if self.everything:
            lines.append(f"All reasons and remedies: {clean(self.everything)}")
        return "\n".join(lines)


def link_to(gate: Gate | None, name: str, version: str) -> str:
    """The page the policy names for a version; empty where it names none."""
    if gate is None or not gate.link:
        return ""
    return gate.link.replace("{model}", quote(name, safe="")).replace(
        "{version}", quote(version, safe="")
    )


def violations_of(decision: Decision) -> tuple[Violation, ...]:
    """The blocking findings; or, when nothing at all was checked, that."""
    if not decision.findings:
        return (
            Violation(
                rule="GATE-EMPTY",
                severity="high",
                state=State.NO_EVIDENCE.value,
                message="The policy has no rule about model versions, so nothing was checked.",
                fix="Add rules with scope model_version to the gate's policy.",
            ),
        )
    found = tuple(violation(finding) for finding in decision.blocking)
    if not decision.approvals_missing:
        return found
    return (
        *found,
        Violation(
            rule="GATE-APPROVAL",
            severity="high",
            state=State.NEEDS_ATTESTATION.value,
            message=f"{decision.approvals_missing} more approval(s) by people other than the author are needed.",
            fix="Let somebody entitled run: mlflow-carbon gate approve models:/NAME/VERSION.",
        ),
    )


def violation(finding: Finding) -> Violation:
    """A finding as a reason in the way."""
    return Violation(
        rule=finding.rule_id,
        severity=finding.severity.value,
        state=finding.state.value,
        message=told(finding),
        fix=clean(finding.remediation),
    )


def told(finding: Finding) -> str:
    """What was found; where nothing was, what the rule asks for and which facts are missing."""
    missing = [
        one.fact.replace(".", " ", 1) for one in finding.observations if one.observed is None
    ]
    if finding.state is not State.NO_EVIDENCE or not missing:
        return clean(finding.message)
    return clean(f"{finding.title}: nothing is on record ({', '.join(missing)}).")


def _sentence(violation: Violation) -> str:
    words = _STATE_WORDS.get(State(violation.state), violation.state)
    fix = f" To fix: {violation.fix}" if violation.fix else ""
    found = f"{violation.rule} ({violation.severity}, {words}): {violation.message}"
    # What to do is worth more than the end of what is wrong.
    return _cut(found, max(_WIDTH - len("1. ") - len(fix), _WIDTH // 2)) + fix


def clean(text: str) -> str:
    """Text from policies, tags and dataset names on one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _line(text: str) -> str:
    return _cut(text, _WIDTH)


def _cut(text: str, width: int) -> str:
    text = clean(text)
    return text if len(text) <= width else text[: width - 3] + "..."
