"""``mlflow-carbon demo``: the three jobs on real data, in about a minute, on an embedded SQLite store."""

from __future__ import annotations

import logging
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlflow_carbon import resources, settings
from mlflow_carbon.errors import CarbonError, OutputError
from mlflow_carbon.schema import InputTag, Metric, Tag
from mlflow_carbon.units import J_PER_KWH, show_emissions, show_energy

if TYPE_CHECKING:
    from mlflow.entities import RunData
    from rich.console import Console

MARKER = ".mlflow-carbon-demo"
MODEL = "tumor-screening"
REFUSED = 3  # exit code of the example promote.py
EXAMPLE = resources.examples() / "tumor_screening"
CARD = EXAMPLE / "breast-cancer.dataset.yaml"


class _Demo:
    """One walk through the demo: where it writes, what it prints."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.console = console
        self.store = f"sqlite:///{folder / 'mlflow.db'}"
        self.log = folder / "training.log"

    def say(self, text: str) -> None:
        """One line of plain words; ``text`` may hold rich markup, never data."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def quote(self, text: str) -> None:
        """Data or output of another program, indented and never read as markup."""
        for line in text.rstrip().splitlines():
            self.console.print(
                f"    {line}", markup=False, highlight=False, soft_wrap=True, style="cyan"
            )

    def typed(self, *words: str) -> None:
        """A command as the reader could type it."""
        self.console.print(
            "  $ " + " ".join(words), markup=False, highlight=False, soft_wrap=True, style="bold"
        )

    @contextmanager
    def working(self, text: str) -> Iterator[Callable[[str], None]]:
        """Show that something is going on: a spinner on a terminal, plain lines elsewhere."""
        if self.console.is_terminal:
            with self.console.status(text) as status:
                yield lambda news: status.update(f"{text}: {news}")
        else:
            self.say(f"  {text} ...")
            yield self.quote

    def run(self, *arguments: str) -> int:
        """Run a sub-command of ours in this process, as the command line would.

        Returns its exit code; what it refuses is printed.
        """
        from mlflow_carbon.cli.main import cli

        shown = [word.replace(f"{self.folder}/", f"{self.folder.name}/") for word in arguments]
        self.typed(_program("mlflow-carbon"), shlex.join(shown))
        try:
            result = cli.main(list(arguments), prog_name="mlflow-carbon", standalone_mode=False)
        except CarbonError as error:
            self.quote(str(error))
            return error.exit_code
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else 1
        return result if isinstance(result, int) else 0

    def script(self, name: str, news: Callable[[str], None], **more: str) -> tuple[int, list[str]]:
        """Run an example script in a Python of its own; its lines are passed on as they come."""
        environment = settings.child_environment(
            MLFLOW_TRACKING_URI=self.store,
            MLFLOW_EXPERIMENT_NAME=MODEL,
            MLFLOW_CARBON_SPOOL_DIR=str(self.folder / "spool"),
            MLFLOW_DISABLE_TELEMETRY="true",
            PYTHONWARNINGS="ignore",
            **more,
        )
        lines: list[str] = []
        with (
            self.log.open("a", encoding="utf-8") as log,
            subprocess.Popen(  # noqa: S603  (our own script under this Python)
                [sys.executable, str(EXAMPLE / name)],
                cwd=self.folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            ) as process,
        ):
            for line in process.stdout or ():
                lines.append(line.rstrip())
                news(lines[-1])
        return process.returncode, lines


def _program(name: str) -> str:
    """How to call a program that is installed beside this one: its name if that finds it, else its path."""
    beside = Path(sys.executable).with_name(name)
    if shutil.which(name) == str(beside):
        return name
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)


def _prepare(folder: Path) -> None:
    """Make the demo's folder; an earlier demo's is emptied, anybody else's is left alone."""
    if folder.exists() and not (folder / MARKER).exists() and any(folder.iterdir()):
        raise OutputError(
            f"{folder} exists and was not made by the demo, so it is left alone. "
            "Name another folder with --out."
        )
    try:
        shutil.rmtree(folder, ignore_errors=folder.exists() is False)
        folder.mkdir(parents=True)
        (folder / MARKER).write_text("made by mlflow-carbon demo; emptied by the next one\n")
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror}. Name another folder with --out."
        ) from None


