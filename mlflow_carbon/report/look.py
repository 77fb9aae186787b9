"""What an organisation may change about the look of its reports: one small YAML file.

language: de
classification: Internal
accent: "#0b5563"
logo: logo.png
logo_text: Example Bank
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from mlflow_carbon.errors import DataError

ACCENT = "#0b5563"
LEAST_CONTRAST = 4.5
"""WCAG 2.1, 1.4.3: text against its ground."""
MAX_LOGO_BYTES = 1024 * 1024
_IMAGES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The values, checked."""

    language: str = "en"
    classification: str = ""
    """On the cover and in every footer."""
    accent: str = ACCENT
    """``#rrggbb``, dark enough to be read on white."""
    logo: bytes = b""
    logo_text: str = ""
    """What the logo says, for who does not see it."""

    @property
    def logo_type(self) -> str:
        """The logo's media type."""
        return next((kind for head, kind in _IMAGES.items() if self.logo.startswith(head)), "")


def load_look(path: Path) -> Look:
    """The look described by a file; the logo's path counts from the file.

    Raises:
        DataError: the file cannot be read or used; says what is wrong.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise DataError(f"{path}: is no mapping of names to values.")
    _check_names(path, tree)
    values = {key: value for key, value in tree.items() if key != "logo"}
    look = Look(**values)
    _check_accent(path, look.accent)
    if "logo" not in tree:
        return look
    return Look(**values, logo=_logo(path, path.parent / str(tree["logo"])))


def _check_names(path: Path, tree: Mapping[Any, Any]) -> None:
    known = [field.name for field in fields(Look)]
    for key, value in tree.items():
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" There are: {', '.join(known)}."
            raise DataError(f"{path}: nothing is called {key!r}.{hint}")
        if not isinstance(value, str):
            raise DataError(f"{path}: {key} must be a text; put it in quotes.")


def _check_accent(path: Path, accent: str) -> None:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", accent):
        raise DataError(f"{path}: accent must look like '#0b5563', not {accent!r}.")
    contrast = contrast_on_white(accent)
    if contrast < LEAST_CONTRAST:
        raise DataError(
            f"{path}: accent {accent} is too light to be read on white: contrast {contrast:.1f}, "
            f"needed {LEAST_CONTRAST}. Choose a darker one."
        )


def contrast_on_white(colour: str) -> float:
    """1 (white) to 21 (black), after WCAG 2.1's relative luminance."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05)


def _logo(path: Path, file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the logo {file} cannot be read: {error.strerror}.") from None
    if len(content) > MAX_LOGO_BYTES:
        raise DataError(f"{path}: the logo {file} is larger than {MAX_LOGO_BYTES // 1024} KiB.")
    if not any(content.startswith(head) for head in _IMAGES):
        raise DataError(f"{path}: the logo {file} is neither PNG nor JPEG.")
    return content
