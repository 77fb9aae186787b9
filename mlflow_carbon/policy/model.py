"""The parts of a policy pack, after its file was read and found sound.

Answers are three-valued (Kleene): true, false, unknown. Seven states tell a reader
what that means; see ``State``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from enum import Enum

from mlflow_carbon.errors import Location
from mlflow_carbon.evidence.model import Attestation, FactValue, SubjectKind


class State(str, Enum):
    """The answer of a rule for a subject."""

    PASS = "pass"
    FAIL = "fail"
    NO_EVIDENCE = "no_evidence"
    """What the rule needs is not on record. Never a pass."""
    NOT_APPLICABLE = "not_applicable"
    """The rule's ``when`` is false for this subject."""
    NEEDS_ATTESTATION = "needs_attestation"
    """Only a named person can answer, and none has, or the answer expired."""
    WAIVED = "waived"
    """Suppressed by a waiver in force; the finding keeps the state underneath."""
    ERROR = "error"
    """The rule could not be evaluated: a value of the wrong type. Never silent."""


class OnMissing(str, Enum):
    """What follows when the evidence does not decide a rule; strictest first."""

    FAIL = "fail"
    NO_EVIDENCE = "no_evidence"
    PASS_WITH_NOTE = "pass-with-note"
    """It stays ``no_evidence`` and is counted so everywhere; it only does not close the gate."""

    @property
    def state(self) -> State:
        """The answer of the rule. Never a pass."""
        return State.FAIL if self is OnMissing.FAIL else State.NO_EVIDENCE

    @property
    def rank(self) -> int:
        """0 for the strictest."""
        return list(OnMissing).index(self)


class Severity(str, Enum):
    """How much a failure matters."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 for critical to 3 for low."""
        return list(Severity).index(self)


class Relation(str, Enum):
    """How a rule bears on a control of a framework. There is no word for "fulfils": a rule is evidence."""

    SUPPORTS = "supports"
    PARTIALLY_SUPPORTS = "partially-supports"
    INFORMS = "informs"


@dataclass(frozen=True, slots=True)
class ControlRef:
    """``nist-ai-rmf/MEASURE-2.12`` and how the rule bears on it."""

    framework: str
    control: str
    relation: Relation


Operand = bool | int | float | str | tuple[int | float | str, ...]


@dataclass(frozen=True, slots=True)
class FactTerm:
    """Another fact as the operand: ``fact * times + plus``, in the unit of that fact."""

    fact: str
    times: float = 1.0
    plus: float = 0.0


@dataclass(frozen=True, slots=True)
class Near:
    """The operand of ``within_percent_of``: at most ``percent`` % away from ``of``."""

    percent: float
    of: float | FactTerm


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare:
    """A leaf: one fact, one operator, one operand (parameters already put in)."""

    fact: str
    operator: str
    operand: Operand | FactTerm | Near
    at: Location


@dataclass(frozen=True, slots=True)
class All:
    """True when every part is true."""

    parts: tuple[Condition, ...]
    at: Location


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True when one part is true."""

    parts: tuple[Condition, ...]
    at: Location


@dataclass(frozen=True, slots=True)
class Not:
    """True when the part is false; unknown stays unknown."""

    part: Condition
    at: Location


@dataclass(frozen=True, slots=True)
class ForEach:
    """Every member for which ``where`` holds must meet the condition.

    ``members`` is ``datasets``, or ``metrics``, ``params`` or ``tags`` whose key matches ``pattern``; each of
    those is then ``each.name``, ``each.value`` (or ``each.text``) and, in a pair, ``each.baseline``. In a pair
    the baseline's keys are gone through: one the candidate lacks is unknown. No member at all is unknown too.
    """

    members: str
    condition: Condition
    at: Location
    where: Condition | None = None
    pattern: str = ""
    in_baseline: bool = False


Condition = Compare | All | AnyOf | Not | ForEach


@dataclass(frozen=True, slots=True, kw_only=True)
class Attest:
    """Answered by a named person's attestation about the model version, not by data."""

    statement: str
    """Its identifier, e.g. ``intended-use-reviewed``."""
    asks: str
    """What the person states, as a sentence."""
    max_age_days: int | None
    at: Location
    signed: bool = False
    """Whether only a signed one counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTest:
    """A case inside the pack: given these facts, the rule must answer so."""

    name: str
    given: Mapping[str, FactValue]
    members: Mapping[str, tuple[Mapping[str, FactValue], ...]]
    expect: State
    at: Location
    attested: tuple[Attestation, ...] = ()
    as_of: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A value the user of a pack may set, within its bounds."""

    name: str
    type: str
    value: Operand
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    describe: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One fact a rule looked at: what was expected, what was seen (``None``: missing), and where."""

    fact: str
    expected: str
    observed: str | None
    read_from: str
    at: Location


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One check. Exactly one of ``condition`` and ``attest`` is set."""

    id: str
    title: str
    severity: Severity
    scope: SubjectKind
    rationale: str
    controls: tuple[ControlRef, ...]
    when: Condition | None
    condition: Condition | None
    attest: Attest | None
    on_missing: OnMissing
    finding: str
    """Sentence with ``{metric:NAME}``, ``{tag:NAME}``, ``{dataset:NAME}``, ``{param:NAME}`` places."""
    remediation: str
    does_not_show: str
    tests: tuple[RuleTest, ...]
    at: Location
    baseline_alias: str = ""
    """For scope ``pair``: the alias whose version is the baseline."""
    parameters: tuple[str, ...] = ()
    """Names of those whose values were put in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What the registry protects, and from which severity on an unmet rule blocks."""

    aliases: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    """Patterns with ``*``, compared without regard to case."""
    blocks_at: Severity = Severity.HIGH
    auditors: tuple[str, ...] = ()
    """Users who may write any evidence tag of ours; empty: everybody, in their own name."""
    approvals: int = 0
    """How many people other than the author must have approved the version."""
    approvers: tuple[str, ...] = ()
    """Users who may approve; empty: everybody but the author."""
    overriders: tuple[str, ...] = ()
    """Users who may open the gate for one version for a limited time; empty: nobody."""
    override_max_days: int = 7
    """The longest an override may last."""
    verdict_max_age_hours: int | None = None
    """The gate asks for an audit's signed verdict no older than that; ``None``: it looks at the evidence itself."""
    link: str = ""
    """Where a refusal sends people; ``{model}`` and ``{version}`` stand for the version refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """Somebody's accepted exception; without force after the end of ``expires`` (UTC)."""

    id: str
    rules: tuple[str, ...]
    match: Condition | None
    reason: str
    requested_by: str
    approved_by: str
    approved_on: date
    expires: date
    ticket: str
    at: Location
    compensating_control: str = ""
    """What is done instead while the rule is suspended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """A policy file."""

    id: str
    version: str
    title: str
    owner: str
    describe: str
    frameworks: tuple[str, ...]
    parameters: Mapping[str, Parameter]
    rules: tuple[Rule, ...]
    waivers: tuple[Waiver, ...] = ()
    gate: Gate | None = None
    file: str = ""
    sha256: str = ""
    """Of the file's bytes."""
    loosened: tuple[str, ...] = field(default_factory=tuple)
    """What this pack relaxes of the packs it builds on, one sentence each."""
    reviewed_on: date | None = None
    review_every_days: int | None = None
