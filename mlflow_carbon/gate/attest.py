"""What people put on record after the run: a statement about a version, a card about a dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlflow_carbon.errors import DataError
from mlflow_carbon.evidence.attestation import (
    binding,
    from_envelope,
    tag_key,
    to_envelope,
    to_text,
)
from mlflow_carbon.evidence.model import Attestation
from mlflow_carbon.schema import InputTag, Tag

if TYPE_CHECKING:
    from mlflow_carbon.signing.keys import SigningKey


def record_statement(
    registry: Any, name: str, version: str, attestation: Attestation, key: SigningKey | None = None
) -> str:
    """Write the attestation on the version, in place of an earlier one of that name; returns the tag's key.

    With a ``key`` it is signed; the key must be one of the person who makes the statement.

    Raises:
        DataError: the statement's identifier cannot be used, or it expires before it is made.
    """
    tag = tag_key(attestation.statement)
    if attestation.expires_at is not None and attestation.expires_at <= attestation.made_at:
        raise DataError(
            f"{attestation.statement}: it expires on {attestation.expires_at.date()}, which is past. "
            "Give a later --expires."
        )
    if key is None:
        text = to_text(attestation, name, version)
    else:
        text = signed_text(registry.get_model_version(name, version), attestation, key)
    registry.set_model_version_tag(name, version, tag, text)
    return tag


def signed_text(version: Any, attestation: Attestation, key: SigningKey) -> str:
    """The attestation signed, checked as every reader will check it.

    Raises:
        DataError: it would not count; says why.
    """
    text = to_envelope(attestation, version, key)
    made = from_envelope(text, binding(version))
    if isinstance(made, str):
        raise DataError(f"{attestation.statement}: nobody would believe it: {made}.")
    return text


def record_card(runs: Any, run_id: str, card: Mapping[str, str], declared_at: datetime) -> str:
    """Write a dataset's card on the run that used the dataset; returns the tag's key.

    The card's ``sha256`` ties it to a content; a card without one goes by the dataset's name,
    as long as the run used one content under that name.

    Raises:
        DataError: the run did not use that content, or it is not known what the run used.
    """
    sha256 = _content(_inputs(runs.get_run(run_id)), run_id, card)
    return _write_card(runs, run_id, card, sha256, declared_at)


def record_card_for_all(
    runs: Any, run_id: str, card: Mapping[str, str], declared_at: datetime
) -> tuple[str, ...]:
    """Write one card for every content the run used: the splits of one data set; returns the tags' keys.

    Raises:
        DataError: the card is tied to one content, or the run has no fingerprinted dataset.
    """
    if card.get("sha256"):
        raise DataError(
            f"The card of {card['name']!r} is tied to one content by its sha256, so it cannot describe "
            "every dataset of the run. Leave out --all-inputs, or the sha256."
        )
    inputs = _inputs(runs.get_run(run_id))
    contents = sorted({sha256 for _, sha256 in inputs if sha256})
    if not contents:
        raise DataError(f"Run {run_id} has no fingerprinted dataset. {_used(inputs)}")
    return tuple(_write_card(runs, run_id, card, sha256, declared_at) for sha256 in contents)


def _write_card(
    runs: Any, run_id: str, card: Mapping[str, str], sha256: str, declared_at: datetime
) -> str:
    fields = {key: value for key, value in card.items() if value}
    fields |= {"sha256": sha256, "declared_at": declared_at.isoformat(timespec="seconds")}
    key = Tag.CARD_PREFIX + sha256[:16]
    runs.set_tag(run_id, key, json.dumps(fields, ensure_ascii=False, sort_keys=True))
    return key


def _inputs(run: Any) -> list[tuple[str, str]]:
    """(name, content sha256 or empty) of each dataset input."""
    found = run.inputs.dataset_inputs if run.inputs is not None else []
    return [
        (
            item.dataset.name,
            next((tag.value for tag in item.tags if tag.key == InputTag.SHA256), ""),
        )
        for item in found
    ]


def _content(inputs: list[tuple[str, str]], run_id: str, card: Mapping[str, str]) -> str:
    named, wanted = card["name"], card.get("sha256", "")
    known = sorted({sha256 for _, sha256 in inputs if sha256})
    if wanted:
        if wanted in known:
            return wanted
        raise DataError(
            f"The card of {named!r} describes content {wanted[:16]}..., which run {run_id} did not use. "
            + _used(inputs)
        )
    contents = {sha256 for name, sha256 in inputs if name == named and sha256}
    if len(contents) == 1:
        return contents.pop()
    many = "several contents" if contents else "no fingerprinted content"
    raise DataError(
        f"Run {run_id} used {many} under the name {named!r}, so the card cannot be tied to one. "
        f"Give the card a sha256. {_used(inputs)}"
    )


def _used(inputs: list[tuple[str, str]]) -> str:
    if not inputs:
        return "It has no dataset on record."
    listed = ", ".join(f"{name!r} ({sha256[:16] or 'no sha256'})" for name, sha256 in inputs)
    return f"It used {listed}."
