"""A sensor at the wall: the parts and the rest of the machine add up to it."""

from __future__ import annotations

import http.server
import os
import shlex
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlflow_carbon.energy.meter import Component, Gap, Meter, Method, Unmeasured
from mlflow_carbon.energy.rapl import RaplZone, find_zones
from mlflow_carbon.energy.wall import WallSensor
from mlflow_carbon.energy.wall_sources import CommandPower, FilePower, RedfishPower
from mlflow_carbon.settings import Settings
from tests.fakes.hosts import sampler_of
from tests.fakes.powercap import Powercap
from tests.fakes.simulate import Window, simulate


class Clock:
    """Simulated time that also moves the rig."""

    def __init__(self, *movers: Callable[[float], None]) -> None:
        self.now_ns, self._movers = 0, movers

    def set(self, t: float) -> None:
        self.now_ns = round(t * 1e9)
        for move in self._movers:
            move(t)

    def __call__(self) -> int:
        return self.now_ns


def test_the_package_and_the_rest_of_the_machine_add_up_to_the_wall(tmp_path: Path) -> None:
    tree = Powercap(tmp_path)
    tree.zone("intel-rapl:0", "package-0", lambda t: 150 * t)
    clock = Clock(tree.write)
    sensor = tmp_path / "power1_average"
    sensor.write_text("250000000\n")
    (zone,) = find_zones(tree.folder)
    meters: list[Meter] = [RaplZone(zone, clock=clock), WallSensor(FilePower(sensor), clock)]
    account = simulate(meters, {"a": Window(1, 31)}, clock.set)["a"]
    meters[0].close()
    cpu, system = account.components
    assert (cpu.component, system.component) == (Component.CPU, Component.SYSTEM)
    assert system.method is Method.SAMPLED
    assert system.boundary_j.mid == pytest.approx(100 * 30, rel=0.01)
    assert account.boundary_j is not None
    assert account.boundary_j.mid == pytest.approx(250 * 30, rel=0.01)


def test_a_wall_that_shows_less_than_the_parts_leaves_no_negative_rest(tmp_path: Path) -> None:
    tree = Powercap(tmp_path)
    tree.zone("intel-rapl:0", "package-0", lambda t: 150 * t)
    clock = Clock(tree.write)
    sensor = tmp_path / "watts"
    sensor.write_text("140\n")
    (zone,) = find_zones(tree.folder)
    meters: list[Meter] = [RaplZone(zone, clock=clock), WallSensor(FilePower(sensor), clock)]
    _, system = simulate(meters, {"a": Window(1, 11)}, clock.set)["a"].components
    meters[0].close()
    assert (system.boundary_j.low, system.boundary_j.mid) == (0, 0)
    assert system.boundary_j.high > 0


@pytest.mark.parametrize("content", ["", "many", "-3", "nan", "inf", "1e9"])
def test_what_is_no_power_is_refused_with_the_file_and_the_reason(
    tmp_path: Path, content: str
) -> None:
    sensor = tmp_path / "watts"
    sensor.write_text(content)
    with pytest.raises(OSError, match="watts"):
        WallSensor(FilePower(sensor))


def test_a_file_that_nobody_writes_any_more_is_a_gap(tmp_path: Path) -> None:
    sensor = tmp_path / "watts"
    sensor.write_text("300\n")
    meter = WallSensor(FilePower(sensor))
    long_ago = time.time() - 3600
    os.utime(sensor, (long_ago, long_ago))
    gap = meter.read()
    assert isinstance(gap, Gap)
    assert "not written for" in gap.reason


def test_the_setting_names_the_sensor_and_a_missing_one_is_told(tmp_path: Path) -> None:
    sensor = tmp_path / "watts"
    found = sampler_of(tmp_path, Settings(wall_power_file=sensor))
    assert [part.component for part in found.unmeasured] == [Component.SYSTEM]
    assert isinstance(found.unmeasured[0], Unmeasured)
    assert "watts" in found.unmeasured[0].reason
    sensor.write_text("300\n")
    found = sampler_of(tmp_path, Settings(wall_power_file=sensor))
    assert Component.SYSTEM in {meter.info.component for meter in found.meters}


