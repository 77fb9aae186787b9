"""What the user's code says about its datasets: ``mlflow_carbon.describe_dataset(...)``."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import fields

from mlflow_carbon.datasets.card import Card
from mlflow_carbon.datasets.license import NOT_KNOWN, normalized
from mlflow_carbon.errors import DataError

_by_name: dict[str, Card] = {}
_by_object: list[tuple[Callable[[], object | None], Card]] = []


def describe_dataset(dataset: object, **declared: str) -> None:
    """Declare license, origin and the like of a dataset that will be logged; see ``datasets.card.Card``.

    ``dataset`` is the MLflow dataset, the frame or array behind it, or the dataset's name.

    Raises:
        DataError: a field has no place on a dataset card; names those that have.
    """
    known = {field.name for field in fields(Card)}
    if unknown := sorted(set(declared) - known):
        raise DataError(
            f"describe_dataset() knows no field {unknown[0]!r}. It knows: {', '.join(sorted(known))}."
        )
    name = dataset if isinstance(dataset, str) else str(getattr(dataset, "name", "") or "")
    values = {"name": name, "declared_by": "the training code"} | declared
    license_ = normalized(declared.get("license", ""))
    values["license"] = "" if license_ == NOT_KNOWN else license_
    card = Card(**values)
    if isinstance(dataset, str):
        _by_name[dataset] = card
        return
    try:
        reference: Callable[[], object | None] = weakref.ref(dataset)
    except TypeError:  # lists, dicts: kept alive, as there is no way to know when they go
        reference = lambda: dataset  # noqa: E731
    _by_object.append((reference, card))


def described_in_code(live: object, name: str) -> Card | None:
    """The card declared in code for this dataset, the latest first, or ``None``."""
    _by_object[:] = [entry for entry in _by_object if entry[0]() is not None]
    for reference, card in reversed(_by_object):
        if live is not None and any(reference() is part for part in _parts(live)):
            return card
    return _by_name.get(name)


def _parts(live: object) -> list[object]:
    """The MLflow dataset and what it wraps."""
    inside = getattr(live, "__dict__", {})
    held = [inside.get(key) for key in ("_df", "_features", "_targets", "_ds", "_data")]
    return [live, *[part for part in held if part is not None]]
