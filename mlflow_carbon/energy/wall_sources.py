"""Sensors of a whole machine's power: a file with a number, a program that prints one, a BMC by Redfish.

hwmon: https://docs.kernel.org/hwmon/sysfs-interface.html (``power*_input``, ``power*_average``, microwatts);
any other file holds watts. Redfish: DMTF DSP0268, the resources Power, EnvironmentMetrics and Sensor.
"""

from __future__ import annotations

import base64
import codecs
import http.client
import json
import re
import shlex
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MICROWATTS = re.compile(r"power\d+_(input|average)")
_OLD_S = 60.0
"""A file of watts that nobody has written for this long tells nothing."""
_PATIENCE_S = 5.0
_MOST_BYTES = 1 << 20


class FilePower:
    """A file with a number."""

    period_s = 1.0

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self._path, self.name = path, str(path)
        self._in_microwatts = _MICROWATTS.fullmatch(path.name) is not None

    def power_w(self) -> float:
        """The number in it; a file that is not kept up is none."""
        try:
            number = float(self._path.read_text())
        except ValueError as error:
            raise OSError(f"{self._path}: {error}") from error
        if self._in_microwatts:
            return number * 1e-6
        age_s = _seconds_since(self._path.stat().st_mtime_ns)
        if age_s > _OLD_S:
            raise OSError(f"{self._path}: not written for {age_s:.0f} s")
        return number


def _seconds_since(written_ns: int) -> float:
    """A file's age; both moments are of the wall clock, which is what file systems keep."""
    return (time.time_ns() - written_ns) / 1e9


class CommandPower:
    """A program that prints the watts, such as ``ipmitool dcmi power reading`` with a filter; no shell reads the line."""

    period_s = 5.0

    def __init__(self, command: str) -> None:
        """Take the line apart.

        Raises:
            OSError: a quotation mark is missing, or there is nothing to run.
        """
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise OSError(f"MLFLOW_CARBON_WALL_POWER_COMMAND: {error}") from error
        if not self._command:
            raise OSError("MLFLOW_CARBON_WALL_POWER_COMMAND is empty")
        self.name = self._command[0]  # arguments may hold passwords

    def power_w(self) -> float:
        """The first number that it prints."""
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own command line
                self._command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise OSError(f"{self.name}: no answer within {_PATIENCE_S:g} s") from None
        if done.returncode:
            raise OSError(f"{self.name}: exit code {done.returncode}")
        found = re.search(rb"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", done.stdout[:4096])
        if found is None:
            raise OSError(f"{self.name}: printed no number of watts")
        return float(found[0])


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A BMC has no reason to send us, and our password, elsewhere."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class RedfishPower:
    """A BMC's resource by https."""

    period_s = 5.0

    def __init__(self, url: str, login: Path | None, ca: Path | None) -> None:
        """Read the login (``user:password``, one line) and the BMC's own certificate authority, if given.

        Raises:
            OSError: the address is not https, or a file cannot be used.
        """
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or parts.username or parts.password:
            raise OSError(
                "MLFLOW_CARBON_WALL_REDFISH_URL must be https://HOST/redfish/v1/..., without a password:"
                " that belongs into the file named by MLFLOW_CARBON_WALL_REDFISH_LOGIN"
            )
        self.name = f"{parts.hostname}{parts.path}"
        codecs.lookup("idna")  # which the first connection would import, on a thread of ours
        self._request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - https
        if login is not None:
            secret = base64.b64encode(login.read_bytes().strip()).decode()
            self._request.add_unredirected_header("Authorization", f"Basic {secret}")
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
        self._open: Callable[..., Any] = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=context),
            _NoRedirect(),
        ).open

    def power_w(self) -> float:
        """The watts in the resource; an error names the host and the path, never the login."""
        try:
            with self._open(self._request, timeout=_PATIENCE_S) as answer:
                data = answer.read(_MOST_BYTES + 1)
            if len(data) > _MOST_BYTES:
                raise OSError(f"{self.name}: answer over 1 MB")
            return _watts(json.loads(data))
        except urllib.error.HTTPError as error:
            error.close()
            raise OSError(f"{self.name}: HTTP {error.code} {error.reason}") from error
        except (ValueError, RecursionError, http.client.HTTPException) as error:
            raise OSError(f"{self.name}: {error}") from error


def _watts(resource: Any) -> float:
    """Of Power (PowerControl), EnvironmentMetrics (PowerWatts) or Sensor (Reading)."""
    found = resource if isinstance(resource, dict) else {}
    controls = found.get("PowerControl")
    if isinstance(controls, list) and controls and isinstance(controls[0], dict):
        value = controls[0].get("PowerConsumedWatts")
    elif isinstance(found.get("PowerWatts"), dict):
        value = found["PowerWatts"].get("Reading")
    elif found.get("ReadingUnits", "W") == "W":
        value = found.get("Reading")
    else:
        value = None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise ValueError("no watts in PowerControl, PowerWatts or Reading")
