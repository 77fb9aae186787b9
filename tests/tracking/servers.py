"""A real ``mlflow server``, and a proxy before it that can be slow or refuse."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def self_signed(path: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody trusts, with its key, as a PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
    return path


_PLAIN = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes, idle here and slow to start
}


class Server:
    """``mlflow server`` on a store in ``folder``; can be stopped and started again on its port."""

    def __init__(self, folder: Path, store_uri: str, *arguments: str, **changes: str) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder, self._store_uri = folder, store_uri
        self._arguments, self._changes = arguments, changes
        self.start()

    def start(self) -> None:
        env = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")}
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", self._store_uri]
        command += ["--artifacts-destination", str(self._folder / "artifacts"), *self._arguments]
        self._log = (self._folder / "server.log").open("ab")
        self._process = subprocess.Popen(
            command,
            cwd=self._folder,
            env=env | _PLAIN | self._changes,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 200
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise TimeoutError((self._folder / "server.log").read_text()[-2000:])
            time.sleep(0.2)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with closing(connection), suppress(OSError):
            connection.request("GET", "/health")
            return connection.getresponse().status in (200, 401)
        return False

    def stop(self) -> None:
        if self._process.poll() is not None:
            return
        parent = psutil.Process(self._process.pid)
        for process in [*parent.children(recursive=True), parent]:
            process.kill()
        self._process.wait()
        self._log.close()


class Proxy:
    """Passes requests on; those that carry our figures it may hold up or answer with an error."""

    def __init__(self, port: int, certificate: Path | None = None) -> None:
        """``certificate``: a PEM file with its key, to be reached over TLS."""
        self.hold = threading.Event()
        """Set: let everything pass."""
        self.hold.set()
        self.refusals: list[int] = []
        """Statuses to answer with instead, one per request."""
        self.refused = 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if b"carbon/energy_kwh" in body:
                    proxy.hold.wait(60)
                    if proxy.refusals:
                        proxy.refused += 1
                        self.reply(proxy.refusals.pop(0), b"{}", "application/json")
                        return
                upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                with closing(upstream):
                    upstream.request(self.command, self.path, body, headers)
                    got = upstream.getresponse()
                    self.reply(got.status, got.read(), got.getheader("Content-Type") or "")

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 (http.server's names)

            def reply(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        scheme = "http"
        if certificate is not None:
            scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.uri = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
