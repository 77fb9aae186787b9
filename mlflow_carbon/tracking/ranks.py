"""Which of several processes measures a run: exactly one on each host; and which of how many hosts this is."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass

from mlflow_carbon.settings import Settings
from mlflow_carbon.surroundings import launcher

SOURCE_TYPE = "mlflow.source.type"
PARENT_RUN = "mlflow.parentRunId"


def is_launcher(tags: Mapping[str, str]) -> bool:
    """Whether a run with these tags at creation is created for a child process to work on."""
    return tags.get(SOURCE_TYPE) == "PROJECT"


@dataclass(frozen=True, slots=True)
class Place:
    """This process' host among the hosts of a job that works on one run together."""

    node: str
    """Its name, different on every host; fit for a tag's name."""
    nodes: int
    """How many hosts the job has; at least 2."""
    index: int | None = None
    """Its number from 0 where the launcher tells it."""
    job: str = ""
    """The launcher's name of the job: a run that is taken up again by another job has the hosts of both."""

    @property
    def first(self) -> bool:
        """Whether it speaks for all while the run goes on."""
        return self.index in (0, None)


def place(told: Mapping[str, str], *, host: str, node: str = "", nodes: int = 0) -> Place | None:
    """Where we are, from the variables of the launcher; ``None`` for a job on one host.

    ``node`` and ``nodes`` are the user's own settings and win.

    Variables: torch.distributed.elastic (GROUP_RANK, GROUP_WORLD_SIZE), srun (SLURM_NODEID,
    SLURM_STEP_NUM_NODES; those of a whole job are no proof that its other hosts have work),
    Open MPI (OMPI_COMM_WORLD_*), MPICH and Intel MPI (PMI_*, MPI_LOCALNRANKS).
    """
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", node or host)[:100] or "unnamed"
    for find in (_torchrun, _slurm, _open_mpi, _hydra):
        if (found := find(told)) is not None:
            count, index, job = found
            return Place(name, nodes or count, index, job) if (nodes or count) > 1 else None
    return Place(name, nodes) if nodes > 1 else None


def place_of(settings: Settings) -> Place | None:
    """This host among those of the job; ``None`` for a job on one host."""
    told = launcher()
    return place(
        told, host=platform.node(), node=settings.node or "", nodes=int(settings.nodes or 0)
    )


_Found = tuple[int, int | None, str]
"""How many hosts, which of them (if told), and the job's name."""


def _number(told: Mapping[str, str], name: str) -> int | None:
    text = told.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _torchrun(told: Mapping[str, str]) -> _Found | None:
    count = _number(told, "GROUP_WORLD_SIZE")
    if not count:
        return None
    return count, _number(told, "GROUP_RANK"), told.get("TORCHELASTIC_RUN_ID", "")


def _slurm(told: Mapping[str, str]) -> _Found | None:
    count = _number(told, "SLURM_STEP_NUM_NODES")
    if not count:
        return None
    job = f"{told.get('SLURM_JOB_ID', '')}.{told.get('SLURM_STEP_ID', '')}"
    return count, _number(told, "SLURM_NODEID"), job


def _open_mpi(told: Mapping[str, str]) -> _Found | None:
    rank = _number(told, "OMPI_COMM_WORLD_RANK")
    size = _number(told, "OMPI_COMM_WORLD_SIZE")
    here = _number(told, "OMPI_COMM_WORLD_LOCAL_SIZE")
    return _of_ranks(rank, size, here, told.get("PMIX_NAMESPACE", ""))


def _hydra(told: Mapping[str, str]) -> _Found | None:
    rank, size = _number(told, "PMI_RANK"), _number(told, "PMI_SIZE")
    return _of_ranks(rank, size, _number(told, "MPI_LOCALNRANKS"), "")


def _of_ranks(rank: int | None, size: int | None, here: int | None, job: str) -> _Found | None:
    """MPI counts ranks, not hosts: as many hosts as it takes if each has as many ranks as this one."""
    if not size or not here:
        return None
    return -(-size // here), None if rank is None else rank // here, job
