"""Data parallelism over devices and hosts; the only file that says pmap.

Arrays of examples are split over all devices of all processes along one mapped axis, `AXIS`; each process holds the
shares of its own devices, with the device as leading axis. `jax.pmap` compiles one program for all of them; whatever
concerns the global batch goes through `jax.lax` collectives over `AXIS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

AXIS = "devices"


def start_processes(coordinator: str | None, processes: int | None, process_id: int | None) -> None:
    """Joins this process to the others of the run; must come before anything else touches JAX.

    Args:
      coordinator: "host:port" of process 0, or None for a run of one process.
      processes: number of processes in the run.
      process_id: this process's number, from 0.
    """
    if coordinator is not None:
        jax.distributed.initialize(coordinator, processes, process_id)


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


def parallel(
    function: Callable[..., Any],
    *,
    replicated_arguments: Sequence[int] = (),
    arguments: int,
    donated_arguments: Sequence[int] = (),
) -> Callable[..., Any]:
    """`function` compiled to run on every device at once, each with its own share of the arguments.

    Args:
      function: takes one device's arrays; may use collectives over `AXIS`.
      replicated_arguments: positions of arguments that have no leading device axis and go to every device as they are.
      arguments: how many arguments `function` takes.
      donated_arguments: positions of arguments whose memory the results may take over.
    """
    return jax.pmap(
        function,
        axis_name=AXIS,
        in_axes=tuple(None if i in replicated_arguments else 0 for i in range(arguments)),
        donate_argnums=tuple(donated_arguments),
    )


def replicate(tree: Any) -> Any:
    """Every array of `tree` on every local device, with a leading device axis."""
    return _replicate(np.zeros(jax.local_device_count(), np.int8), tree)


def zeros(shape: Sequence[int]) -> Float[Array, "devices ..."]:
    """An array of float32 zeros of this shape on every local device."""
    return jnp.zeros((jax.local_device_count(), *shape), device=_local_sharding())


def first_replica(tree: Any) -> Any:
    """The host's copy of what is the same on every device: `tree` without its device axis, as NumPy arrays."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_shards[0].data)[0], tree)


def padded_length(length: int) -> int:
    """`length` rounded up to a multiple of the number of devices: the rows that equal shares need."""
    devices = jax.device_count()
    return -(-length // devices) * devices


def local_rows(length: int) -> range:
    """The rows of a padded array of `length` real rows that this process's devices hold; some may be padding."""
    share = padded_length(length) // jax.device_count()
    first = jax.process_index() * jax.local_device_count() * share
    return range(first, first + jax.local_device_count() * share)


def shard(rows: np.ndarray, length: int) -> Array:
    """Deals this process's rows out over its devices, padded with zeros to equal shares.

    Args:
      rows: the real rows among `local_rows(length)`, in order.
      length: number of real rows over all processes.

    Returns:
      An array (local devices, rows a device, ...).
    """
    devices = jax.local_devices()
    share = padded_length(length) // jax.device_count()
    missing = len(devices) * share - len(rows)
    if missing:
        rows = np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)])
    return deal(rows.reshape(len(devices), share, *rows.shape[1:]))


def deal(rows: np.ndarray) -> Array:
    """Puts each of `rows`, (local devices, ...), on its device."""
    return jax.device_put(rows, _local_sharding())


def collect(rows: Array, length: int) -> np.ndarray:
    """All processes' rows of a sharded array on every host, without the padding.

    Args:
      rows: (local devices, rows a device, ...).
      length: number of real rows over all processes.
    """
    return first_replica(_gather(rows))[:length]


def gather_rows(rows: Array, indices: Int[Array, " batch"]) -> Array:
    """This device's equal share of a batch that is drawn from rows spread over all devices.

    To be called inside a mapped function. Each device lays out the rows of the batch that it holds, zeros elsewhere;
    a reduce-scatter adds them up (exactly: all but one term are zero) and deals the sums out.

    Args:
      rows: this device's rows (share, ...).
      indices: global row numbers of the whole batch, the same on every device; a multiple of the number of devices.

    Returns:
      (batch / devices, ...), in the order of `indices`.
    """
    if lax.axis_size(AXIS) == 1:
        return rows[indices]
    local = indices - lax.axis_index(AXIS) * rows.shape[0]
    held = (local >= 0) & (local < rows.shape[0])
    mine = rows[local.clip(0, rows.shape[0] - 1)]
    mine = mine * held.reshape(-1, *[1] * (rows.ndim - 1)).astype(rows.dtype)
    return lax.psum_scatter(mine, AXIS, scatter_dimension=0, tiled=True)


def own_share(batch: Array) -> Array:
    """This device's equal share of an array that is the same on every device, inside a mapped function."""
    share = batch.shape[0] // lax.axis_size(AXIS)
    return lax.dynamic_slice_in_dim(batch, lax.axis_index(AXIS) * share, share)


def _local_sharding() -> NamedSharding:
    return NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), PartitionSpec(AXIS))


# At module level, so that each shape is compiled once and not once a call.
_replicate = jax.pmap(lambda _, x: x, axis_name=AXIS, in_axes=(0, None))
_gather = jax.pmap(lambda mine: lax.all_gather(mine, AXIS, tiled=True), axis_name=AXIS)
