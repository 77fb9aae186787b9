"""A policy is a subject too: its waivers and its review."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from mlflow_carbon.policy.about import pack_evidence
from mlflow_carbon.policy.evaluate import evaluate
from mlflow_carbon.policy.load import load_pack
from mlflow_carbon.policy.model import State
from tests.policy.conftest import PackOf, policy_text

END = datetime(2027, 1, 1, tzinfo=timezone.utc)
TEXT = policy_text(
    "assert: {metric: carbon/energy_kwh, at_most: 5}",
    tail="""waivers:
  - id: W-1
    rules: [ENE-900]
    reason: One-off.
    requested_by: lead@example.org
    approved_by: ciso@example.org
    approved_on: 2026-12-01
    expires: 2026-12-31
""",
).replace(
    "owner: a@example.org", "owner: a@example.org, reviewed_on: 2026-12-01, review_every_days: 90"
)


def test_a_waiver_holds_to_the_end_of_its_last_day_and_is_a_finding_afterwards(
    pack_of: PackOf,
) -> None:
    pack = pack_of(TEXT)
    rule = next(rule for rule in load_pack("nist-ai-rmf-core").rules if rule.id == "GOV-003")

    def answer(moment: datetime) -> State:
        return evaluate(rule, pack_evidence(pack, moment), moment).state

    assert answer(END - timedelta(seconds=1)) is State.PASS
    assert answer(END) is State.FAIL


def test_a_policy_that_says_nothing_of_a_review_is_unknown(pack_of: PackOf) -> None:
    pack = pack_of(policy_text("assert: {metric: carbon/energy_kwh, at_most: 5}"))
    facts = pack_evidence(pack, END).facts
    assert "policy.reviewed" not in facts
    assert facts["policy.expired_waivers"].value == ()