def test_a_calibration_factor_is_applied_and_told_with_its_source(tmp_path: Path) -> None:
    sensor = tmp_path / "watts"
    sensor.write_text("200")
    meter = WallSensor(FilePower(sensor), factor=1.05, factor_source="PDU 7, 2026-10-01")
    first, _ = meter.read(), meter.read()
    assert getattr(first, "power_w", None) == pytest.approx(210)
    assert "x 1.05 (PDU 7, 2026-10-01)" in meter.info.describe
    with pytest.raises(OSError, match="WALL_FACTOR_SOURCE"):
        WallSensor(FilePower(sensor), factor=1.05)


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("print('Instantaneous power reading: 123.5 Watts')", 123.5),
        ("print('no idea')", "no number"),
        ("raise SystemExit(3)", "exit code 3"),
    ],
)
def test_a_program_tells_the_watts_or_why_not_and_its_arguments_stay_private(
    program: str, says: float | str
) -> None:
    source = CommandPower(shlex.join([sys.executable, "-c", program, "--password", "secret"]))
    assert "secret" not in source.name
    if isinstance(says, float):
        assert source.power_w() == says
        clock = Clock()
        meter = WallSensor(source, clock)
        account = simulate([meter], {"a": Window(1, 61)}, clock.set)["a"]
        assert account.components[0].boundary_j.mid == pytest.approx(says * 60, rel=0.01)
        assert "secret" not in str(account)
    else:
        with pytest.raises(OSError, match=says) as refused:
            source.power_w()
        assert "secret" not in str(refused.value)


@pytest.fixture(scope="module")
def bmc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bmc]:
    folder = tmp_path_factory.mktemp("bmc")
    made = Bmc(folder)
    yield made
    made.close()


class Bmc:
    """A https server with a certificate of its own."""

    def __init__(self, folder: Path) -> None:
        self.certificate, key = folder / "cert.pem", folder / "key.pem"
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        new = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
        files = ["-keyout", key, "-out", self.certificate]
        subprocess.run(["openssl", "req", *new, *files], check=True, capture_output=True)
        self.seen: list[str | None] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.seen.append(self.headers.get("Authorization"))
                status, body = outer.answers[self.path]
                if not status:
                    self.wfile.write(body)
                    return
                self.send_response(status)
                self.send_header("Location", "https://localhost/elsewhere")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.answers: dict[str, tuple[int, bytes]] = {}

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """A client that does not trust us hangs up."""

        self._server = Server(("localhost", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"https://localhost:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, b'{"PowerControl": [{"PowerConsumedWatts": 344}]}', 344.0),
        (200, b'{"PowerWatts": {"Reading": 374.5}}', 374.5),
        (200, b'{"Reading": 12, "ReadingUnits": "W"}', 12.0),
        (200, b'{"Reading": 12, "ReadingUnits": "Cel"}', "no watts"),
        (200, b'{"PowerControl": [{"PowerConsumedWatts": null}]}', "no watts"),
        (200, b"[" * 100_000, "localhost/"),
        (200, b" " * (2 << 20), "over 1 MB"),
        (302, b"", "302"),
        (401, b"", "401"),
        (0, b"garbage line\r\n\r\n", "garbage line"),
    ],
)
def test_a_bmc_tells_the_watts_or_why_not_and_the_login_goes_nowhere_else(
    bmc: Bmc, tmp_path: Path, status: int, body: bytes, says: float | str
) -> None:
    bmc.answers["/redfish/v1/Chassis/1/Power"] = (status, body)
    login = tmp_path / "login"
    login.write_text("carbon:s3cret\n")
    source = RedfishPower(f"{bmc.url}/redfish/v1/Chassis/1/Power", login, bmc.certificate)
    bmc.seen.clear()
    if isinstance(says, float):
        assert source.power_w() == says
    else:
        with pytest.raises(OSError, match=says) as refused:
            source.power_w()
        assert "s3cret" not in str(refused.value)
    assert bmc.seen == ["Basic Y2FyYm9uOnMzY3JldA=="]
    assert "s3cret" not in source.name


def test_a_bmc_nobody_vouches_for_and_an_address_without_tls_are_refused(bmc: Bmc) -> None:
    bmc.answers["/x"] = (200, b'{"Reading": 12}')
    bmc.seen.clear()
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        RedfishPower(f"{bmc.url}/x", None, None).power_w()
    assert bmc.seen == []
    for address in ("http://bmc/x", "https://user:password@bmc/x", "file:///etc/passwd"):
        with pytest.raises(OSError, match="must be https") as refused:
            RedfishPower(address, None, None)
        assert "user:password@" not in str(refused.value)


def test_two_sensors_at_one_wall_are_refused_with_the_reason(tmp_path: Path) -> None:
    both = Settings(wall_power_file=tmp_path / "watts", wall_power_command="echo 1")
    (reason,) = (
        part.reason
        for part in sampler_of(tmp_path, both).unmeasured
        if part.component is Component.SYSTEM
    )
    assert "more than one sensor" in reason
