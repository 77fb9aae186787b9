"""SPDX license expressions (SPDX 2.3 annex D), ``LicenseRef-`` names included: are they sound, and what do they need?"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from license_expression import ExpressionError, Licensing, get_spdx_licensing

_OWN_NAME = re.compile(r"(?:DocumentRef-[A-Za-z0-9.\-]+:)?LicenseRef-[A-Za-z0-9.\-]+")
_LIMIT = 500


@lru_cache(maxsize=1)
def _spdx() -> Licensing:
    return get_spdx_licensing()


def is_spdx(text: str) -> bool:
    """True for ``MIT``, ``CC-BY-4.0 AND MIT``, ``LicenseRef-contract-7``; false for ``openrail``, ``none``."""
    if not text.strip() or len(text) > _LIMIT:
        return False
    # A LicenseRef may stand wherever an identifier of the list may; the library knows only the list.
    known = _OWN_NAME.sub("MIT", text)
    try:
        return not _spdx().validate(known, strict=True).errors
    except (ExpressionError, TypeError, IndexError, AttributeError):
        return False  # the library's parser gives up in these ways on malformed text


def avoids(text: str, names: Collection[str]) -> bool:
    """Whether the data can be used without accepting a license of ``names``, in whatever case they are written.

    Of ``A AND B`` both must be accepted, of ``A OR B`` one. False for a text that is no expression.
    """
    if not is_spdx(text):
        return False
    refused = {name.strip().casefold() for name in names}

    def free(part: Any) -> bool:
        if isinstance(part, _plain().OR):
            return any(map(free, part.args))
        if isinstance(part, _plain().AND):
            return all(map(free, part.args))
        # "X WITH exception" stands for X too; "X+" is X or a later version.
        written = str(part).casefold()
        return not {written, written.split(" with ")[0], written.removesuffix("+")} & refused

    return free(_plain().parse(text))


@lru_cache(maxsize=1)
def _plain() -> Licensing:
    """Reads any name as a license, so that names stay as they were written."""
    return Licensing()
