from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from mlflow_carbon.evidence.attestation import tag_key, to_text
from mlflow_carbon.evidence.model import Attestation, Evidence, Fact, Subject, SubjectKind
from mlflow_carbon.gate.caller import Caller
from mlflow_carbon.gate.decision import decide
from mlflow_carbon.gate.people import APPROVED, OVERRIDE, approvals, override, statement_of
from mlflow_carbon.gate.refusal import violations_of
from mlflow_carbon.gate.tags import why_not
from mlflow_carbon.policy.load import load_pack
from mlflow_carbon.policy.model import Gate, Pack
from tests.gate import policy_files

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
GATE = Gate(aliases=("champion",), overriders=("ciso",), override_max_days=3)


def said(kind: str, by: str, *, days: float | None = 1.0, made: datetime = NOW) -> Attestation:
    expires = None if days is None else made + timedelta(days=days)
    return Attestation(statement_of(kind, by), by, "reviewer", made, expires, "Looked at it.")


def version(*made: Attestation, review: str = "passed", **facts: str) -> Evidence:
    known = {"version_tag.review": review, "tag.owner": "ana", **facts}
    return Evidence(
        Subject(SubjectKind.MODEL_VERSION, "credit/1", "credit version 1"),
        {name: Fact(value, "test") for name, value in known.items()},
        attestations=made,
    )


def test_each_person_counts_once_and_authors_do_not() -> None:
    evidence = version(
        said(APPROVED, "bob"),
        said(APPROVED, "bob", days=2),
        said(APPROVED, "ana"),
        said(APPROVED, "eve"),
        said(APPROVED, "tom"),
        **{
            "run.user": "ana",
            "version_tag.mlflow_carbon.registered_by": "eve",
            "version.user": "tom",
        },
    )
    assert {made.by for made in approvals(GATE, evidence, NOW)} == {"bob"}


def test_only_the_approvers_of_the_policy_count() -> None:
    evidence = version(said(APPROVED, "bob"), said(APPROVED, "zoe"))
    gate = replace(GATE, approvers=("zoe",))
    assert [made.by for made in approvals(gate, evidence, NOW)] == ["zoe"]


@pytest.mark.parametrize(
    "made", [said(APPROVED, "bob", made=NOW + timedelta(hours=1)), said(APPROVED, "bob", days=-1)]
)
def test_an_approval_from_the_future_or_the_past_does_not_count(made: Attestation) -> None:
    assert approvals(GATE, version(made), NOW) == ()


def test_an_approval_under_somebody_elses_name_does_not_count() -> None:
    forged = replace(said(APPROVED, "bob"), by="zoe")
    assert approvals(GATE, version(forged), NOW) == ()


def test_an_override_counts_from_the_named_few_and_for_the_time_the_policy_grants() -> None:
    assert override(GATE, version(said(OVERRIDE, "ciso", days=3)), NOW) is not None
    for refused in (
        said(OVERRIDE, "bob"),
        said(OVERRIDE, "ciso", days=3.1),
        said(OVERRIDE, "ciso", days=None),
        said(OVERRIDE, "ciso", made=NOW - timedelta(days=2)),
    ):
        assert override(GATE, version(refused), NOW) is None


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    text = policy_files.REVIEWED.replace(
        "blocks_at: high", "blocks_at: high\n  approvals: 2\n  overriders: [ciso]"
    )
    return load_pack(str(policy_files.write(tmp_path, text)))


def test_enough_people_have_to_approve(pack: Pack) -> None:
    one = decide(pack, version(said(APPROVED, "bob")), NOW)
    two = decide(pack, version(said(APPROVED, "bob"), said(APPROVED, "zoe")), NOW)
    assert (one.allowed, one.approvals_missing) == (False, 1)
    assert [violation.rule for violation in violations_of(one)] == ["GATE-APPROVAL"]
    assert two.allowed


def test_approvals_do_not_make_up_for_missing_evidence(pack: Pack) -> None:
    approved = (said(APPROVED, "bob"), said(APPROVED, "zoe"))
    decision = decide(pack, version(*approved, review="failed"), NOW)
    assert not decision.allowed
    assert [finding.rule_id for finding in decision.blocking] == ["REV-001"]


def test_an_override_opens_the_gate_and_what_it_passed_over_is_kept(pack: Pack) -> None:
    decision = decide(pack, version(said(OVERRIDE, "ciso"), review="failed"), NOW)
    assert decision.allowed
    assert decision.override is not None
    assert [finding.rule_id for finding in decision.blocking] == ["REV-001"]


def test_what_passes_by_itself_is_not_called_overridden(pack: Pack) -> None:
    made = (said(APPROVED, "bob"), said(APPROVED, "zoe"), said(OVERRIDE, "ciso"))
    assert decide(pack, version(*made), NOW).override is None


def test_a_policy_that_says_nothing_about_versions_opens_nothing(pack: Pack) -> None:
    decision = decide(replace(pack, rules=()), version(), NOW)
    assert not decision.allowed
    assert [violation.rule for violation in violations_of(decision)] == ["GATE-EMPTY"]


def write(who: str, made: Attestation, gate: Gate = GATE) -> str:
    key, text = tag_key(made.statement), to_text(made, "credit", "1")
    return why_not(gate, Caller(who, "/api"), key, text, ("credit", "1"))


def test_everybody_states_in_their_own_name() -> None:
    assert write("bob", said(APPROVED, "bob")) == ""
    assert "own name" in write("bob", said(APPROVED, "zoe"))


def test_the_policy_names_who_may_approve_override_and_attest() -> None:
    gate = replace(GATE, approvers=("zoe",), auditors=("aud",))
    statement = Attestation("use-reviewed", "bob", "owner", NOW, None, "Read it.")
    assert "lets approve" in write("bob", said(APPROVED, "bob"), gate)
    assert "lets override" in write("bob", said(OVERRIDE, "bob"), gate)
    assert "lets attest" in write("bob", statement, gate)
    assert write("zoe", said(APPROVED, "zoe"), gate) == ""
    assert write("ciso", said(OVERRIDE, "ciso"), gate) == ""
    assert write("aud", statement, gate) == ""


def test_a_statement_for_another_version_is_not_taken() -> None:
    made = said(APPROVED, "bob")
    text = to_text(made, "credit", "2")
    assert "version '2'" in why_not(
        GATE, Caller("bob"), tag_key(made.statement), text, ("credit", "1")
    )


def test_other_evidence_tags_are_for_auditors() -> None:
    for key in ("mlflow_carbon.card.x", "MLFLOW_CARBON.attestation.x", "mlflow_carbon.verdict"):
        assert why_not(GATE, Caller("bob"), key, "{}", ("credit", "1"))
    gate = replace(GATE, auditors=("aud",))
    assert why_not(gate, Caller("aud"), "mlflow_carbon.verdict", "{}", ("credit", "1")) == ""


def test_who_registered_a_version_is_written_by_the_server_alone() -> None:
    gate = replace(GATE, auditors=("aud",))
    for who in (Caller(), Caller("aud")):
        assert why_not(gate, who, "mlflow_carbon.registered_by", "eve", ("credit", "1"))
