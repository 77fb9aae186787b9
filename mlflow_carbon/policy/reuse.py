"""Rules taken over from other packs, word for word, and put to another kind of subject where that is sound."""

from __future__ import annotations

from dataclasses import replace

from mlflow_carbon.evidence.model import SubjectKind
from mlflow_carbon.policy.model import Condition, ControlRef, ForEach, Rule, Severity
from mlflow_carbon.policy.shape import FaultError, Taken


def adapted(
    rule: Rule, entry: Taken, pack: str, controls: tuple[ControlRef, ...]
) -> tuple[Rule, str | None]:
    """The rule as ``entry`` (a ``use`` item) wants it, and a sentence if that is laxer than in ``pack``.

    Its tests stay in its own pack; ``controls`` come on top of its own.

    Raises:
        FaultError: the rule cannot be put to the scope asked for.
    """
    scope = SubjectKind(entry.get("scope", rule.scope.value))
    severity = Severity(entry.get("severity", rule.severity.value))
    laxer = None
    if severity.rank > rule.severity.rank:
        laxer = f"{rule.id} is {severity.value} here; in {pack} it is {rule.severity.value}."
    moved = replace(rule, severity=severity, tests=(), controls=(*rule.controls, *controls))
    if scope is rule.scope:
        return moved, laxer
    if scope is not SubjectKind.MODEL_VERSION:
        message = f"{rule.id} is about a {rule.scope.value}; it can be put to a model_version only."
        raise FaultError(entry.place("scope"), message)
    # A version's evidence holds the facts of its training run and of its registered model.
    if rule.scope in (SubjectKind.RUN, SubjectKind.REGISTERED_MODEL):
        return replace(moved, scope=scope), laxer
    if rule.scope is SubjectKind.DATASET_INPUT and rule.condition is not None:
        every: Condition = ForEach("datasets", rule.condition, rule.condition.at, rule.when)
        return replace(moved, scope=scope, when=None, condition=every), laxer
    message = (
        f"{rule.id} is about a {rule.scope.value}; only rules about runs and datasets can move."
    )
    raise FaultError(entry.place("scope"), message)
