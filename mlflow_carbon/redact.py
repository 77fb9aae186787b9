"""Addresses fit to print or to keep: without the secrets in them."""

from __future__ import annotations

import re

HIDDEN = "***"

_SECRET = re.compile(r"(?i)([?&;](?:\w*password|\w*passwd|\w*token|\w*secret|pwd)=)[^&;]*")
_USERINFO = re.compile(r"(?s)^([^:/?#]+://[^/@:]*):.*@")


def redacted(uri: str) -> str:
    """The address with every password and token replaced by ``***``.

    Text up to the last ``@`` counts as the password: one that contains ``@`` or ``/`` unquoted
    is no valid address, and still must not be printed.
    """
    return _SECRET.sub(rf"\1{HIDDEN}", _USERINFO.sub(rf"\1:{HIDDEN}@", uri))
