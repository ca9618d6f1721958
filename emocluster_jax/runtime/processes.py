"""Which processes make up a run, according to the options and to the platform that started this process.

`parallel.start_processes` joins them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from emocluster_jax.errors import InputError
from emocluster_jax.ranges import Range, within
from emocluster_jax.settings import Checked

# What JAX needs in order to ask Slurm. A batch script and a shell opened by salloc, which are not tasks of the job,
# have only some of them.
_SLURM_TASK = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")


@dataclass(frozen=True)
class Processes(Checked):
    """The processes of a run. Leave all of it out under Slurm, Open MPI, Kubernetes and on TPU slices."""

    coordinator: str | None = None
    """host:port of process 0, where several processes are started by hand."""
    num_processes: int | None = field(default=None, metadata=within(Range(int, 1, 1_000_000)))
    """Processes in the run; 1 for this one alone, whatever started it."""
    process_id: int | None = field(default=None, metadata=within(Range(int, 0, 999_999)))
    """This process's number, from 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        address, count, number = self.coordinator, self.num_processes, self.process_id
        if number is not None and count is None:
            raise InputError("`process_id` is given without `num_processes`; give both, and `coordinator`")
        if number is not None and count is not None and number >= count:
            raise InputError(f"`process_id` is {number}; expected 0 to {count - 1}, as `num_processes` is {count}")
        if address is None and count is not None and count > 1:
            raise InputError("`num_processes` is given without `coordinator`; add host:port of process 0")
        if address is not None:
            host, _, port = address.rpartition(":")
            if not host or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 2**16:
                raise InputError(f"`coordinator` is {address}; expected host:port, such as 10.0.0.1:1234")
            if number is None and count is not None and count > 1:
                raise InputError("`num_processes` is given without `process_id`; add this process's number, from 0")


@dataclass(frozen=True)
class Start:
    """How a process joins the others of its run: what `jax.distributed.initialize` is given, None where JAX finds out.

    By default, JAX takes all GPUs or, if Slurm or MPI start several processes on a host, the one with the process's
    number there.
    """

    told_by: str  # what says that there are others, for messages
    coordinator: str | None = None  # host:port of process 0
    num_processes: int | None = None
    process_id: int | None = None
    detection: Literal["ompi", "mpi4py", "slurm", "deactivate"] | None = None  # how JAX finds out
    gpus: list[int] | None = None  # those to use, by their numbers among the visible ones
    certain: bool = True  # whether there are others; otherwise JAX may find none


def decide_start(processes: Processes, environment: Mapping[str, str], tpu_library: bool) -> Start | None:
    """How a process with these environment variables joins others; None if it runs alone.

    `tpu_library` is whether libtpu is installed, without which JAX uses no TPU.

    Raises:
      InputError: a coordinator is given, but neither options nor platform tell the number of processes.
    """
    address, count = processes.coordinator, processes.num_processes
    if count == 1:
        return None
    if count is not None:
        # "deactivate" keeps JAX from asking the platform for the GPUs: each process uses all that it sees.
        return Start("`num_processes`", address, count, processes.process_id, detection="deactivate")
    start = _told_by_platform(environment, tpu_library)
    if address is None:
        return start
    if start is None:
        raise InputError("`coordinator` is given without `num_processes` and `process_id`; give all three")
    return dataclasses.replace(start, coordinator=address)


def _told_by_platform(environment: Mapping[str, str], tpu_library: bool) -> Start | None:
    # The innermost launcher comes first.
    if "OMPI_COMM_WORLD_SIZE" in environment:
        if _number(environment, "OMPI_COMM_WORLD_SIZE") == 1:
            return None
        # Open MPI names process 0's address up to version 4; later ones are asked through MPI itself.
        detection = "ompi" if "OMPI_MCA_orte_hnp_uri" in environment else "mpi4py"
        only_one_here = _number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE") == 1
        return Start("Open MPI", detection=detection, gpus=_gpus(environment, only_one_here))
    tasks = _number(environment, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    if tasks > 1 and all(name in environment for name in _SLURM_TASK):
        only_one_here = _number(environment, "SLURM_STEP_NUM_NODES", "SLURM_NNODES") == tasks
        return Start("Slurm", detection="slurm", gpus=_gpus(environment, only_one_here))
    if tpu_library and "tpu" in (environment.get("JAX_PLATFORMS") or "tpu"):
        hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
        if "," in (hosts or "") or _number(environment, "MEGASCALE_NUM_SLICES") > 1:
            return Start("the TPU slice")
        # JAX asks a TPU VM's metadata for its hosts, unless the TPU was restricted to one process.
        alone = hosts or environment.get("TPU_PROCESS_BOUNDS") == "1,1,1"
        return None if alone else Start("the TPU VM", certain=False)
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        return Start("Kubernetes")
    return None


def _number(environment: Mapping[str, str], *names: str) -> int:
    """The first of these variables that is set, or 1."""
    return int(next((environment[name] for name in names if environment.get(name)), "1"))


def _gpus(environment: Mapping[str, str], only_one_here: bool) -> list[int] | None:
    """All visible GPUs, if the process is the only one on its host, where JAX would take only the first, or if the
    launcher has picked one GPU for it, where JAX would take the one with the process's number, which is not visible."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if not visible or "JAX_LOCAL_DEVICE_IDS" in environment:
        return None
    count = len(visible.split(","))
    return list(range(count)) if only_one_here or count == 1 else None
