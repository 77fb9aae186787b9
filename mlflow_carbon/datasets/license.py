"""License texts as people write them, as SPDX expressions."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

NOT_KNOWN = "NOASSERTION"
"""SPDX's word for: nobody has said. A card that says ``unknown`` has not declared a license."""

MAX_LENGTH = 500

_COMMON = (
    "0BSD AGPL-3.0-only Apache-2.0 BSD-2-Clause BSD-3-Clause BSL-1.0 CC-BY-3.0 CC-BY-4.0 CC-BY-NC-4.0 "
    "CC-BY-NC-ND-4.0 CC-BY-NC-SA-3.0 CC-BY-NC-SA-4.0 CC-BY-ND-4.0 CC-BY-SA-3.0 CC-BY-SA-4.0 CC0-1.0 "
    "CDLA-Permissive-1.0 CDLA-Permissive-2.0 CDLA-Sharing-1.0 EPL-2.0 GPL-2.0-only GPL-3.0-only "
    "GPL-3.0-or-later ISC LGPL-3.0-only MIT MPL-2.0 ODC-By-1.0 ODbL-1.0 OGL-UK-3.0 PDDL-1.0 Unlicense Zlib"
)
_BY_KEY = {name.lower(): name for name in _COMMON.split()}
"""Licenses data sets mostly have: recognised without loading the list of all of them (0.3 s)."""

_ALIASES = {
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "bsd 2-clause": "BSD-2-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "cc0": "CC0-1.0",
    "cc0 1.0": "CC0-1.0",
    "cc by 3.0": "CC-BY-3.0",
    "cc by 4.0": "CC-BY-4.0",
    "cc by-sa 4.0": "CC-BY-SA-4.0",
    "cc by-nc 4.0": "CC-BY-NC-4.0",
    "cc by-nd 4.0": "CC-BY-ND-4.0",
    "cc by-nc-sa 4.0": "CC-BY-NC-SA-4.0",
    "cc by-nc-nd 4.0": "CC-BY-NC-ND-4.0",
    "creative commons attribution 4.0": "CC-BY-4.0",
    "gpl-3.0": "GPL-3.0-only",
    "gplv3": "GPL-3.0-only",
    "mit license": "MIT",
    "the mit license": "MIT",
    "odbl": "ODbL-1.0",
    "odc-by": "ODC-By-1.0",
    "pddl": "PDDL-1.0",
    "public domain": "LicenseRef-public-domain",
    "publicdomain": "LicenseRef-public-domain",
    "us government work": "LicenseRef-public-domain",
}
_UNKNOWN = {"", "unknown", "none", "noassertion", "not specified", "n/a", "?"}

_URL = re.compile(
    r"https?://(?:www\.)?(?:creativecommons\.org/licenses/(?P<kind>[a-z-]+)/(?P<version>\d\.\d)"
    r"|creativecommons\.org/publicdomain/zero/1\.0(?P<zero>)"
    r"|opensource\.org/licen[sc]es?/(?P<osi>[\w.-]+)"
    r"|spdx\.org/licenses/(?P<spdx>[\w.+-]+?)(?:\.html)?/?$"
    r"|choosealicense\.com/licenses/(?P<choose>[\w.-]+))",
    re.IGNORECASE,
)


def normalized(text: str) -> str:
    """An SPDX expression, with ``LicenseRef-*`` for what SPDX does not list, or ``NOASSERTION``.

    Never a guess: a name that is not listed stays a name of its own.
    """
    wanted = " ".join(text[:MAX_LENGTH].split()).strip("\"' ")
    lowered = wanted.lower()
    if lowered in _UNKNOWN:
        return NOT_KNOWN
    if known := _BY_KEY.get(lowered) or _ALIASES.get(lowered) or _from_url(wanted):
        return known
    return _expression(wanted) or _reference(wanted)


def _from_url(text: str) -> str | None:
    found = _URL.match(text)
    if found is None:
        return None
    if found["kind"]:
        name = f"CC-{found['kind']}-{found['version']}"
    elif found["zero"] is not None:
        name = "CC0-1.0"
    else:
        name = found["osi"] or found["spdx"] or found["choose"]
    return _BY_KEY.get(name.lower()) or _expression(name)


@cache
def _licensing() -> Any:
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()


def _expression(text: str) -> str | None:
    """The text as an expression, unknown names in it as references; nothing if none of it is known."""
    from license_expression import ExpressionError, ParseError

    if text.lower().endswith("later"):  # "X or later" is no choice between X and a license "later"
        return None
    licensing = _licensing()
    try:
        parsed = licensing.parse(text)
    except (ExpressionError, ParseError, RecursionError):
        return None
    if parsed is None:
        return None
    unknown = {str(symbol.key) for symbol in licensing.unknown_license_symbols(parsed)}
    names = {str(key) for key in licensing.license_keys(parsed)}
    if unknown >= names:
        return None
    renamed = {name: _reference(name) for name in unknown if not name.startswith("LicenseRef-")}
    if any(" " in name for name in renamed):  # a sentence that happens to hold "or" or "and"
        return None
    rendered = str(parsed.render("{symbol.key}"))
    for name, reference in renamed.items():
        rendered = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", reference, rendered)
    return rendered


def _reference(text: str) -> str:
    if re.fullmatch(r"(DocumentRef-[\w.-]+:)?LicenseRef-[\w.-]+", text):
        return text
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")[:100]
    return f"LicenseRef-{slug}" if slug else NOT_KNOWN
