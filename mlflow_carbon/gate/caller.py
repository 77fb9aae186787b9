"""Who is asking: the authenticated user of the request where the server has authentication."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any


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
    user = flask.g.get("mlflow_authenticated_user") or _as_older_mlflow_has_it(flask)
    return Caller(user if isinstance(user, str) else "", str(flask.request.path))


def _as_older_mlflow_has_it(flask: Any) -> str:
    """The user where MLflow (2.14) checks passwords but does not say whose: the check is made once more."""
    auth = sys.modules.get("mlflow.server.auth")
    checks = flask.current_app.before_request_funcs.get(None, ())
    if auth is None or not any(check.__module__ == auth.__name__ for check in checks):
        return ""
    return str(getattr(auth.authenticate_request(), "username", None) or "")
