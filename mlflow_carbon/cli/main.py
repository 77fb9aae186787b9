"""The ``mlflow-carbon`` command: finds the sub-command's module, and turns errors into exit codes.

A sub-command is one module of this package with a click command called ``command``.
It is imported only when it is called, so that ``--help`` stays fast.
"""

from __future__ import annotations

import importlib
import sys
import traceback

import click

from mlflow_carbon import __version__
from mlflow_carbon.errors import CarbonError

COMMANDS = {
    "demo": "Show recording, auditing and the gate on real data, in about a minute.",
    "doctor": "Say what can be measured here, what not, and why.",
    "audit": "Check runs, datasets and models against policies and write the report.",
    "report": "Write the report of an audit again: other formats, language or look.",
    "policy": "Write, check, test, explain and compare policies.",
    "gate": "Ask whether a model version may be promoted.",
    "attest": "Put a named person's statement or a dataset card on record.",
    "export": "Write a model version's evidence as bill of materials, card or form.",
    "dataset": "Check dataset cards: what they say about provenance, and what not.",
    "factors": "Show emission factors and their sources; check and bring in your own.",
    "measure": "Run a program and record its energy on an MLflow run.",
    "verify": "Say whether runs are as they were when they ended, and reports as they were signed.",
    "witness": "Keep what runs looked like soon after they ended, outside of MLflow.",
    "keys": "Make, list, replace and withdraw signing keys.",
    "recover": "Deliver the energy of runs whose process was killed.",
}


_INTERRUPTED = "Query interrupted"
"""What DuckDB makes of Ctrl-C while it works."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"mlflow_carbon.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mlflow-carbon")
def cli() -> None:
    """Energy, carbon and data provenance of MLflow runs; audits; a promotion gate.

    Exit codes: 0 all pass, 1 a rule failed, 2 usage or policy error,
    3 evidence incomplete under --strict, 4 could not audit, 130 stopped by Ctrl-C.
    """


def run(command: click.Command, arguments: list[str] | None = None) -> None:
    """Run a command; every error we raise on purpose becomes its message and its exit code, others a traceback."""
    try:
        # click by itself would end with 1 after Ctrl-C: the code of a failed rule.
        code = command.main(arguments, prog_name="mlflow-carbon", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = _stopped()
    except CarbonError as error:
        click.echo(f"mlflow-carbon: {error}", err=True)
        code = error.exit_code
    except Exception as error:  # noqa: BLE001 (told in full)
        code = _stopped() if str(error) == _INTERRUPTED else _at_fault()
    sys.exit(code)


def _stopped() -> int:
    click.echo("Aborted!", err=True)
    return 130


def _at_fault() -> int:
    traceback.print_exc()
    click.echo("This is a fault of mlflow-carbon: please report it with the lines above.", err=True)
    return 4


def main() -> None:
    """The ``mlflow-carbon`` script."""
    run(cli)
