"""What the registry's commands share: a client, the version they are about, MLflow's errors in our terms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from mlflow_carbon.errors import CarbonError, StoreError

_F = TypeVar("_F", bound=Callable[..., Any])


class VersionError(CarbonError):
    """The text does not name one registered model version."""


def store_options(function: _F) -> _F:
    """``--store`` and ``--registry``."""
    registry = click.option("--registry", metavar="URI", help="Model registry; default: the store.")
    store = click.option(
        "--store", metavar="URI", help="Tracking store; default: as MLflow is set."
    )
    return store(registry(function))


def policy_option(function: _F) -> _F:
    """``--policy``."""
    return click.option(
        "--policy",
        help="Pack name or file; default: the gate's own (MLFLOW_CARBON_GATE_POLICY), else promotion-gate.",
    )(function)


def gate_pack(policy: str | None) -> Any:
    """The pack that decides.

    Raises:
        PolicyError: it cannot be used.
    """
    from mlflow_carbon import settings
    from mlflow_carbon.policy.load import load_pack

    return load_pack(policy or settings.gate_policy() or "promotion-gate")


def open_client(store: str | None, registry: str | None) -> Any:
    """An ``MlflowClient``; a store alone is the registry too."""
    from mlflow import MlflowClient

    from mlflow_carbon.evidence.client import hide_progress_bars

    hide_progress_bars()
    return MlflowClient(tracking_uri=store, registry_uri=registry or store)


@contextmanager
def mlflow_errors(doing: str) -> Iterator[None]:
    """MLflow's refusals and failures as one message without a traceback.

    Raises:
        StoreError: with MLflow's own words.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise StoreError(f"{doing}: {error.message}") from None


def find_version(client: Any, uri: str) -> Any:
    """The version that ``models:/name/3`` or ``models:/name@alias`` names.

    Raises:
        VersionError: the text is no such URI.
        StoreError: there is no such version, or the registry does not answer.
    """
    rest = uri.removeprefix("models:/")
    name, _, version = rest.rpartition("/")
    aliased, _, alias = rest.rpartition("@")
    by_number = bool(name) and "/" not in name and version.isdecimal()
    if rest == uri or not (by_number or (aliased and alias and "/" not in rest)):
        raise VersionError(
            f"{uri!r} does not name a registered model version. Write models:/NAME/3 or models:/NAME@alias."
        )
    with mlflow_errors(uri):
        if by_number:
            return client.get_model_version(name, version)
        return client.get_model_version_by_alias(aliased, alias)
