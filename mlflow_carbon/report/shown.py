"""Text from stores and policies made fit to be shown: nothing invisible, nothing endless.

Escaping for a format is the renderer's; this is about what a reader could be misled by.
"""

from __future__ import annotations

import re
import unicodedata

from mlflow_carbon.errors import Location
from mlflow_carbon.resources import told

_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")

NAME_LENGTH = 72
TEXT_LENGTH = 1200

# Control, format (bidirectional overrides, zero width), surrogate, private-use and unassigned
# characters: none of them has a look of its own, and PDF/A-3a forbids most of them.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_SPACES = frozenset({"Zs", "Zl", "Zp"})


def visible(text: str) -> str:
    r"""The text with every invisible character written as its code point: ``\u202e``.

    Line breaks, tabs and every kind of space become a space.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category in _SPACES or character in "\n\r\t":
        return " "
    if category not in _INVISIBLE:
        return character
    point = ord(character)
    return (
        f"\\x{point:02x}"
        if point < 256
        else f"\\u{point:04x}"
        if point < 65536
        else f"\\U{point:08x}"
    )


def place(at: Location) -> str:
    """Where a rule is written, as every machine would say it."""
    return str(at._replace(file=told(at.file)))


def shortened(text: str, limit: int) -> str:
    """At most about ``limit`` characters, saying how long the whole is."""
    if len(text) <= limit:
        return text
    return f"{text[:limit].rstrip()}\u2026 ({len(text):,} characters)"


def shown(text: str, limit: int = TEXT_LENGTH) -> str:
    """Visible and of bounded length."""
    return visible(shortened(text, limit))


def name(text: str) -> str:
    """A name given by somebody: short enough for a table cell; never empty."""
    return shown(text, NAME_LENGTH) or "\u2013"


def brief(text: str) -> str:
    """A text whose SHA-256 digests are cut to 16 digits; the attached data has them whole."""
    return _DIGEST.sub(lambda found: f"{found.group()[:16]}\u2026", text)
