"""Data parallelism over devices and hosts; the only file that says pmap.

Arrays of examples are split over all devices of all processes along one mapped axis, `AXIS`; each process holds the
shares of its own devices, with the device as leading axis. `jax.pmap` compiles one program for all of them, in which
`jax.lax` collectives over `AXIS` compute over the global batch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from threading import Thread
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from emocluster_jax.errors import InputError
from emocluster_jax.runtime.processes import Processes, Start, decide_start

AXIS = "devices"
_LONGEST_START_S = 300.0
# Time for process 0 to write the report, while the others wait to end with it.
_LONGEST_END_S = 3_600

_met = False
_started_before_fork = False
_forked_from_jax = False


def start_processes(processes: Processes, longest_s: float = _LONGEST_START_S) -> None:
    """Joins this process to the others of its run, if there are any; call it before anything else uses JAX.

    The platform decides what the options `processes` leave open. `longest_s` is how long to wait for the others.

    Raises:
      InputError: the options contradict each other, or the processes do not come together.
    """
    start = decide_start(processes, os.environ, importlib.util.find_spec("libtpu") is not None)
    if start is None:
        return
    # JAX would catch SIGTERM for a service that is not used here, and the process would live on.
    jax.config.update("jax_enable_preemption_service", False)
    global _met
    joined: Future[None] = Future()
    # JAX aborts the whole process when the others do not come, so it is given more time than is waited here.
    Thread(target=_join, args=(start, round(2 * longest_s) + 60, joined), daemon=True).start()
    try:
        joined.result(longest_s)
        _met = True
    except TimeoutError:
        raise InputError(_not_joined(start, longest_s)) from None
    except Exception as error:
        # On a TPU VM outside a slice, JAX finds no other processes, or no coordinator.
        if start.certain or not isinstance(error, ValueError | OSError):
            raise InputError(
                f"{start.told_by} says that there are other processes, but this one cannot join them ({error}); give "
                "`coordinator` (with a free port), `num_processes` and `process_id`, or `num_processes=1` to run alone"
            ) from error


def _join(start: Start, timeout_s: int, joined: Future[None]) -> None:
    try:
        jax.distributed.initialize(
            start.coordinator,
            start.num_processes,
            start.process_id,
            local_device_ids=start.gpus,
            cluster_detection_method=start.detection,
            initialization_timeout=timeout_s,
            shutdown_timeout_seconds=_LONGEST_END_S,
        )
        joined.set_result(None)
    except Exception as error:
        joined.set_exception(error)


def _not_joined(start: Start, waited_s: float) -> str:
    if start.num_processes is None:
        return (
            f"the processes that {start.told_by} started have not found each other within {waited_s:g} s; let them "
            "reach process 0's host, name it by `coordinator`, or give `num_processes=1` to run this one alone"
        )
    if start.process_id == 0:
        return (
            f"not all {start.num_processes} processes have come to {start.coordinator} within {waited_s:g} s; start "
            "the others with this `coordinator`, on hosts that reach it"
        )
    return (
        f"process 0 was not reached at {start.coordinator} within {waited_s:g} s, or not all {start.num_processes} "
        "processes have come there; start process 0 on that host, and let its port through"
    )


def have_met() -> bool:
    """Whether this process has joined others, which have to be told when it ends."""
    return _met


def is_primary() -> bool:
    """Whether this process writes the run's files and speaks to the user."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Returns when all processes of the run have come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def smallest(value: float) -> float:
    """The smallest of the processes' values, in float32, on every process."""
    return float(multihost_utils.process_allgather(np.float32(value)).min()) if jax.process_count() > 1 else value


def anywhere(holds: bool) -> bool:
    """Whether it holds on any process of the run; all must call this."""
    return smallest(0.0 if holds else 1.0) == 0.0


def same_everywhere(text: str) -> bool:
    """Whether all processes of the run call this with the same text."""
    if jax.process_count() == 1:
        return True
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    return bool((multihost_utils.process_allgather(digest) == digest).all())


@contextmanager
def all_or_none() -> Iterator[None]:
    """If the block fails on one process it fails on all of them, so that none waits for one that has gone; on the
    others, with an InputError. All processes must enter the block, and none may wait for another in it."""
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    if jax.process_count() > 1:
        failed = np.flatnonzero(multihost_utils.process_allgather(np.bool_(failure is not None)))
        if len(failed):
            failure = failure or InputError(f"process {failed[0]} cannot go on; its own message says why")
    if failure is not None:
        raise failure


@dataclass(frozen=True)
class Program:
    """What `parallel` gives: called with arrays, or compiled for them ahead, by `program.lower(...).compile()`.

    Attributes:
      mapped: by `jax.pmap`; its last argument is a tuple of the replicated one.
    """

    mapped: Any

    def __call__(self, donated: Any, sharded: Any, replicated: Any) -> Any:
        return self.mapped(donated, sharded, (replicated,))

    def lower(self, donated: Any, sharded: Any, replicated: Any) -> jax.stages.Lowered:
        return self.mapped.lower(donated, sharded, (replicated,))


