"""An audit against an earlier one: what is new, what is still open and since when, what is no longer open."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.errors import DataError
from mlflow_carbon.policy.model import State

OPEN = (State.FAIL, State.ERROR, State.NO_EVIDENCE, State.NEEDS_ATTESTATION)
_FORMAT = "urn:mlflow-carbon:report:1."


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier audit in figures: answers by state."""

    as_of: datetime
    counts: Mapping[State, int]


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier report says about open findings: identity -> since when each is open."""

    as_of: datetime
    open_since: Mapping[str, datetime]
    complete: bool
    """Whether the report lists all its findings, not only the worst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Open findings by identity. If one of the two audits lists only its worst, ``complete`` is false."""

    earlier: datetime
    new: frozenset[str]
    remaining: frozenset[str]
    resolved: int
    open_since: Mapping[str, datetime]
    """For those that remain."""
    complete: bool

    @property
    def oldest(self) -> datetime | None:
        """Since when the one that has been open longest is open."""
        return min(self.open_since.values(), default=None)


def read_report(content: bytes, where: str) -> Earlier:
    """An earlier ``report.json``.

    Raises:
        DataError: it is none, or of a format this version does not know.
    """
    try:
        data = json.loads(content)
        if not str(data["$schema"]).startswith(_FORMAT):
            raise DataError(
                f"{where}: is of format {data['$schema']!r}; this version reads {_FORMAT}x."
            )
        as_of = _moment(data["as_of"])
        states = {state.value for state in OPEN}
        since = {
            str(finding["identity"]): _moment(finding.get("open_since") or data["as_of"])
            for finding in data["findings"]
            if finding["state"] in states
        }
        return Earlier(as_of, since, complete=not data["findings_left_out"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{where}: is no report.json of mlflow-carbon ({type(error).__name__}: {error})."
        ) from None


def _moment(text: Any) -> datetime:
    return datetime.fromisoformat(str(text).replace("Z", "+00:00"))


def compare(findings: Sequence[Finding], left_out: int, earlier: Earlier) -> Comparison:
    """The open findings of now against those of then."""
    now = frozenset(finding.identity for finding in findings if finding.state in OPEN)
    then = earlier.open_since.keys()
    remaining = frozenset(now & then)
    return Comparison(
        earlier=earlier.as_of,
        new=frozenset(now - then),
        remaining=remaining,
        resolved=len(then - now),
        open_since={identity: earlier.open_since[identity] for identity in remaining},
        complete=earlier.complete and not left_out,
    )