def _open_store(demo: _Demo) -> None:
    import mlflow

    for name in ("mlflow", "alembic"):  # how a new database is made is not what the demo is about
        logging.getLogger(name).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(demo.store)
    mlflow.create_experiment(MODEL, artifact_location=(demo.folder / "artifacts").as_uri())


def _record(demo: _Demo) -> None:
    demo.say(
        "\n[bold]1. Record[/]\n  An ordinary MLflow training script runs; nothing in it knows of mlflow-carbon."
    )
    demo.say(
        "  Data: Breast Cancer Wisconsin (Diagnostic), UCI, CC BY 4.0, shipped inside scikit-learn."
    )
    demo.typed(_program("python"), str(EXAMPLE / "train.py").replace(f"{Path.cwd()}/", ""))
    with demo.working("training") as news:
        code, _ = demo.script("train.py", news)
    if code:
        raise CarbonError(f"the training script failed; its output is in {demo.log}")
    _show_runs(demo)


def _show_runs(demo: _Demo) -> None:
    from mlflow import MlflowClient
    from rich import box
    from rich.table import Table

    client = MlflowClient(demo.store)
    experiment = client.get_experiment_by_name(MODEL)
    runs = list(reversed(client.search_runs([experiment.experiment_id])))
    energy = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("run", "status", "energy", "low to high", "how", "carbon"):
        energy.add_column(column)
    data = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("run", "data used for", "rows", "sha256 of the content"):
        data.add_column(column, justify="right" if column == "rows" else "left")
    for run in runs:
        name = ("  " if "mlflow.parentRunId" in run.data.tags else "") + run.info.run_name
        energy.add_row(name, run.info.status.lower(), *_figures(run.data))
        for used in run.inputs.dataset_inputs:
            tags = {tag.key: tag.value for tag in used.tags}
            data.add_row(
                name,
                tags.get(InputTag.CONTEXT, "-"),
                tags.get(InputTag.ROWS, "not counted"),
                tags.get(InputTag.SHA256, "not hashed")[:16],
            )
            name = ""
    demo.console.print(energy)
    demo.console.print(data)
    demo.say(
        "  Modelled figures say so and come with a range; NVML or RAPL counters are used where they"
    )
    demo.say("  can be read. The first run contains its trials. A failed trial counts as well.")


def _figures(data: RunData) -> list[str]:
    """Energy, its range, method and carbon of a run, as the table shows them."""
    if Metric.ENERGY_KWH not in data.metrics:
        return ["not on record", "", data.tags.get(Tag.METHOD, ""), ""]
    mid, low, high = (
        show_energy(data.metrics[name] * J_PER_KWH)
        for name in (Metric.ENERGY_KWH, Metric.ENERGY_KWH_LOW, Metric.ENERGY_KWH_HIGH)
    )
    carbon = data.metrics.get(Metric.EMISSIONS_KG)
    shown = "not on record" if carbon is None else show_emissions(carbon * 1000)
    return [mid, f"{low} to {high}", data.tags.get(Tag.METHOD, ""), shown]


def _audit(demo: _Demo) -> None:
    demo.say(
        "\n[bold]2. Audit[/]\n  Two policy packs are put to those runs. What is not on record is never a pass."
    )
    code = demo.run(
        *("audit", "--store", demo.store, "--experiment", MODEL),
        *("--policy", "baseline", "--policy", "nist-ai-rmf-core"),
        *("--out", str(demo.folder / "report")),
    )
    if code not in (0, 1):
        raise CarbonError(f"the audit ended with exit code {code}")


