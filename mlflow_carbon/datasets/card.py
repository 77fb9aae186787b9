"""A dataset card: what somebody says about a data set; our own short YAML form of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from mlflow_carbon.datasets.bounded import as_text, invisible, node_text, read_head, yaml_fields
from mlflow_carbon.datasets.license import NOT_KNOWN, normalized
from mlflow_carbon.errors import DataError

MAX_BYTES = 64 * 1024
"""A card is a page of text; what is larger was not written by a person for this."""
MAX_TEXT = 5000
"""Characters of one field."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


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


def read_yaml_card(path: Path) -> Card:
    """A card in our own YAML.

    Raises:
        DataError: unreadable, too large, not a card; names file and line.
    """
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
