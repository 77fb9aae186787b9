"""A sound policy to start from, and evidence made of plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path

import pytest

from mlflow_carbon.errors import PolicyError
from mlflow_carbon.evidence.model import (
    Attestation,
    Evidence,
    Fact,
    FactValue,
    Subject,
    SubjectKind,
)
from mlflow_carbon.policy.evaluate import Answer, evaluate
from mlflow_carbon.policy.load import load_pack
from mlflow_carbon.policy.model import Pack

AS_OF = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)

HEAD = """apiVersion: mlflow-carbon/v1
kind: PolicyPack
metadata: {id: org.example, version: 1.0.0, title: Example, owner: a@example.org}
frameworks: [nist-ai-rmf@1.0]
"""
RULE = """  - id: ENE-900
    title: Energy is small
    severity: high
    scope: %(scope)s
    rationale: Energy costs.
    controls: [{ref: nist-ai-rmf/MEASURE-2.12, relation: supports}]
%(body)s
    finding: "%(finding)s"
    remediation: Use less.
    does_not_show: Anything else.
"""

PolicyText = Callable[..., str]
PackOf = Callable[[str], Pack]
ProblemsOf = Callable[[str], list[str]]
Answered = Callable[..., Answer]


def policy_text(
    body: str, *, scope: str = "run", finding: str = "Too much.", head: str = "", tail: str = ""
) -> str:
    """A policy of one rule; ``body`` holds its indented ``when``, ``assert`` and the like."""
    lines = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
    rule = RULE % {"scope": scope, "body": lines, "finding": finding}
    return f"{HEAD}{head}rules:\n{rule}{tail}"


def evidence(
    facts: Mapping[str, FactValue],
    *,
    kind: SubjectKind = SubjectKind.RUN,
    datasets: tuple[Mapping[str, FactValue], ...] = (),
    attestations: tuple[Attestation, ...] = (),
) -> Evidence:
    """Evidence about a subject called ``run 1``, with the values given."""

    def as_facts(values: Mapping[str, FactValue]) -> dict[str, Fact]:
        return {name: Fact(value, f"run 1 {name}") for name, value in values.items()}

    members = tuple(
        Evidence(Subject(SubjectKind.DATASET_INPUT, f"1/{n}", f"dataset {n}"), as_facts(one))
        for n, one in enumerate(datasets, 1)
    )
    subject = Subject(kind, "1", "run 1")
    return Evidence(subject, as_facts(facts), {"datasets": members}, attestations)


@pytest.fixture
def pack_of(tmp_path: Path) -> PackOf:
    """Load a policy from its text."""

    def load(text: str) -> Pack:
        path = tmp_path / "policy.yaml"
        path.write_text(text, encoding="utf-8")
        return load_pack(path)

    return load


@pytest.fixture
def problems_of(pack_of: PackOf) -> ProblemsOf:
    """What is wrong in a policy, each as ``line:column: message``."""

    def problems(text: str) -> list[str]:
        with pytest.raises(PolicyError) as refused:
            pack_of(text)
        return [f"{p.at.line}:{p.at.column}: {p.message}" for p in refused.value.problems]

    return problems


@pytest.fixture
def answered(pack_of: PackOf) -> Answered:
    """The answer of a one-rule policy, written as its body, on evidence."""

    def answer(body: str, facts: Mapping[str, FactValue], **more: object) -> Answer:
        scope = str(more.pop("scope", "run"))
        finding = str(more.pop("finding", "Too much."))
        head = str(more.pop("head", ""))
        pack = pack_of(policy_text(body, scope=scope, finding=finding, head=head))
        found = evidence(facts, kind=SubjectKind(scope), **more)  # type: ignore[arg-type]
        return evaluate(pack.rules[0], found, AS_OF)

    return answer
