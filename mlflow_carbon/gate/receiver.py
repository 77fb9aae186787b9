"""A small HTTP server that takes MLflow's webhooks and looks at what they tell of."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mlflow.exceptions import MlflowException

from mlflow_carbon.errors import CarbonError
from mlflow_carbon.evidence.ledger import Ledger
from mlflow_carbon.gate import protection
from mlflow_carbon.gate.rollback import move_back
from mlflow_carbon.gate.served import Served, standing
from mlflow_carbon.gate.webhook import Doorkeeper, Event, RefusedError
from mlflow_carbon.policy.model import Gate, Pack

_LONGEST = 64 * 1024
_PATIENCE_S = 10
_log = logging.getLogger(__name__)


class Receiver(ThreadingHTTPServer):
    """Takes webhooks at any path. One promotion is looked at at a time."""

    def __init__(
        self, address: tuple[str, int], doorkeeper: Doorkeeper, look: Callable[[Event], str]
    ) -> None:
        """``look`` deals with an event and says in words what was done."""
        self.doorkeeper, self.look = doorkeeper, look
        super().__init__(address, _Handler)


def looker(pack: Pack, client: Any, ledger: Ledger) -> Callable[[Event], str]:
    """Put the policy to the version that the alias points to now; take the alias back if it falls."""
    protected, turn = protection.of(pack.gate or Gate()), threading.Lock()

    def look(event: Event) -> str:
        if not protected.covers_alias(event.alias):
            return "not protected"
        with turn:
            now = datetime.now(timezone.utc)
            number = client.get_registered_model(event.name).aliases.get(event.alias)
            if number is None:
                return "the alias is no longer there"
            what = Served(event.name, str(number), f"alias {event.alias}", event.alias)
            found = standing(pack, client, what, now)
            if found.stands:
                return f"{event.name} version {number} stands"
            return move_back(pack, client, found, ledger, now, remove=True)

    return look


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    timeout = _PATIENCE_S

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            event = self.server.doorkeeper.admit(headers, self._body())
        except RefusedError as refused:
            self._answer(refused.status, str(refused))
        else:
            self._answer(*self._dealt_with(event))

    def _dealt_with(self, event: Event | None) -> tuple[int, str]:
        if event is None:
            return 200, "nothing to do"
        try:
            return 200, self.server.look(event)
        except (MlflowException, CarbonError, OSError) as error:
            self.server.doorkeeper.forget(event)
            _log.error("Could not look at %r: %s", event.name, error)
            return 503, "the registry could not be read or written; try again"

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise RefusedError(411, "the length is missing")
        if int(length) > _LONGEST:
            raise RefusedError(413, "the message is too long")
        return self.rfile.read(int(length))

    def _answer(self, status: int, words: str) -> None:
        line = "".join(c if c.isprintable() else " " for c in words)
        _log.info("%s %s", status, line)
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.end_headers()
        self.wfile.write(f"{line}\n".encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Our own lines say more."""
