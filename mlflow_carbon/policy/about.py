"""A pack as a subject of its own: rules can ask for its owner, its review and its waivers."""

from __future__ import annotations

from datetime import date, datetime, timezone

from mlflow_carbon import resources
from mlflow_carbon.evidence.model import Evidence, Fact, FactValue, Subject, SubjectKind
from mlflow_carbon.policy.model import Pack, Waiver


def pack_evidence(pack: Pack, as_of: datetime) -> Evidence:
    """The facts ``policy.*`` about a pack at the moment ``as_of``."""
    today = as_of.astimezone(timezone.utc).date()
    values: dict[str, FactValue] = {
        "policy.id": pack.id,
        "policy.version": pack.version,
        "policy.owner": pack.owner,
        "policy.rules": len(pack.rules),
        "policy.waivers": len(pack.waivers),
        "policy.expired_waivers": tuple(w.id for w in pack.waivers if w.expires < today),
        "policy.longest_waiver_days": max(map(_days, pack.waivers), default=0),
        "policy.loosened": pack.loosened,
    }
    if pack.reviewed_on is not None:
        values["policy.reviewed"] = _start(pack.reviewed_on)
        values["policy.review_age_days"] = (today - pack.reviewed_on).days
    if pack.review_every_days is not None:
        values["policy.review_every_days"] = pack.review_every_days
    facts = {
        name: Fact(value, f"policy file {resources.told(pack.file)}")
        for name, value in values.items()
    }
    return Evidence(Subject(SubjectKind.POLICY, pack.id, f"policy {pack.id} {pack.version}"), facts)


def _days(waiver: Waiver) -> int:
    return (waiver.expires - waiver.approved_on).days


def _start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=timezone.utc)
