"""Variables that others set and that tell where a process runs: no settings of ours, read like those in one place."""

from __future__ import annotations

import os
from collections.abc import Mapping

LAUNCHER_VARIABLES = (
    "GROUP_RANK",
    "GROUP_WORLD_SIZE",
    "TORCHELASTIC_RUN_ID",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_NODEID",
    "SLURM_STEP_NUM_NODES",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "PMIX_NAMESPACE",
    "PMI_RANK",
    "PMI_SIZE",
    "MPI_LOCALNRANKS",
)


def launcher(environ: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """What torchrun, srun or mpirun tell this process; see ``tracking/ranks.py`` for what it is worth."""
    source = os.environ if environ is None else environ
    return {name: source[name] for name in LAUNCHER_VARIABLES if source.get(name)}


REGION_HINTS = (
    "TZ",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "ECS_CONTAINER_METADATA_URI_V4",
    "SM_TRAINING_ENV",
    "CLOUD_ML_REGION",
    "GOOGLE_CLOUD_REGION",
    "CLOUDSDK_COMPUTE_REGION",
    "REGION_NAME",
)


def region_hints(environ: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """The variables that can say where this machine is; see ``carbon/region.py`` for what they are worth."""
    source = os.environ if environ is None else environ
    return {name: source[name] for name in REGION_HINTS if source.get(name)}
