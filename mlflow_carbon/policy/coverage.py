"""Which controls the rules of some packs bear on, and which nothing speaks about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from mlflow_carbon.policy.catalog import CLASSES, Control, Framework, frameworks
from mlflow_carbon.policy.model import Pack


@dataclass(frozen=True, slots=True)
class ControlCoverage:
    """One control and the rules that bear on it, as ``RULE (relation)`` or ``RULE (relation, attested)``."""

    control: Control
    rules: tuple[str, ...]
    attested_only: bool
    """All its rules ask for a named person's statement, none looks at records."""

    @property
    def status(self) -> str:
        """What can be said of the control from these packs alone."""
        if self.rules:
            return "attested only" if self.attested_only else "evidence"
        return "not assessable" if self.control.cls == "N" else "no rule"


@dataclass(frozen=True, slots=True)
class FrameworkCoverage:
    """All controls of a framework, in its order."""

    framework: Framework
    controls: tuple[ControlCoverage, ...]

    @property
    def with_rules(self) -> int:
        """How many controls have at least one rule."""
        return sum(bool(control.rules) for control in self.controls)

    @property
    def attested_only(self) -> int:
        """How many of those rest on named persons' statements alone."""
        return sum(control.attested_only for control in self.controls)


def coverage(packs: Sequence[Pack]) -> tuple[FrameworkCoverage, ...]:
    """The crosswalk of every framework the packs list."""
    found: dict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
    for pack in packs:
        for rule in pack.rules:
            asked = rule.attest is not None
            for ref in rule.controls:
                told = f"{rule.id} ({ref.relation.value}{', attested' if asked else ''})"
                found[ref.framework, ref.control][told] = asked
    listed = dict.fromkeys(ref for pack in packs for ref in pack.frameworks)
    return tuple(
        FrameworkCoverage(
            framework,
            tuple(
                ControlCoverage(control, tuple(rules), bool(rules) and all(rules.values()))
                for control in framework.controls.values()
                for rules in (found[framework.id, control.id],)
            ),
        )
        for framework in (frameworks()[ref] for ref in listed)
    )


def coverage_text(covered: FrameworkCoverage) -> str:
    """One framework as a table for a terminal."""
    framework = covered.framework
    lines = [
        f"{framework.title}: rules bear on {covered.with_rules} of {len(covered.controls)} controls, "
        f"{covered.attested_only} of them attested only.",
        f"Data checked on {framework.checked_on}"
        + ("." if framework.confirmed else "; ids and dates unconfirmed."),
    ]
    lines += [framework.note] if framework.note else []
    width = max(len(control.control.id) for control in covered.controls)
    for one in covered.controls:
        rules = ", ".join(one.rules) or one.status
        rules += f"; {one.status}" if one.attested_only else ""
        lines.append(f"  {one.control.id:{width}}  {one.control.cls:3}  {rules}")
    used = dict.fromkeys(one.control.cls for one in covered.controls)
    lines += [f"  {cls}: {CLASSES[cls]}" for cls in used]
    return "\n".join(lines)
