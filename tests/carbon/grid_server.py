"""A local HTTP server that speaks as the documented services of carbon intensities do."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

KEY = "s3cret-key"
USER, PASSWORD, TOKEN = "kim", "s3cret-word", "s3cret-token"


def electricity_maps(zone: str, values: dict[datetime, float], **changes: Any) -> dict[str, Any]:
    """The answer of ``/v3/carbon-intensity/history``."""
    history = [
        {
            "zone": zone,
            "carbonIntensity": value,
            "datetime": start.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "updatedAt": "2026-11-23T12:31:22.002Z",
            "createdAt": "2026-11-23T06:20:31.772Z",
            "emissionFactorType": "lifecycle",
            "isEstimated": True,
            "estimationMethod": "TIME_SLICER_AVERAGE",
        }
        for start, value in values.items()
    ]
    return {"zone": zone, "history": history, "temporalGranularity": "hourly", **changes}


def watttime(zone: str, values: dict[datetime, float], **meta: Any) -> dict[str, Any]:
    """The answer of ``/v3/historical``: points of five minutes."""
    points = [
        {"point_time": (start + timedelta(minutes=5 * n)).isoformat(), "value": value + n - 5.5}
        for start, value in values.items()
        for n in range(12)
    ]
    about = {
        "region": zone,
        "signal_type": "co2_moer",
        "units": "lbs_co2_per_mwh",
        "data_point_period_seconds": 300,
        "model": {"date": "2026-03-01"},
    }
    return {"data": points, "meta": about | meta}


@dataclass
class Grid:
    """What the server answers, and what it was asked."""

    answer: Callable[[], tuple[int, bytes, dict[str, str]]]
    asked: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)
    address: str = ""

    def says(self, document: object, status: int = 200, **headers: str) -> None:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.answer = lambda: (status, content, headers)


@contextmanager
def serving() -> Iterator[Grid]:
    """A server that says nothing useful until it is told what to say."""
    grid = Grid(lambda: (404, b"{}", {}))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            grid.asked.append((parts.path, dict(parse_qsl(parts.query)), headers))
            status, content, more = grid.answer()
            if parts.path == "/login":
                basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
                known = headers.get("authorization") == f"Basic {basic}"
                status, content, more = (200, json.dumps({"token": TOKEN}).encode(), {})
                status = status if known else 401
            elif parts.path == "/v3/historical" and headers["authorization"] != f"Bearer {TOKEN}":
                status = 401
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    grid.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield grid
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