def parallel(function: Callable[[Any, Any, Any], Any]) -> Program:
    """`function(donated, sharded, replicated)` compiled to run on every device at once; it may use collectives.

    Each argument is a tree of arrays, `()` for none. Those of `donated` and `sharded` have a leading device axis, and
    `function` gets one device's part of them; those of `replicated` go to every device as they are. The results may
    reuse the memory of `donated`, which must not be used afterwards.
    """

    @wraps(function)  # programs keep its name
    def run(donated: Any, sharded: Any, replicated: tuple[Any]) -> Any:
        return function(donated, sharded, *replicated)

    # With in_axes=(0, 0, None), JAX 0.10.2 takes any three arrays for one of each argument: the third of three sharded
    # ones would be a replicated one. It does not where the axes are nested.
    return Program(jax.pmap(run, axis_name=AXIS, in_axes=(0, 0, (None,)), donate_argnums=0))


def check_not_forked() -> None:
    """Raises InputError in a process that was forked from one in which JAX had started.

    JAX would hang in it: its threads are missing, and their locks stay locked.
    """
    if _forked_from_jax:
        raise InputError(
            "this process was forked from one in which JAX had started, and JAX would hang in it; use threads, or "
            "processes that are spawned"
        )


def _before_fork() -> None:
    # In the child, JAX's lock may be held by a thread that does not exist there.
    global _started_before_fork
    try:
        # The public ways of asking whether JAX has started would start it.
        from jax._src.xla_bridge import backends_are_initialized

        _started_before_fork = backends_are_initialized()
    except ImportError:
        pass  # another version of JAX: the child is not refused, and may hang as it would without this check


def _after_fork_in_child() -> None:
    global _forked_from_jax
    _forked_from_jax = _started_before_fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)


def replicate(tree: Any) -> Any:
    """Every array of `tree` on every local device, with a leading device axis."""
    return _replicate(np.zeros(jax.local_device_count(), np.int8), tree)


def zeros(shape: Sequence[int]) -> Float[Array, "devices ..."]:
    """An array of float32 zeros of this shape on every local device."""
    shape = jax.local_device_count(), *shape
    if jax.default_backend() == "cpu":
        return deal(np.zeros(shape, np.float32))  # no program for every shape
    return jnp.zeros(shape, device=_local_sharding())  # nothing to send


def first_replica(tree: Any) -> Any:
    """A replicated `tree` as NumPy arrays, without its device axis."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_shards[0].data)[0], tree)


def padded_length(length: int) -> int:
    """`length` rounded up to a multiple of the number of devices."""
    devices = jax.device_count()
    return -(-length // devices) * devices


def local_rows(length: int) -> range:
    """The rows of a padded array of `length` real rows that this process's devices hold; some may be padding."""
    share = padded_length(length) // jax.device_count() * jax.local_device_count()
    return range(jax.process_index() * share, (jax.process_index() + 1) * share)


def own_shares(batches: np.ndarray) -> np.ndarray:
    """Equal shares of batches, the last axis, for this process's devices: (..., local devices, share)."""
    own = local_rows(batches.shape[-1])
    return batches[..., own.start : own.stop].reshape(*batches.shape[:-1], jax.local_device_count(), -1)


def shard(rows: np.ndarray, length: int) -> Array:
    """Distributes this process's rows over its devices, (local devices, rows per device, ...), padded with zeros.

    `rows` are the real ones among `local_rows(length)`, in order; `length` is their number over all processes.
    """
    devices, held = jax.local_device_count(), len(local_rows(length))
    if held > len(rows):
        rows = np.concatenate([rows, np.zeros((held - len(rows), *rows.shape[1:]), rows.dtype)])
    return deal(rows.reshape(devices, held // devices, *rows.shape[1:]))


def deal(rows: np.ndarray) -> Array:
    """Puts each of `rows`, (local devices, ...), on its device."""
    return jax.device_put(rows, _local_sharding())


def collect(rows: Array, length: int) -> np.ndarray:
    """The rows (local devices, rows per device, ...) of all processes on every host, without the padding."""
    if jax.process_count() == 1:
        return np.asarray(rows).reshape(-1, *rows.shape[2:])[:length]  # no program for every number of rows
    return first_replica(_gather(rows))[:length]


def gather_rows(rows: Array, indices: Int[Array, " batch"]) -> Array:
    """This device's equal share of a batch drawn from rows spread over all devices, inside a mapped function.

    Each device fills in the rows of the batch that it holds, with zeros elsewhere; a reduce-scatter adds them up
    (exactly: all but one term are zero) and distributes the sums.

    `rows` are this device's (share, ...), `indices` the batch's global row numbers, the same on every device and as
    many as a multiple of the devices. The result is (batch / devices, ...), in the order of `indices`.
    """
    if lax.axis_size(AXIS) == 1:
        return rows[indices]
    local = indices - lax.axis_index(AXIS) * rows.shape[0]
    held = (local >= 0) & (local < rows.shape[0])
    mine = rows[local.clip(0, rows.shape[0] - 1)]
    mine = mine * held.reshape(-1, *[1] * (rows.ndim - 1)).astype(rows.dtype)
    return lax.psum_scatter(mine, AXIS, scatter_dimension=0, tiled=True)


def _local_sharding() -> NamedSharding:
    return NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), PartitionSpec(AXIS))


# At module level, so that each shape is compiled once and not once per call.
_replicate = jax.pmap(lambda _, x: x, axis_name=AXIS, in_axes=(0, None))
_gather = jax.pmap(lambda mine: lax.all_gather(mine, AXIS, tiled=True), axis_name=AXIS)
