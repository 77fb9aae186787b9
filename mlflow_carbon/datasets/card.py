"""Dataset cards: what somebody says about a data set, in a file beside the script or the data.

Three ways to write one: our own short YAML (``NAME.dataset.yaml``), Croissant JSON-LD
(``NAME.croissant.json``), and a Hugging Face dataset card (``NAME.dataset.md``).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from mlflow_carbon.datasets.bounded import as_text, invisible, node_text, read_head, yaml_fields
from mlflow_carbon.datasets.license import NOT_KNOWN, normalized
from mlflow_carbon.errors import DataError

SUFFIXES = (".dataset.yaml", ".croissant.json", ".dataset.md")
MAX_BYTES = 64 * 1024
"""A card is a page of text; what is larger was not written by a person for this."""
MAX_CARDS = 1000
"""Looked at in one folder."""
MAX_TEXT = 5000
"""Characters of one field."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What is declared; an empty text means that nothing was said. Who declared it is part of it.

    The fields cover the 22 of the Data & Trust Alliance's provenance standard, see ``standard.py``.
    """

    name: str
    license: str = ""
    """SPDX expression or ``LicenseRef-*``."""
    origin: str = ""
    """Where it is from, when not from the issuer: an address, an organisation."""
    collected: str = ""
    """When, or from when to when."""
    sensitive: str = ""
    """``none``, or the classes of personal data."""
    issuer: str = ""
    description: str = ""
    declared_by: str = ""
    sha256: str = ""
    """Of the content the card is about; a card with one never describes other content."""
    id: str = ""
    location: str = ""
    """Where the metadata can be found."""
    lineage: str = ""
    """The data sets it was made from."""
    origin_geography: str = ""
    issued: str = ""
    previous_issue: str = ""
    method: str = ""
    """How it was collected or generated."""
    format: str = ""
    confidentiality: str = ""
    consent: str = ""
    """Where the agreement of the people concerned is kept."""
    privacy: str = ""
    """Measures that protect them: pseudonyms, noise, aggregation."""
    processing_geography: str = ""
    storage_geography: str = ""
    intended_use: str = ""
    proprietary: str = ""
    """Whether it holds works under copyright, patents, trade marks."""
    biases: str = ""
    limitations: str = ""

    def declared(self) -> Mapping[str, str]:
        """The fields that say something about the data, without the empty ones."""
        about_the_card = ("name", "declared_by", "sha256")
        names = (field.name for field in fields(self) if field.name not in about_the_card)
        return {name: value for name in names if (value := getattr(self, name))}


FIELDS = tuple(field.name for field in fields(Card))


def load_card(path: Path) -> Card:
    """One card of any of the three kinds, told apart by the end of the file's name.

    Raises:
        DataError: unreadable, too large, not a card; names file and line.
    """
    from mlflow_carbon.datasets.croissant import read_croissant
    from mlflow_carbon.datasets.huggingface import read_dataset_card

    if path.suffix in (".json", ".jsonld"):
        return read_croissant(path)
    return read_dataset_card(path) if path.suffix == ".md" else _read_yaml(path)


def find_card(name: str, sha256: str | None, folders: Sequence[Path]) -> Card | None:
    """The card of a data set: one that names its exact content first, then one of its name.

    A card tied to other content is never taken. A damaged card is told in the log and passed over,
    so that training goes on.
    """
    by_name = None
    for card in _cards(folders):
        if card.sha256 and card.sha256 == sha256:
            return card
        if by_name is None and card.name == name and not card.sha256:
            by_name = card
    return by_name


def make_card(path: Path, values: Mapping[str, str]) -> Card:
    """A card of texts that were read, each checked for characters that would change how it is shown.

    Raises:
        DataError: no name, or such a character.
    """
    for field, text in values.items():
        if bad := invisible(text):
            raise DataError(
                f"{path}: {field} holds the invisible control character {bad}; remove it."
            )
    if not values.get("name"):
        raise DataError(f"{path}:1: a dataset card needs a name: the one given to MLflow.")
    given = {field: text[:MAX_TEXT] for field, text in values.items() if text}
    license_ = normalized(given.pop("license", ""))
    return Card(**given, license="" if license_ == NOT_KNOWN else license_)


def _read_yaml(path: Path) -> Card:
    content, more = read_head(path, MAX_BYTES)
    if more:
        raise DataError(f"{path}: larger than {MAX_BYTES // 1024} KiB; this is no dataset card.")
    values: dict[str, str] = {}
    for name, node, line in yaml_fields(path, as_text(path, content)):
        text = node_text(node)
        if name not in FIELDS:
            raise DataError(
                f"{path}:{line}: a dataset card has no field {name[:40]!r}. It has: {', '.join(FIELDS)}."
            )
        if text is None:
            raise DataError(f"{path}:{line}: {name} must be text or a list of texts.")
        if name in values:
            raise DataError(f"{path}:{line}: {name} is given twice.")
        if name == "sha256" and text and not _SHA256.fullmatch(text.lower()):
            raise DataError(f"{path}:{line}: sha256 must be 64 hexadecimal digits.")
        values[name] = text.lower() if name == "sha256" else text
    return make_card(path, values)


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
