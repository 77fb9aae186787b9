"""The form of a policy file: every key, what it holds, and what it is for.

The loader checks against this and ``policies/schema/policy.schema.json`` is generated from it.
"""

from __future__ import annotations

from mlflow_carbon.evidence.model import SubjectKind
from mlflow_carbon.policy.model import OnMissing, Relation, Severity, State
from mlflow_carbon.policy.shape import Field, Kind, Shape

API_VERSION = "mlflow-carbon/v1"

_SEVERITIES = tuple(severity.value for severity in Severity)
_SCOPES = tuple(kind.value for kind in SubjectKind)
_ON_MISSING = tuple(choice.value for choice in OnMissing)
_STATEMENT = r"[a-z0-9][a-z0-9_-]{0,99}"
"""Without a dot: names with one are the gate's own (approvals, overrides)."""
_RULE_ID = r"[A-Z][A-Z0-9]*(?:-[A-Z0-9]+)+"
PARAMETER_TYPES = ("number", "text", "list")

METADATA: Shape = {
    "id": Field(
        Kind.TEXT,
        "a name that stays the same over versions",
        required=True,
        pattern=r"[a-z0-9]+(?:[._-][a-z0-9]+)*",
        example="org.example.training",
    ),
    "version": Field(
        Kind.TEXT,
        "the version of this text",
        required=True,
        pattern=r"\d+\.\d+\.\d+",
        example="1.0.0",
    ),
    "title": Field(Kind.TEXT, "one line for people", required=True),
    "owner": Field(Kind.TEXT, "who answers for the policy", required=True),
    "describe": Field(Kind.TEXT, "what the pack is for"),
    "reviewed_on": Field(Kind.DATE, "when a person last read it through"),
    "review_every_days": Field(Kind.COUNT, "how long a review holds"),
}

PARAMETER: Shape = {
    "type": Field(Kind.TEXT, "number, text or list", required=True, choices=PARAMETER_TYPES),
    "default": Field(Kind.VALUE, "the value if the user sets none", required=True),
    "unit": Field(Kind.TEXT, "the unit, for people"),
    "minimum": Field(Kind.NUMBER, "the smallest value allowed"),
    "maximum": Field(Kind.NUMBER, "the largest value allowed"),
    "describe": Field(Kind.TEXT, "what it decides"),
}

GATE: Shape = {
    "aliases": Field(Kind.TEXTS, "protected aliases; * matches any text"),
    "stages": Field(Kind.TEXTS, "protected stages"),
    "models": Field(Kind.TEXTS, "protected registered models; * matches any text"),
    "blocks_at": Field(Kind.TEXT, "the lowest severity that blocks", choices=_SEVERITIES),
    "auditors": Field(Kind.TEXTS, "who may write any evidence tag; without it: all, in their name"),
    "approvals": Field(Kind.COUNT, "how many people other than the author must approve a version"),
    "approvers": Field(Kind.TEXTS, "users who may approve; without it: everybody but the author"),
    "overriders": Field(Kind.TEXTS, "who may override for a limited time; without it: nobody"),
    "override_max_days": Field(Kind.COUNT, "the longest an override may last; 7 if not given"),
    "verdict_max_age_hours": Field(
        Kind.COUNT, "decide by an audit's signed verdict, no older than this; without it: live"
    ),
    "link": Field(
        Kind.TEXT,
        "page shown in refusals; {model} and {version} are filled in",
        pattern=r"https?://\S+",
        example="https://ai.example.org/releases/{model}/{version}",
    ),
}

CONTROL: Shape = {
    "ref": Field(
        Kind.TEXT,
        "framework/control",
        required=True,
        pattern=r"[a-z0-9-]+/[A-Za-z0-9().-]+",
        example="nist-ai-rmf/MEASURE-2.12",
    ),
    "relation": Field(
        Kind.TEXT,
        "how the rule bears on it",
        required=True,
        choices=tuple(r.value for r in Relation),
    ),
}

ATTEST: Shape = {
    "statement": Field(
        Kind.TEXT,
        "the identifier of the statement",
        required=True,
        pattern=_STATEMENT,
        example="intended-use-reviewed",
    ),
    "asks": Field(Kind.TEXT, "what the person states, as a sentence", required=True),
    "max_age_days": Field(Kind.VALUE, "after how many days it must be made again"),
    "signed": Field(Kind.FLAG, "true: only one signed with a trusted key counts"),
}

ATTESTED: Shape = {
    "statement": Field(Kind.TEXT, "the identifier of the statement", required=True),
    "by": Field(Kind.TEXT, "who states it"),
    "made_on": Field(Kind.DATE, "when", required=True),
    "expires": Field(Kind.DATE, "the last day it holds"),
    "signed": Field(Kind.FLAG, "true: it is signed with a trusted key"),
}

