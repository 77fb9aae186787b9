"""The policy the gate's tests go by: small, so that each test sees what it is about."""

from __future__ import annotations

from pathlib import Path

REVIEWED = """\
apiVersion: mlflow-carbon/v1
kind: PolicyPack
metadata:
  id: test-gate
  version: 1.0.0
  title: A gate for tests
  owner: ai-governance@example.org
frameworks: [nist-ai-rmf@1.0]
gate:
  aliases: [champion, "prod*"]
  stages: [Production]
  models: ["prod.*"]
  blocks_at: high
rules:
  - id: REV-001
    title: The version was reviewed
    severity: high
    scope: model_version
    rationale: Somebody looked at it.
    controls: [{ref: nist-ai-rmf/MANAGE-1.1, relation: supports}]
    assert: {version_tag: review, equals: passed}
    finding: "The review says {version_tag:review}."
    remediation: Set the version tag review to passed after the review.
    does_not_show: That the review was thorough.
  - id: REV-002
    title: The training run has an owner
    severity: critical
    scope: model_version
    rationale: Somebody answers for it.
    controls: [{ref: nist-ai-rmf/GOVERN-2.1, relation: supports}]
    assert: {tag: owner, present: true}
    finding: "Nobody owns the training run."
    remediation: Set the tag owner on the training run.
    does_not_show: That the owner knows.
  - id: REV-003
    title: The version is described
    severity: low
    scope: model_version
    rationale: People read.
    controls: [{ref: nist-ai-rmf/MAP-1.1, relation: informs}]
    assert: {version: description, present: true}
    finding: "The version has no description."
    remediation: Describe it.
    does_not_show: That the description is right.
"""


def write(folder: Path, text: str = REVIEWED) -> Path:
    path = folder / "gate.yaml"
    path.write_text(text)
    return path


NO_WORSE = """\
  - id: REV-004
    title: The version is no worse than the champion
    severity: critical
    scope: pair
    baseline: champion
    rationale: Nobody should lose quality unnoticed.
    controls: [{ref: nist-ai-rmf/MEASURE-4.3, relation: supports}]
    assert: {metric: accuracy, at_least: {baseline.metric: accuracy}}
    finding: "Accuracy is {metric:accuracy}; the champion has {baseline.metric:accuracy}."
    remediation: Keep the champion.
    does_not_show: That accuracy is what matters.
"""
