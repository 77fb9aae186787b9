"""Reads the evidence of a version, asks the policy, and refuses in MLflow's own terms."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NoReturn

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from mlflow_carbon.errors import CarbonError
from mlflow_carbon.evidence.lineage import read_pair, read_version
from mlflow_carbon.evidence.model import SubjectKind
from mlflow_carbon.gate.decision import Decision, decide
from mlflow_carbon.gate.protection import Protection
from mlflow_carbon.gate.refusal import Refusal, Violation, violations_of
from mlflow_carbon.gate.rulebook import Rulebook, RulebookReader
from mlflow_carbon.policy.model import Pack
from mlflow_carbon.settings import is_server_process


@dataclass(frozen=True, slots=True)
class Promotion:
    """What somebody wants to do; the version is the one whose evidence decides."""

    action: str
    name: str
    version: str


def judge(pack: Pack, runs: Any, registry: Any, promotion: Promotion) -> Decision:
    """Read what there is about a version, and its baselines, and decide as of now."""
    evidence = read_version(runs, registry, promotion.name, promotion.version)
    aliases = {rule.baseline_alias for rule in pack.rules if rule.scope is SubjectKind.PAIR}
    pairs = [read_pair(runs, registry, evidence, alias) for alias in sorted(aliases)]
    known = tuple(pair for pair in pairs if pair is not None)
    return decide(pack, evidence, datetime.now(timezone.utc), known)


class Keeper:
    """Stands at the gate of one registry store."""

    def __init__(self, policy: str, tracking_uri: str | None) -> None:
        """``tracking_uri``: where the runs are, in a client; a server knows its own store."""
        self._reader = RulebookReader(policy)
        self._tracking_uri = tracking_uri

    @property
    def protection(self) -> Protection:
        """What is protected now."""
        return self._reader.current().protection

    def admit(self, registry: Any, promotion: Promotion) -> None:
        """Return when the policy allows it.

        Raises:
            MlflowException: PERMISSION_DENIED with the reasons; HTTP 403 from a server.
        """
        rulebook = self._reader.current()
        if violations := self._violations(rulebook, registry, promotion):
            check = f"mlflow-carbon gate check models:/{promotion.name}/{promotion.version}"
            _raise(
                Refusal(
                    action=promotion.action,
                    policy=rulebook.label,
                    violations=violations,
                    check=check,
                )
            )

    def refuse(self, action: str, *, rule: str, message: str, fix: str) -> NoReturn:
        """Refuse what no evidence could allow.

        Raises:
            MlflowException: always.
        """
        rulebook = self._reader.current()
        violation = Violation(rule=rule, severity="high", state="fail", message=message, fix=fix)
        _raise(Refusal(action=action, policy=rulebook.label, violations=(violation,), check=""))

    def _violations(
        self, rulebook: Rulebook, registry: Any, promotion: Promotion
    ) -> tuple[Violation, ...]:
        if rulebook.pack is None:
            return (_trouble("GATE-POLICY", rulebook.problem, "Mend the policy file."),)
        try:
            decision = judge(rulebook.pack, self._runs(), registry, promotion)
        except (MlflowException, CarbonError, OSError) as error:
            return (
                _trouble(
                    "GATE-EVIDENCE",
                    f"The evidence could not be read: {error}",
                    "Try again once the tracking store answers.",
                ),
            )
        return () if decision.allowed else violations_of(decision)

    def _runs(self) -> Any:
        if is_server_process():
            from mlflow.server.handlers import _get_tracking_store

            return _get_tracking_store()
        from mlflow.tracking._tracking_service.utils import _get_store

        return _get_store(self._tracking_uri)


def _trouble(rule: str, message: str, fix: str) -> Violation:
    return Violation(rule=rule, severity="critical", state="error", message=message, fix=fix)


def _raise(refusal: Refusal) -> NoReturn:
    # PERMISSION_DENIED is 403 and final: clients retry what MLflow maps to 500.
    raise MlflowException(
        refusal.message(),
        error_code=PERMISSION_DENIED,
        policy=refusal.policy,
        violations=[violation.as_dict() for violation in refusal.violations],
    )