TEST: Shape = {
    "name": Field(Kind.TEXT, "what the case is about", required=True),
    "given": Field(Kind.FREE, "facts of the subject, by name"),
    "datasets": Field(Kind.FREE_LISTS, "facts of each dataset, for rules with for_each: datasets"),
    "attested": Field(Kind.SHAPES, "attestations on record", shape=ATTESTED),
    "as_of": Field(Kind.DATE, "the date of the audit; 2026-01-01 if not given"),
    "expect": Field(
        Kind.TEXT,
        "the state",
        required=True,
        choices=tuple(s.value for s in State if s is not State.WAIVED),
    ),
}

RULE: Shape = {
    "id": Field(
        Kind.TEXT, "never changes its meaning", required=True, pattern=_RULE_ID, example="ENE-001"
    ),
    "title": Field(Kind.TEXT, "what is true when the rule passes, as a sentence", required=True),
    "severity": Field(Kind.TEXT, "how much a failure matters", required=True, choices=_SEVERITIES),
    "scope": Field(Kind.TEXT, "what the rule is about", required=True, choices=_SCOPES),
    "rationale": Field(Kind.TEXT, "why anybody should care", required=True),
    "controls": Field(Kind.SHAPES, "the controls it is evidence for", required=True, shape=CONTROL),
    "when": Field(Kind.CONDITION, "the subjects it applies to; without it: all"),
    "assert": Field(Kind.CONDITION, "what must hold"),
    "attest": Field(Kind.SHAPE, "what a named person must state", shape=ATTEST),
    "on_missing": Field(Kind.TEXT, "the answer if evidence is missing", choices=_ON_MISSING),
    "finding": Field(
        Kind.TEXT, "the sentence of a failed rule, with {tag:NAME} places", required=True
    ),
    "remediation": Field(Kind.TEXT, "what to do, in plain words", required=True),
    "does_not_show": Field(Kind.TEXT, "what a pass does not prove", required=True),
    "tests": Field(Kind.SHAPES, "cases: at least a pass, a fail and a missing one", shape=TEST),
    "baseline": Field(Kind.TEXT, "for scope pair: the alias to compare with"),
}

USE: Shape = {
    "rule": Field(
        Kind.TEXT,
        "a rule of a shipped pack",
        required=True,
        pattern=r"[a-z0-9.-]+/[A-Z][A-Z0-9-]+",
        example="nist-ai-rmf-core/ENE-001",
    ),
    "scope": Field(
        Kind.TEXT,
        "model_version puts the rule to the training run, datasets or model behind a version",
        choices=_SCOPES,
    ),
    "severity": Field(Kind.TEXT, "another severity than in its own pack", choices=_SEVERITIES),
    "controls": Field(Kind.SHAPES, "more controls it is evidence for", shape=CONTROL),
}

ADJUST: Shape = {
    "rule": Field(Kind.TEXT, "a rule of the pack that is extended", required=True),
    "severity": Field(Kind.TEXT, "its severity here", choices=_SEVERITIES),
    "on_missing": Field(Kind.TEXT, "its answer here if evidence is missing", choices=_ON_MISSING),
    "disable": Field(Kind.FLAG, "true switches the rule off"),
    "because": Field(Kind.TEXT, "why; stands in every report", required=True),
}

WAIVER: Shape = {
    "id": Field(Kind.TEXT, "its number", required=True),
    "rules": Field(Kind.TEXTS, "the rules it suspends", required=True),
    "match": Field(Kind.CONDITION, "the subjects it is for; without it: all"),
    "reason": Field(Kind.TEXT, "why", required=True),
    "requested_by": Field(Kind.TEXT, "who asked", required=True),
    "approved_by": Field(Kind.TEXT, "who accepted the risk; somebody else", required=True),
    "approved_on": Field(Kind.DATE, "when", required=True),
    "expires": Field(Kind.DATE, "the last day it holds (end of day, UTC)", required=True),
    "ticket": Field(Kind.TEXT, "where it was discussed"),
    "compensating_control": Field(Kind.TEXT, "what is done instead meanwhile"),
}

PACK: Shape = {
    "apiVersion": Field(Kind.TEXT, f"always {API_VERSION}", required=True, choices=(API_VERSION,)),
    "kind": Field(Kind.TEXT, "always PolicyPack", required=True, choices=("PolicyPack",)),
    "metadata": Field(Kind.SHAPE, "what the pack is", required=True, shape=METADATA),
    "frameworks": Field(
        Kind.TEXTS, "the frameworks its controls are from, as id@version", required=True
    ),
    "parameters": Field(Kind.NAMED_SHAPES, "values the user may set", shape=PARAMETER),
    "gate": Field(Kind.SHAPE, "what the registry protects", shape=GATE),
    "extends": Field(Kind.TEXT, "another pack, as name@version or name@version#sha256"),
    "set": Field(Kind.FREE, "values for the parameters of the pack that is extended"),
    "adjust": Field(Kind.SHAPES, "rules of that pack, changed", shape=ADJUST),
    "use": Field(Kind.SHAPES, "rules taken over from shipped packs", shape=USE),
    "rules": Field(Kind.SHAPES, "the rules", shape=RULE),
    "waivers": Field(Kind.SHAPES, "accepted exceptions", shape=WAIVER),
}
