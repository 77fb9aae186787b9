"""The command line as a whole: help, errors, exit codes."""

import importlib
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from mlflow_carbon.cli import main as entry
from mlflow_carbon.errors import StoreError


def test_every_command_listed_in_the_help_exists_and_describes_itself() -> None:
    for name in entry.COMMANDS:
        command = importlib.import_module(f"mlflow_carbon.cli.{name}").command
        assert isinstance(command, click.Command)
        assert command.help, name
        assert CliRunner().invoke(entry.cli, [name, "--help"]).exit_code == 0


def test_help_imports_neither_mlflow_nor_pandas() -> None:
    code = (
        "import sys; from mlflow_carbon.cli.main import cli; cli.main(['--help'], standalone_mode=False);"
        "sys.exit(bool({'mlflow', 'pandas', 'numpy', 'weasyprint'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode
        == 0
    )


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(entry.cli, ["audti"])
    assert result.exit_code == 2
    assert "audti" in result.output


def test_our_errors_become_their_message_and_exit_code_without_a_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @click.command()
    def broken() -> None:
        raise StoreError("http://127.0.0.1:1 does not answer. Start the server.")

    with pytest.raises(SystemExit) as ended:
        entry.run(broken, [])
    assert ended.value.code == 4
    assert capsys.readouterr().err == (
        "mlflow-carbon: http://127.0.0.1:1 does not answer. Start the server.\n"
    )


def test_ctrl_c_ends_with_a_code_of_its_own_and_not_with_that_of_a_failed_rule(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @click.command()
    def stopped() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        entry.run(stopped, [])
    assert ended.value.code == 130
    assert capsys.readouterr().err.strip() == "Aborted!"


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--help"], 0), (["--version"], 0), (["audti"], 2), (["audit"], 2), ([], 2)],
)
def test_help_and_usage_errors_end_as_click_ends_them(words: list[str], code: int) -> None:
    with pytest.raises(SystemExit) as ended:
        entry.run(entry.cli, words)
    assert (ended.value.code or 0) == code


def test_a_fault_of_our_own_is_told_in_full_and_is_no_failed_rule(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @click.command()
    def broken() -> None:
        raise ZeroDivisionError("nobody thought of it")

    with pytest.raises(SystemExit) as ended:
        entry.run(broken, [])
    assert ended.value.code == 4
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "ZeroDivisionError: nobody thought of it" in told
    assert "please report it" in told
