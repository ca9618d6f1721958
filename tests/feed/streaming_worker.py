"""Compares streamed with resident chunks on every device of every process; see test_streamed.py.

python streaming_worker.py DATA_DIR COORDINATOR PROCESSES PROCESS_ID
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import numpy as np

from emocluster_jax.console import Console
from emocluster_jax.feed.from_records import load_split
from emocluster_jax.feed.split import Spans, block_rows, block_starts, drawn_rows
from emocluster_jax.records.preparation import read_preparation
from emocluster_jax.runtime import parallel
from emocluster_jax.runtime.processes import Processes

BLOCK = 8


def rows_on_devices(spans: Spans, steps: int, program) -> list[list[np.ndarray]]:
    """What `program` makes of the chunks, by step and local device."""
    return [
        [np.asarray(shard.data) for shard in program((), chunks, step).addressable_shards]
        for step in range(steps)
        for chunks, _, _ in spans(step, step + 1)
    ]


def compare(data_dir: Path, recordings: int) -> None:
    """Blocks and drawn batches of the first recordings, which the devices must not be able to share equally."""
    resident, streamed = (
        load_split(data_dir, read_preparation(data_dir), "train", Console(quiet=True), np.arange(recordings), feed=feed)
        for feed in ("resident", "streamed")
    )
    np.testing.assert_array_equal(resident.attributes, streamed.attributes)
    count = resident.utterances_per_device * resident.chunks_per_utterance
    assert count * jax.device_count() > resident.chunk_count
    size = min(BLOCK, count)
    batches = np.random.default_rng(0).integers(resident.chunk_count, size=(5, 12)).astype(np.int32)
    block = parallel.parallel(lambda _, chunks, step: block_rows(chunks, block_starts(step, size, count), size))
    draw = parallel.parallel(lambda _, chunks, step: drawn_rows(chunks, jax.numpy.asarray(batches)[step]))
    found = []
    for split in (resident, streamed):
        with split.blocks(size) as blocks, split.draws(batches) as draws:
            blocks, draws = rows_on_devices(blocks, -(-count // size), block), rows_on_devices(draws, 5, draw)
            found.append(blocks + draws)
    for resident_rows, streamed_rows in zip(*found, strict=True):
        assert len(resident_rows) == jax.local_device_count()
        np.testing.assert_array_equal(resident_rows, streamed_rows)


if __name__ == "__main__":
    parallel.start_processes(Processes(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    compare(Path(sys.argv[1]), 25)
    compare(Path(sys.argv[1]), 2)  # the last device, or the last process, has nothing but padding
