"""Every shipped rule as a section of ``docs/rules.md``: generated, so that it cannot say what the rules do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mlflow_carbon.policy.model import Pack, Rule
from mlflow_carbon.policy.words import about, condition_lines

_HEAD = """# The rules

Generated from the packs by `mlflow-carbon policy handbook`; do not edit. One section per rule, in alphabetical order.
A rule is evidence for a control, it is never the control itself: *supports*, *partially supports* and *informs* are the only
relations there are. How to read and write policies: [policies.md](policies.md).
"""


def handbook(packs: Mapping[str, Pack]) -> str:
    """The document; ``packs`` by the name of their file."""
    homes = {
        rule.id: rule for pack in packs.values() for rule in pack.rules if rule.at.file == pack.file
    }
    used = {
        rule_id: [name for name, pack in packs.items() if any(r.id == rule_id for r in pack.rules)]
        for rule_id in homes
    }
    lines = [_HEAD, *_index(packs)]
    for rule_id in sorted(homes):
        lines += ["", *_section(homes[rule_id], used[rule_id])]
    return "\n".join(lines) + "\n"


def _index(packs: Mapping[str, Pack]) -> Iterator[str]:
    yield "| pack | rules | for |"
    yield "|---|---|---|"
    for name, pack in packs.items():
        yield f"| `{name}` | {len(pack.rules)} | {pack.title} |"


def _section(rule: Rule, packs: list[str]) -> Iterator[str]:
    yield f"## {rule.id}"
    yield ""
    yield f"**{rule.title}**"
    yield ""
    named = ", ".join(f"`{name}`" for name in packs)
    yield f"Severity {rule.severity.value}. About: {about(rule)}. In: {named}."
    yield ""
    yield f"*Why.* {rule.rationale}"
    if rule.when is not None:
        yield ""
        yield "*Applies when*"
        yield ""
        yield from _quoted(condition_lines(rule.when))
    if rule.condition is not None:
        yield ""
        yield "*Passes when*"
        yield ""
        yield from _quoted(condition_lines(rule.condition))
    if rule.attest is not None:
        yield ""
        yield f"*A named person states* (`{rule.attest.statement}`): {rule.attest.asks}"
    yield ""
    yield f"*What to do.* {rule.remediation}"
    yield ""
    yield f"*A pass does not show.* {rule.does_not_show}"
    yield ""
    controls = (f"{c.framework} {c.control} ({c.relation.value})" for c in rule.controls)
    yield f"*Evidence for.* {'; '.join(controls)}."


def _quoted(lines: Iterator[str]) -> Iterator[str]:
    """Conditions as text: patterns must not become markup."""
    yield "```text"
    yield from lines
    yield "```"
