"""The way through the gate: ask, enter it in the ledger, promote, ask again; refuse in MLflow's own terms."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NoReturn

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from mlflow_carbon.errors import OutputError, SettingsError
from mlflow_carbon.gate.families import with_families
from mlflow_carbon.gate.judge import Bench, Sources, Verdict
from mlflow_carbon.gate.protection import Protection
from mlflow_carbon.gate.record import Record
from mlflow_carbon.gate.refusal import Refusal, Violation, link_to, violations_of
from mlflow_carbon.gate.rulebook import Rulebook, RulebookReader
from mlflow_carbon.settings import Settings, gate_deadline_s, gate_ledger, is_server_process

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Promotion:
    """What somebody wants; the version is the one whose evidence decides.

    ``write`` does it and ``undo`` takes it back, given what ``write`` returned.
    """

    action: str
    name: str
    version: str
    write: Callable[[], Any]
    undo: Callable[[Any], object]


class Keeper:
    """Stands at the gate of one registry store.

    In front of a store that this process writes itself it enforces. In front of a server (in a
    client) it only says beforehand what the server would say: no ledger, no lock, no second look.
    """

    def __init__(self, policy: str, tracking_uri: str | None, *, enforces: bool) -> None:
        """``tracking_uri``: where the runs are, in a client; a server knows its own store."""
        self._reader = RulebookReader(policy)
        self._tracking_uri = tracking_uri
        self._bench = Bench(_deadline_s())
        self._record = Record(gate_ledger()) if enforces else None

    @property
    def rulebook(self) -> Rulebook:
        """The policy as it stands now."""
        return self._reader.current()

    @property
    def protection(self) -> Protection:
        """What is protected now."""
        return self.rulebook.protection

    def promote(self, registry: Any, promotion: Promotion) -> Any:
        """Do it if the policy allows it, and take it back if the evidence changed meanwhile.

        What was true when it was asked may no longer be when it is written. So the question is
        put again after the writing; only a promotion that still stands is reported as done.

        Raises:
            MlflowException: PERMISSION_DENIED with the reasons; HTTP 403 from a server.
        """
        rulebook = self.rulebook
        if self._record is None:
            sources = Sources(self._runs(), registry)
            self._pass(rulebook, promotion, self._ask(rulebook, sources, promotion))
            return promotion.write()
        try:
            with self._record.turn():
                return self._promote(self._record, rulebook, registry, promotion)
        except OutputError as error:
            _refuse(
                rulebook,
                promotion.action,
                Violation(
                    rule="GATE-LEDGER",
                    severity="critical",
                    state="error",
                    message=str(error),
                    fix="Tell whoever runs the server.",
                ),
            )

    def _promote(
        self, record: Record, rulebook: Rulebook, registry: Any, promotion: Promotion
    ) -> Any:
        sources = Sources(self._runs(), registry, record.promoted)
        verdict = self._ask(rulebook, sources, promotion)
        if verdict.violations:
            self.note("refused", promotion.action, promotion, verdict)
            self._pass(rulebook, promotion, verdict)
        record.add(verdict.outcome, _entry(rulebook, promotion.action, promotion, verdict))
        try:
            done = promotion.write()
        except MlflowException:
            self.note("failed", promotion.action, promotion, verdict)
            raise
        again = self._ask(self.rulebook, sources, promotion)
        if again.violations:
            promotion.undo(done)
            self.note("withdrawn", promotion.action, promotion, again)
            self._pass(self.rulebook, promotion, again)
        return done

    def refuse(self, action: str, *, rule: str, message: str, fix: str) -> NoReturn:
        """Refuse what no evidence could allow.

        Raises:
            MlflowException: always.
        """
        violation = Violation(rule=rule, severity="high", state="fail", message=message, fix=fix)
        self.note("refused", action, None, Verdict((violation,)))
        _refuse(self.rulebook, action, violation)

    def note(
        self,
        outcome: str,
        action: str,
        promotion: Promotion | None = None,
        verdict: Verdict | None = None,
    ) -> None:
        """Enter what does not depend on the entry: a full disk must not hide why something was refused."""
        if self._record is None:
            return
        try:
            self._record.add(outcome, _entry(self.rulebook, action, promotion, verdict))
        except OutputError as error:
            _log.error("%s", error)

    def _ask(self, rulebook: Rulebook, sources: Sources, promotion: Promotion) -> Verdict:
        now = datetime.now(timezone.utc)
        return self._bench.ask(rulebook, sources, promotion.name, promotion.version, now)

    def _pass(self, rulebook: Rulebook, promotion: Promotion, verdict: Verdict) -> None:
        if verdict.violations:
            _refuse(rulebook, promotion.action, *verdict.violations, version=promotion)

    def _runs(self) -> Any:
        if is_server_process():
            from mlflow.server.handlers import _get_tracking_store

            return with_families(_get_tracking_store())
        from mlflow.tracking._tracking_service.utils import _get_store

        return with_families(_get_store(self._tracking_uri))


def _deadline_s() -> float:
    try:
        return gate_deadline_s()
    except SettingsError as error:  # must neither open the gate nor stop the server
        _log.error("%s The default is taken.", error)
        return Settings().gate_deadline_s


def _entry(
    rulebook: Rulebook, action: str, promotion: Promotion | None, verdict: Verdict | None
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "action": action,
        "policy": rulebook.label,
        "policy_sha256": rulebook.pack.sha256 if rulebook.pack else "",
    }
    if promotion:
        entry |= {"model": promotion.name, "version": promotion.version}
    if verdict and verdict.violations:
        entry["violations"] = [f"{one.rule} {one.state}" for one in verdict.violations]
    if verdict and verdict.decision and (opened := verdict.decision.override):
        passed_over = violations_of(verdict.decision)
        entry["violations"] = [f"{one.rule} {one.state}" for one in passed_over]
        entry["override"] = {
            "by": opened.by,
            "role": opened.role,
            "reason": opened.reason,
            "expires_at": opened.expires_at.isoformat() if opened.expires_at else "",
        }
    return entry


def _refuse(
    rulebook: Rulebook, action: str, *violations: Violation, version: Promotion | None = None
) -> NoReturn:
    link = command = ""
    if version is not None:
        gate = rulebook.pack.gate if rulebook.pack else None
        link = link_to(gate, version.name, version.version)
        command = f"mlflow-carbon gate check models:/{version.name}/{version.version}"
    refusal = Refusal(
        action=action, policy=rulebook.label, violations=violations, everything=link or command
    )
    # PERMISSION_DENIED is 403 and final: clients retry what MLflow maps to 500.
    raise MlflowException(
        refusal.message(),
        error_code=PERMISSION_DENIED,
        policy=refusal.policy,
        violations=[violation.as_dict() for violation in violations],
        **({"link": link} if link else {}),
    )
