"""The evidence tags on model versions: who may write them, and what may not be written at all."""

from __future__ import annotations

from mlflow_carbon.evidence import attestation, manifest
from mlflow_carbon.gate import people
from mlflow_carbon.gate.caller import Caller
from mlflow_carbon.gate.protection import plain
from mlflow_carbon.policy.model import Gate
from mlflow_carbon.schema import PREFIX, RegistryTag


def is_reserved(key: str) -> bool:
    """Whether the tag is evidence. Some databases compare keys without case, so we do."""
    return plain(key).startswith(PREFIX)


def why_not(gate: Gate, who: Caller, key: str, value: str, version: tuple[str, str]) -> str:
    """Why this caller may not set the tag to this value, or delete it from it; empty: they may.

    Without authentication nobody is anybody, and only what the gate itself writes is refused.
    """
    if plain(key) == people.REGISTERED_BY:
        return "the server alone writes it"
    if not who.proven or who.user in gate.auditors:
        return ""
    if plain(key) == manifest.TAG:
        approves = not gate.approvers or who.user in gate.approvers
        return "" if approves else f"{who.user!r} is not among those whom the policy lets approve"
    if not key.startswith(RegistryTag.ATTESTATION_PREFIX):
        return "only an auditor named in the policy may write it"
    statement = key[len(RegistryTag.ATTESTATION_PREFIX) :]
    if attestation.is_signed(value):
        read = attestation.from_envelope(value, None)
    else:
        read = attestation.from_text(
            value, statement=statement, name=version[0], version=version[1]
        )
    if isinstance(read, str):
        return f"it is no attestation: {read}"
    return people.may_state(gate, who.user, read)
