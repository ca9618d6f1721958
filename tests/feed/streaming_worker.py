"""Compares streamed with resident chunks on every device of every process; see test_streamed.py.

python streaming_worker.py DATA_DIR COORDINATOR PROCESSES PROCESS_ID
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from emocluster_jax.console import Console
from emocluster_jax.feed.from_records import load_split
from emocluster_jax.feed.split import Spans, block_of, block_starts, drawn
from emocluster_jax.records.reader import open_data
from emocluster_jax.runtime import parallel
from emocluster_jax.runtime.processes import Processes
from emocluster_jax.training.augmentation import pairs

BLOCK = 2


def rows_on_devices(spans: Spans, steps: int, program) -> list[list[np.ndarray]]:
    """What `program` makes of the inputs, by step, input and local device."""
    return [
        [np.asarray(shard.data) for shard in rows.addressable_shards]
        for step in range(steps)
        for given, _, _ in spans(step, step + 1)
        for _, rows in sorted(program((), given, step).items())
    ]


def compare(data_dir: Path, recordings: int) -> None:
    """Blocks and drawn batches of the first recordings, which the devices must not be able to share equally."""
    resident, streamed = (
        load_split(open_data(data_dir), "train", Console(quiet=True), np.arange(recordings), feed, (("text", 3),))
        for feed in ("resident", "streamed")
    )
    np.testing.assert_array_equal(resident.labels.values, streamed.labels.values)
    for split in (resident, streamed):  # of 1 s: 63 frames, with 4 chunks of 16
        np.testing.assert_array_equal(split.chunk_steps, np.full(recordings, 15))
    count, each = resident.utterances_per_device, resident.chunks_per_utterance
    assert count * jax.device_count() > resident.utterances
    size = min(BLOCK, count)
    rng = np.random.default_rng(0)
    chunks = rng.integers(resident.chunk_count, size=(5, 12)).astype(np.int32)
    drawn_recordings = rng.integers(resident.utterances, size=(5, 12))
    recordings = (drawn_recordings[..., None] * each + np.arange(each)).reshape(5, -1).astype(np.int32)
    block = parallel.parallel(lambda _, given, step: block_of(given, block_starts(step, size, count), size))
    found: list[list[list[np.ndarray]]] = [[], []]
    for split, rows in zip((resident, streamed), found, strict=True):
        with split.blocks(size) as blocks:
            rows += rows_on_devices(blocks, -(-count // size), block)
    beside = pairs(chunks - chunks % each // (each - 1))  # none of them the last of its recording
    for batches, together in ((jnp.asarray(chunks), 1), (jnp.asarray(beside), 2), (jnp.asarray(recordings), each)):
        draw = parallel.parallel(lambda _, given, step, b=batches, t=together: drawn(given, b[step], t))
        for split, rows in zip((resident, streamed), found, strict=True):
            with split.draws(np.asarray(batches), together) as draws:
                rows += rows_on_devices(draws, 5, draw)
    assert len({rows[0].shape for rows in found[0]}) > 2  # vectors and masks as well
    for resident_rows, streamed_rows in zip(*found, strict=True):
        assert len(resident_rows) == jax.local_device_count()
        np.testing.assert_array_equal(resident_rows, streamed_rows)


if __name__ == "__main__":
    parallel.start_processes(Processes(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    compare(Path(sys.argv[1]), 25)
    compare(Path(sys.argv[1]), 2)  # the last device, or the last process, has nothing but padding