def _promote(demo: _Demo) -> bool:
    demo.typed(_program("python"), str(EXAMPLE / "promote.py").replace(f"{Path.cwd()}/", ""))
    with demo.working("registering the best model and setting the alias champion"):
        code, lines = demo.script(
            "promote.py", lambda _: None, MLFLOW_CARBON_GATE_POLICY="promotion-gate"
        )
    demo.quote("\n".join(lines))
    if code not in (0, REFUSED):
        raise CarbonError(f"promote.py failed; its output is in {demo.log}")
    return code == 0


def _supply(demo: _Demo) -> str:
    """Put on record what the gate asked for; returns the model version."""
    from mlflow import MlflowClient

    client = MlflowClient(demo.store)
    version = str(client.get_registered_model(MODEL).latest_versions[0].version)
    demo.say("  The owner of the model supplies what is missing:")
    demo.say(
        "  - owner, purpose and risk tier, as tags of the registered model (in the MLflow UI, or so)"
    )
    for key, value in (
        ("owner", "screening-team@example.org"),
        ("purpose", "Second reading of fine-needle aspirates, decision stays with the physician"),
        ("risk_tier", "high"),
    ):
        client.set_registered_model_tag(MODEL, key, value)
        demo.quote(f"{key}: {value}")
    target = f"models:/{MODEL}/{version}"
    demo.say("  - a dataset card (license, origin, who says so)")
    card = str(shutil.copy(CARD, demo.folder))
    _must(demo, "attest", "dataset", card, "--all-inputs", "--model", target, "--store", demo.store)
    demo.say("  - the statement of a named person that the intended use was reviewed")
    _must(
        demo,
        *("attest", "statement", "intended-use-reviewed", "--model", target, "--store", demo.store),
        *("--by", "Dr. A. Reviewer", "--role", "clinical safety officer"),
        *("--reason", "Reviewed against the purpose above"),
        *("--expires", f"{datetime.now(timezone.utc) + timedelta(days=180):%Y-%m-%d}"),
    )
    return version


def _must(demo: _Demo, *arguments: str) -> None:
    if code := demo.run(*arguments):
        raise CarbonError(f"mlflow-carbon {arguments[0]} ended with exit code {code}")


def _gate(demo: _Demo) -> None:
    demo.say(
        "\n[bold]3. Gate[/]\n  The best model is registered; the alias champion is protected by a policy."
    )
    if _promote(demo):
        raise CarbonError("the gate let the model through without its evidence; please report this")
    version = _supply(demo)
    demo.say("  The same promotion again:")
    if not _promote(demo):
        demo.run("gate", "check", f"models:/{MODEL}/{version}", "--store", demo.store)
        raise CarbonError("the gate refused the model although the evidence was supplied")


def _close(demo: _Demo) -> None:
    shown = (
        demo.folder.relative_to(Path.cwd())
        if demo.folder.is_relative_to(Path.cwd())
        else demo.folder
    )
    demo.say("\n[bold]Written[/]")
    for path in sorted((demo.folder / "report").iterdir()):
        demo.say(f"  {shown / 'report' / path.name}")
    demo.say(f"  {shown / 'mlflow.db'}  (the MLflow store)")
    demo.say("\n[bold]Try next[/]")
    for line in (
        f"{_program('mlflow')} ui --backend-store-uri sqlite:///{shown / 'mlflow.db'}",
        f"{_program('mlflow-carbon')} doctor",
        f"{_program('mlflow-carbon')} gate check models:/{MODEL}/1 --store sqlite:///{shown / 'mlflow.db'}",
    ):
        demo.typed(line)


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("mlflow-carbon-demo"),
    show_default=True,
    help="Folder for all the demo writes; emptied if an earlier demo made it.",
)
def command(out: Path) -> None:
    """Show recording, auditing and the gate on real data, in about a minute.

    Needs no server and no network. Everything is written below --out.
    """
    from rich.console import Console

    demo = _Demo(out.resolve(), Console())
    _prepare(demo.folder)
    _open_store(demo)
    for step in (_record, _audit, _gate, _close):
        step(demo)
