"""Whether a text is an SPDX license expression (SPDX 2.3 annex D), ``LicenseRef-`` names included."""

from __future__ import annotations

import re
from functools import lru_cache

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
