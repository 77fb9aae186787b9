"""Dataset cards in files beside the script or the data: reading one, finding the right one.

Three ways to write one: our own short YAML (``NAME.dataset.yaml``), Croissant JSON-LD
(``NAME.croissant.json``), and a Hugging Face dataset card (``NAME.dataset.md``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mlflow_carbon.datasets.card import Card, read_yaml_card
from mlflow_carbon.datasets.croissant import read_croissant
from mlflow_carbon.datasets.huggingface import read_dataset_card
from mlflow_carbon.datasets.record import Declared
from mlflow_carbon.errors import DataError

SUFFIXES = (".dataset.yaml", ".croissant.json", ".dataset.md")
MAX_CARDS = 1000
"""Looked at in one folder."""
NOBODY = "nobody named"

_log = logging.getLogger(__name__)


def load_card(path: Path) -> Card:
    """One card of any of the three kinds, told apart by the end of the file's name.

    Raises:
        DataError: unreadable, too large, not a card; names file and line.
    """
    if path.suffix in (".json", ".jsonld"):
        return read_croissant(path)
    return read_dataset_card(path) if path.suffix == ".md" else read_yaml_card(path)


def find_cards(name: str, sha256: str | None, folders: Sequence[Path]) -> tuple[Card, ...]:
    """The cards of a data set: those that name its exact content first, then those of its name.

    A card tied to other content is never taken. A damaged card is told in the log and passed over,
    so that training goes on.
    """
    cards = tuple(_cards(folders))
    exact = [card for card in cards if card.sha256 and card.sha256 == sha256]
    return (*exact, *(card for card in cards if card.name == name and not card.sha256))


def merged(cards: Iterable[Card]) -> Mapping[str, Declared]:
    """What several cards declare, by field: the first that says something counts, under its own name."""
    found: dict[str, Declared] = {}
    for card in cards:
        by = card.declared_by or NOBODY
        for field, value in card.declared().items():
            found.setdefault(field, Declared(value, by))
    return found


def _cards(folders: Sequence[Path]) -> Iterator[Card]:
    for folder in dict.fromkeys(folders):
        try:
            found = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES))
        except OSError:
            continue
        yield from filter(None, map(_loaded, found[:MAX_CARDS]))


def _loaded(path: Path) -> Card | None:
    try:
        return load_card(path)
    except DataError as error:
        _log.warning("mlflow-carbon: dataset card not used: %s", error)
        return None
