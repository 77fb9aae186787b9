"""From the checked text of a rule to the rule, its tests included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta, timezone
from typing import Any

from mlflow_carbon.errors import Location
from mlflow_carbon.evidence.model import Attestation, FactType, FactValue, SubjectKind
from mlflow_carbon.policy import facts
from mlflow_carbon.policy.catalog import Framework
from mlflow_carbon.policy.conditions import Reader
from mlflow_carbon.policy.message import PARAMETER, places, put_parameters, stray_brace
from mlflow_carbon.policy.model import (
    Attest,
    Condition,
    ControlRef,
    OnMissing,
    Parameter,
    Relation,
    Rule,
    RuleTest,
    Severity,
    State,
)
from mlflow_carbon.policy.operators import shown as shown_value
from mlflow_carbon.policy.shape import LIMIT_COUNT, Problems, Taken, did_you_mean, plain, shown
from mlflow_carbon.policy.yaml_tree import Entries, Items, Node

_TEST_DAY = datetime(2026, 1, 1, tzinfo=timezone.utc)


class _Noting(dict[str, Parameter]):
    """The parameters of a pack; ``asked`` are those that a rule used, in this order."""

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        super().__init__(parameters)
        self.asked: dict[str, None] = {}

    def __getitem__(self, name: str) -> Parameter:
        self.asked[name] = None
        return super().__getitem__(name)


@dataclass(slots=True)
class RuleReader:
    """Reads the rules of one pack; faults go to ``problems``."""

    parameters: Mapping[str, Parameter]
    frameworks: Mapping[str, Framework]
    """By id, without version: the ones the pack lists."""
    problems: Problems
    _put_in: _Noting = field(init=False)

    def read(self, taken: Taken) -> Rule | None:
        """The rule, or ``None`` where something it cannot do without is wrong."""
        before = len(self.problems.found)
        self._put_in = _Noting(self.parameters)
        scope = SubjectKind(taken.get("scope", SubjectKind.RUN.value))
        when, condition = (
            self._condition(taken, "when", scope),
            self._condition(taken, "assert", scope),
        )
        attest = self._attest(taken, scope)
        self._exactly_one(taken)
        self._baseline(taken, scope)
        controls = tuple(filter(None, map(self.control, taken.get("controls", []))))
        if "controls" in taken.values and not taken.values["controls"]:
            self.problems.add(taken.place("controls"), "a rule names at least one control.")
        finding = self._finding(taken, scope)
        tests = tuple(self._test(test, scope) for test in taken.get("tests", []))
        if len(self.problems.found) > before:
            return None
        texts = ("id", "title", "rationale", "remediation", "does_not_show")
        if not all(key in taken.values for key in (*texts, "severity", "scope")):
            return None
        return Rule(
            **{text: taken.values[text] for text in texts},
            severity=Severity(taken.values["severity"]),
            scope=scope,
            controls=controls,
            when=when,
            condition=condition,
            attest=attest,
            on_missing=OnMissing(taken.get("on_missing", OnMissing.NO_EVIDENCE.value)),
            finding=finding,
            tests=tests,
            at=taken.place("id"),
            baseline_alias=taken.get("baseline", ""),
            parameters=tuple(self._put_in.asked),
        )

    def _condition(self, taken: Taken, key: str, scope: SubjectKind) -> Condition | None:
        node: Node | None = taken.get(key)
        if node is None:
            return None
        return Reader(scope, self._put_in, self.problems).read(node)

    def _exactly_one(self, taken: Taken) -> None:
        if ("assert" in taken.places) == ("attest" in taken.places):
            which = (
                "both 'assert' and 'attest'"
                if "assert" in taken.places
                else "neither 'assert' nor 'attest'"
            )
            self.problems.add(taken.place("id"), f"the rule has {which}; it needs one of them.")

    def _baseline(self, taken: Taken, scope: SubjectKind) -> None:
        if (scope is SubjectKind.PAIR) != ("baseline" in taken.values):
            message = "rules of scope 'pair', and only they, name an alias under 'baseline'."
            self.problems.add(taken.place("baseline"), message)

    def _attest(self, taken: Taken, scope: SubjectKind) -> Attest | None:
        below: Taken | None = taken.get("attest")
        if below is None:
            return None
        if scope is not SubjectKind.MODEL_VERSION:
            message = "attestations are made about model versions: the scope must be model_version."
            self.problems.add(below.at, message)
        age = self._age(below)
        if "statement" not in below.values or "asks" not in below.values:
            return None
        return Attest(
            statement=below.values["statement"],
            asks=below.values["asks"],
            max_age_days=age,
            at=below.at,
            signed=bool(below.get("signed")),
        )

    def _age(self, below: Taken) -> int | None:
        age = below.get("max_age_days")
        if isinstance(age, str) and age.strip("${}") in self.parameters:
            age = self._put_in[age.strip("${}")].value
        if age is None:
            return age
        if isinstance(age, int) and not isinstance(age, bool) and 0 < age <= LIMIT_COUNT:
            return age
        message = f"'max_age_days' needs a whole number from 1 to {LIMIT_COUNT:,}."
        self.problems.add(below.place("max_age_days"), message)
        return None

    def control(self, taken: Taken) -> ControlRef | None:
        """The control an entry names, if the frameworks of the pack have it."""
        framework, _, control = str(taken.get("ref", "")).partition("/")
        if not control:
            return None
        at = taken.place("ref")
        if framework not in self.frameworks:
            hint = did_you_mean(framework, self.frameworks)
            message = (
                f"the pack does not list the framework {framework!r} under 'frameworks'.{hint}"
            )
            self.problems.add(at, message)
            return None
        known = self.frameworks[framework].controls
        if control not in known:
            hint = did_you_mean(control, known)
            self.problems.add(at, f"{self.frameworks[framework].title} has no {control!r}.{hint}")
            return None
        if "relation" not in taken.values:
            return None
        return ControlRef(framework, control, Relation(taken.values["relation"]))

    def _finding(self, taken: Taken, scope: SubjectKind) -> str:
        template: str = taken.get("finding", "")
        at = taken.place("finding")
        if stray_brace(template) is not None:
            message = "a brace that belongs to no place; places look like {metric:accuracy} or {metric:x|kWh}."
            self.problems.add(at, message)
        for namespace, key in places(template):
            if namespace == PARAMETER:
                self._known_parameter(key, at)
            elif wrong := facts.fault(f"{namespace}.{key}", scope, inside="any"):
                self.problems.add(at, wrong)
        values = {
            name: f"{shown_value(p.value)} {p.unit}".strip() for name, p in self.parameters.items()
        }
        return put_parameters(template, values)

    def _known_parameter(self, name: str, at: Location) -> None:
        if name not in self.parameters:
            hint = did_you_mean(name, self.parameters)
            self.problems.add(at, f"no parameter is called {name[:60]!r}.{hint}")

    def _test(self, taken: Taken, scope: SubjectKind) -> RuleTest:
        given = self._given(taken.get("given"), scope, inside="")
        members: dict[str, tuple[Mapping[str, FactValue], ...]] = {}
        listed: Node | None = taken.get("datasets")
        if isinstance(listed, Items):
            members["datasets"] = tuple(
                self._given(i, scope, inside="datasets") for i in listed.items
            )
        as_of = taken.get("as_of")
        return RuleTest(
            name=taken.get("name", ""),
            given=given,
            members=members,
            expect=State(taken.get("expect", State.PASS.value)),
            at=taken.at,
            attested=tuple(map(_attestation, taken.get("attested", []))),
            as_of=datetime.combine(as_of, time(), timezone.utc) if as_of else _TEST_DAY,
        )

    def _given(self, node: Node | None, scope: SubjectKind, *, inside: str) -> dict[str, FactValue]:
        given: dict[str, FactValue] = {}
        if node is None:
            return given
        if not isinstance(node, Entries):
            self.problems.add(
                node.at, f"facts are a mapping of names to values, not {shown(node)}."
            )
            return given
        for name, (written, value) in node.entries.items():
            if wrong := facts.fault(name, scope, inside=inside):
                self.problems.add(written.at, wrong)
                continue
            read = _fact_value(plain(value), facts.fact_type(name))
            if read is None:
                kind = facts.fact_type(name).value
                self.problems.add(value.at, f"{name!r} is a {kind}; {shown(value)} is not.")
            else:
                given[name] = read
        return given


def _attestation(taken: Taken) -> Attestation:
    made, expires = taken.get("made_on"), taken.get("expires")
    end = datetime.combine(expires, time(), timezone.utc) + timedelta(days=1) if expires else None
    return Attestation(
        statement=taken.get("statement", ""),
        by=taken.get("by", "a person"),
        role="",
        made_at=datetime.combine(made, time(), timezone.utc) if made else _TEST_DAY,
        expires_at=end,
        reason="",
        signed_by="a trusted key" if taken.get("signed") else "",
    )


def _fact_value(value: Any, kind: FactType) -> FactValue | None:
    """A value written in a test as the type its fact has in a store; ``None``: it cannot be."""
    if (kind is FactType.LIST) != isinstance(value, tuple) or value is None:
        return None
    return _AS[kind](value)


def _as_number(value: Any) -> float | None:
    # Written as text: NaN and infinity, which a metric can be.
    if isinstance(value, str) and value.lower() in {"nan", "inf", "-inf"}:
        return float(value)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


_AS: dict[FactType, Callable[[Any], FactValue | None]] = {
    FactType.NUMBER: _as_number,
    FactType.TEXT: str,
    FactType.TIME: lambda value: _moment(str(value)),
    FactType.FLAG: lambda value: value if isinstance(value, bool) else None,
    FactType.LIST: lambda value: tuple(str(item) for item in value),
}
