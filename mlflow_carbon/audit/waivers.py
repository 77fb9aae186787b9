"""When a waiver has force, and which ones have none."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time, timezone

from mlflow_carbon.policy.model import Pack, Rule, Waiver


def expired(waiver: Waiver, as_of: datetime) -> bool:
    """Whether the last day of the waiver is over, by UTC."""
    return as_of > datetime.combine(waiver.expires, time.max, tzinfo=timezone.utc)


def in_force(waiver: Waiver, rule: Rule, as_of: datetime) -> bool:
    """Whether the waiver names the rule and the moment lies between its approval and its last day, by UTC."""
    begun = datetime.combine(waiver.approved_on, time.min, tzinfo=timezone.utc) <= as_of
    return rule.id in waiver.rules and begun and not expired(waiver, as_of)


def without_effect(
    packs: Sequence[Pack], used: set[tuple[str, str]], as_of: datetime
) -> tuple[str, ...]:
    """A sentence for each waiver that hid nothing; ``used`` holds (pack id, waiver id)."""
    notes = []
    for pack in packs:
        for waiver in pack.waivers:
            if expired(waiver, as_of):
                notes.append(f"{waiver.id}: expired on {waiver.expires}, without force")
            elif (pack.id, waiver.id) not in used:
                notes.append(f"{waiver.id}: hides nothing in this audit")
    return tuple(notes)
