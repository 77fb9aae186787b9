"""Dataset cards: what a person says about a data set, in a small YAML file beside the script."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_carbon.datasets.license import NOT_KNOWN, normalized
from mlflow_carbon.errors import DataError

SUFFIX = ".dataset.yaml"
MAX_BYTES = 64 * 1024
"""A card is a page of text; what is larger was not written by a person for this."""
MAX_CARDS = 1000
"""Looked at in one folder."""

FIELDS = (
    "name",
    "license",
    "origin",
    "collected",
    "sensitive",
    "issuer",
    "description",
    "declared_by",
    "sha256",
)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What is declared; an empty text means that nothing was said. Who declared it is part of it."""

    name: str
    license: str = ""
    """SPDX expression or ``LicenseRef-*``."""
    origin: str = ""
    collected: str = ""
    """When, or from when to when."""
    sensitive: str = ""
    """``none``, or the classes of personal data."""
    issuer: str = ""
    description: str = ""
    declared_by: str = ""
    sha256: str = ""
    """Of the content the card is about; a card with one never describes other content."""

    def declared(self) -> Mapping[str, str]:
        """The fields that say something about the data, without the empty ones."""
        names = ("license", "origin", "collected", "sensitive", "issuer", "description")
        return {name: value for name in names if (value := getattr(self, name))}


def load_card(path: Path) -> Card:
    """One card.

    Raises:
        DataError: unreadable, too large, not a card; names file and line.
    """
    values = read_fields(path)
    lines = {name: line for name, (_, line) in values.items()}
    texts = {name: text for name, (text, _) in values.items()}
    for name in texts:
        if name not in FIELDS:
            raise DataError(
                f"{path}:{lines[name]}: a dataset card has no field {name!r}. "
                f"It has: {', '.join(FIELDS)}."
            )
    if not texts.get("name"):
        raise DataError(f"{path}:1: a dataset card needs a name: the one given to MLflow.")
    if (sha256 := texts.get("sha256", "").lower()) and not _SHA256.fullmatch(sha256):
        raise DataError(f"{path}:{lines['sha256']}: sha256 must be 64 hexadecimal digits.")
    license_ = normalized(texts.get("license", ""))
    return Card(
        **{name: text for name, text in texts.items() if name not in ("license", "sha256")},
        license="" if license_ == NOT_KNOWN else license_,
        sha256=sha256,
    )


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


def read_fields(path: Path) -> Mapping[str, tuple[str, int]]:
    """The top level of a YAML file: text and line of every field; lists are joined by commas.

    Nothing is built from the file: dates and ``no`` stay the text they are.

    Raises:
        DataError: unreadable, too large, damaged, or a field that is neither text nor a list of texts.
    """
    import yaml

    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from None
    if len(content) > MAX_BYTES:
        raise DataError(f"{path}: larger than {MAX_BYTES // 1024} KiB; this is no dataset card.")
    try:
        root = yaml.compose(content.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8 text.") from None
    except RecursionError:
        raise DataError(f"{path}: nested too deeply.") from None
    except yaml.YAMLError as error:
        raise DataError(f"{path}:{_line(error)}: not valid YAML: {_problem(error)}.") from None
    if not isinstance(root, yaml.MappingNode):
        raise DataError(f"{path}:1: expected `field: value` lines.")
    return _fields(path, root)


def _fields(path: Path, root: Any) -> Mapping[str, tuple[str, int]]:
    values: dict[str, tuple[str, int]] = {}
    for key, node in root.value:
        line = key.start_mark.line + 1
        name = key.value if isinstance(key.value, str) else ""
        text = _text(node)
        if not name or text is None:
            raise DataError(f"{path}:{line}: {name or 'a field'} must be text or a list of texts.")
        if name in values:
            raise DataError(f"{path}:{line}: {name} is given twice.")
        if bad := _control(name + text):
            raise DataError(
                f"{path}:{line}: {name[:40]!r} holds the invisible control character {bad}; remove it."
            )
        if text:
            values[name] = text, line
    return values


def _text(node: Any) -> str | None:
    import yaml

    if isinstance(node, yaml.ScalarNode):
        return "" if node.tag == "tag:yaml.org,2002:null" else " ".join(str(node.value).split())
    if isinstance(node, yaml.SequenceNode):
        texts = [_text(item) for item in node.value if isinstance(item, yaml.ScalarNode)]
        if len(texts) == len(node.value):
            return ", ".join(text for text in texts if text)
    return None


def _control(text: str) -> str:
    """The first character that would change how the text is shown, as ``U+202E``."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cf", "Cs"):
            return f"U+{ord(character):04X}"
    return ""


def _cards(folders: Sequence[Path]) -> Iterator[Card]:
    for folder in dict.fromkeys(folders):
        try:
            paths = sorted(folder.glob(f"*{SUFFIX}"))[:MAX_CARDS]
        except OSError:
            continue
        yield from filter(None, map(_loaded, paths))


def _loaded(path: Path) -> Card | None:
    try:
        return load_card(path)
    except DataError as error:
        _log.warning("mlflow-carbon: dataset card not used: %s", error)
        return None


def _line(error: Any) -> int:
    mark = getattr(error, "problem_mark", None)
    return mark.line + 1 if mark is not None else 1


def _problem(error: Any) -> str:
    return str(getattr(error, "problem", None) or getattr(error, "reason", None) or "damaged")
