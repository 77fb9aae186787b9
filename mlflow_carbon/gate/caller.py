"""Who is asking: the authenticated user of the request where the server has authentication."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """``user`` is empty where nobody proved who they are; ``route`` where there is no request."""

    user: str = ""
    route: str = ""

    @property
    def proven(self) -> bool:
        """Whether the server checked a password or token."""
        return bool(self.user)


def current() -> Caller:
    """The caller of the request this thread is serving."""
    flask = sys.modules.get("flask")
    if flask is None or not flask.has_request_context():
        return Caller()
    user = flask.g.get("mlflow_authenticated_user")
    return Caller(user if isinstance(user, str) else "", str(flask.request.path))
