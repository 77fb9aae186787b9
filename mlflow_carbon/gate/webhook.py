"""For servers that cannot be extended: take back a promotion when MLflow's webhook tells of it.

A webhook comes after the fact and can be lost, so this detects and reverts; it does not prevent.
The message is only a reason to look: what is checked is what the registry says now.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

WINDOW = timedelta(minutes=5)
"""How old a message may be; MLflow retries for some seconds."""
ALIAS_EVENT = ("model_version_alias", "created")


class RefusedError(Exception):
    """The message is not taken; ``status`` is the HTTP answer."""

    def __init__(self, status: int, reason: str) -> None:
        """Keep both."""
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Event:
    """An alias was set. ``version`` is what the message says, not what counts."""

    delivery: str
    name: str
    alias: str
    version: str


class Doorkeeper:
    """Lets a message in once, if it is signed with the secret, fresh, and not older than this process.

    The last one matters: what was let in before a restart is not remembered.
    """

    def __init__(self, secret: str, clock: Callable[[], datetime]) -> None:
        """``clock`` gives aware UTC times."""
        self._secret = secret.encode()
        self._clock = clock
        self._opened = clock().replace(microsecond=0)
        self._seen: dict[str, datetime] = {}

    def admit(self, headers: Mapping[str, str], body: bytes) -> Event | None:
        """The event, or ``None`` for a sound message about something else. Header names are lower-case.

        Raises:
            RefusedError: unsigned, altered, stale, or seen before.
        """
        delivery = headers.get("x-mlflow-delivery-id", "")
        sent = headers.get("x-mlflow-timestamp", "")
        signed = f"{delivery}.{sent}.".encode() + body
        if not self._is_ours(headers.get("x-mlflow-signature", ""), signed):
            raise RefusedError(401, "the signature is not the secret's")
        self._check_age(sent)
        if delivery in self._seen:
            raise RefusedError(409, "this delivery was taken before")
        event = _event(delivery, body)
        self._seen[delivery] = self._clock()
        return event

    def forget(self, event: Event) -> None:
        """Let the sender try again: the event could not be dealt with."""
        self._seen.pop(event.delivery, None)

    def _is_ours(self, header: str, signed: bytes) -> bool:
        version, _, encoded = header.partition(",")
        try:
            given = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            return False
        expected = hmac.new(self._secret, signed, hashlib.sha256).digest()
        return version == "v1" and hmac.compare_digest(given, expected)

    def _check_age(self, sent: str) -> None:
        now = self._clock()
        self._seen = {one: at for one, at in self._seen.items() if now - at < 2 * WINDOW}
        try:
            at = datetime.fromtimestamp(int(sent), timezone.utc)
        except (ValueError, OverflowError, OSError):
            raise RefusedError(400, "the timestamp is no number of seconds") from None
        if abs(now - at) > WINDOW or at < self._opened:
            raise RefusedError(409, "the message is not from now")


def _event(delivery: str, body: bytes) -> Event | None:
    try:
        message = json.loads(body)
        if (message["entity"], message["action"]) != ALIAS_EVENT:
            return None
        data = message["data"]
        return Event(delivery, str(data["name"]), str(data["alias"]), str(data["version"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise RefusedError(400, "the message is not one of MLflow's") from None
