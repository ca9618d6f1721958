"""What the options and the platform's environment variables say about other processes."""

from __future__ import annotations

import pytest

from emocluster_jax.errors import InputError
from emocluster_jax.runtime.processes import Processes, Start, decide_start

ADDRESS = "10.0.0.1:1234"


def slurm(tasks: int, nodes: int = 1, **others: str) -> dict[str, str]:
    """What srun gives each task of a step."""
    variables = {"JOB_ID": "77", "STEP_NODELIST": "node[1-2]", "NTASKS": str(tasks), "PROCID": "0", "LOCALID": "0"}
    step = {"STEP_NUM_TASKS": str(tasks), "STEP_NUM_NODES": str(nodes)}
    return {f"SLURM_{name}": value for name, value in (variables | step).items()} | others


def open_mpi(size: int, local_size: int, version: int = 4, **others: str) -> dict[str, str]:
    """What mpirun gives each process."""
    variables = {"OMPI_COMM_WORLD_SIZE": str(size), "OMPI_COMM_WORLD_LOCAL_SIZE": str(local_size)}
    return variables | ({"OMPI_MCA_orte_hnp_uri": "4096.0;tcp://10.0.0.1:9"} if version < 5 else {}) | others


SALLOC_SHELL = {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "4", "SLURM_NNODES": "2"}
INTERACTIVE_STEP = slurm(4) | {"SLURM_STEP_NUM_TASKS": "1"}
KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        slurm(1),
        SALLOC_SHELL,
        INTERACTIVE_STEP,
        open_mpi(1, 1),
        # Started by mpirun as the only process, inside an allocation of several tasks.
        slurm(4) | open_mpi(1, 1),
        KUBERNETES,
        {"CUDA_VISIBLE_DEVICES": "0,1"},
        {"TPU_WORKER_HOSTNAMES": "host-0,host-1"},
    ],
)
def test_alone(environment: dict[str, str]) -> None:
    assert decide_start(Processes(), environment, tpu_library=False) is None
    assert decide_start(Processes(num_processes=1), environment, tpu_library=False) is None


@pytest.mark.parametrize(
    ("environment", "told_by", "detection"),
    [
        (slurm(2), "Slurm", "slurm"),
        (open_mpi(4, 2), "Open MPI", "ompi"),
        (open_mpi(4, 2, version=5), "Open MPI", "mpi4py"),
        # mpirun inside a Slurm job: Slurm's numbers are those of Open MPI's daemons.
        (slurm(2) | open_mpi(4, 2, version=5), "Open MPI", "mpi4py"),
        (KUBERNETES | {"JOB_COMPLETION_INDEX": "0"}, "Kubernetes", None),
    ],
)
def test_told_by_the_platform(environment: dict[str, str], told_by: str, detection: str | None) -> None:
    found = decide_start(Processes(), environment, tpu_library=False)
    assert found is not None and (found.told_by, found.detection, found.certain) == (told_by, detection, True)
    assert (found.coordinator, found.num_processes, found.process_id) == (None, None, None)
    named = decide_start(Processes(coordinator=ADDRESS), environment, tpu_library=False)
    assert named is not None and (named.coordinator, named.detection) == (ADDRESS, detection)
    assert decide_start(Processes(num_processes=1), environment, tpu_library=False) is None


@pytest.mark.parametrize(
    ("environment", "certain"),
    [
        ({"TPU_WORKER_HOSTNAMES": "host-0,host-1"}, True),
        ({"TPU_PROCESS_ADDRESSES": "10.0.0.1:8476,10.0.0.2:8476", "TPU_WORKER_HOSTNAMES": "host-0"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost", "MEGASCALE_NUM_SLICES": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        ({"TPU_WORKER_HOSTNAMES": "localhost", "JOB_COMPLETION_INDEX": "0", **KUBERNETES}, None),
        # A TPU VM: its metadata know whether it is one of several.
        ({}, False),
        ({"JAX_PLATFORMS": "tpu,cpu"}, False),
        ({"JAX_PLATFORMS": "cpu"}, None),
        ({"TPU_PROCESS_BOUNDS": "1,1,1"}, None),
    ],
)
def test_tpu(environment: dict[str, str], certain: bool | None) -> None:
    found = decide_start(Processes(), environment, tpu_library=True)
    assert (None if found is None else found.certain) == certain


def test_by_hand_the_platform_is_not_asked() -> None:
    by_hand = Processes(ADDRESS, 2, 1)
    for environment in ({}, slurm(4, CUDA_VISIBLE_DEVICES="0,1,2,3")):
        assert decide_start(by_hand, environment, tpu_library=False) == Start(
            "`num_processes`", ADDRESS, 2, 1, detection="deactivate"
        )


@pytest.mark.parametrize(
    ("environment", "visible", "gpus"),
    [
        (slurm(8, nodes=2), "0,1,2,3", None),  # each takes the GPU of its number on the host
        (slurm(2, nodes=2), "0,1,2,3", [0, 1, 2, 3]),  # one process a host, for all of its GPUs
        (slurm(8, nodes=2), "3", [0]),  # --gpus-per-task=1: a task sees but its own
        (slurm(2, nodes=2), "", None),
        (open_mpi(2, 1), "0,1", [0, 1]),
        (open_mpi(2, 2), "0,1", None),
    ],
)
def test_gpus(environment: dict[str, str], visible: str, gpus: list[int] | None) -> None:
    environment = environment | {"CUDA_VISIBLE_DEVICES": visible}
    found = decide_start(Processes(), environment, tpu_library=False)
    assert found is not None and found.gpus == gpus
    by_variable = decide_start(Processes(), environment | {"JAX_LOCAL_DEVICE_IDS": "1"}, tpu_library=False)
    assert by_variable is not None and by_variable.gpus is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_processes": 0}, "`num_processes` is 0; expected 1 to 1000000"),
        ({"num_processes": 2}, "`num_processes` is given without `coordinator`"),
        ({"process_id": 1}, "`process_id` is given without `num_processes`"),
        ({"num_processes": 2, "process_id": 0}, "`num_processes` is given without `coordinator`"),
        ({"coordinator": ADDRESS, "process_id": 1}, "`process_id` is given without `num_processes`"),
        ({"coordinator": ADDRESS, "num_processes": 2}, "`num_processes` is given without `process_id`"),
        ({"coordinator": ADDRESS, "num_processes": 2, "process_id": 2}, "`process_id` is 2; expected 0 to 1"),
        ({"coordinator": ADDRESS, "num_processes": 2, "process_id": -1}, "`process_id` is -1; expected 0 to 999999"),
        ({"coordinator": "10.0.0.1"}, "`coordinator` is 10.0.0.1; expected host:port"),
        ({"coordinator": ":1234"}, "`coordinator` is :1234; expected host:port"),
        ({"coordinator": "host:70000"}, "`coordinator` is host:70000; expected host:port"),
        ({"coordinator": ADDRESS}, "`coordinator` is given without `num_processes` and `process_id`; give all three"),
    ],
)
def test_options_that_contradict_each_other(options: dict, message: str) -> None:
    with pytest.raises(InputError) as refused:
        decide_start(Processes(**options), {}, tpu_library=False)
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)
