"""Compares streamed with resident chunks on every device of every process; see test_streamed.py.

python streaming_worker.py DATA_DIR COORDINATOR PROCESSES PROCESS_ID
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np

from emocluster_jax.console import Console
from emocluster_jax.feed.from_records import load_split
from emocluster_jax.feed.split import Inputs
from emocluster_jax.records.reader import open_data
from emocluster_jax.runtime import parallel
from emocluster_jax.runtime.processes import Processes
from emocluster_jax.training.augmentation import pairs

BLOCK = 2


def rows_on_devices(steps: Iterable[Inputs]) -> list[list[np.ndarray]]:
    """By step, input and local device."""
    return [
        [np.asarray(shard.data) for shard in rows.addressable_shards]
        for given in steps
        for _, rows in sorted(given.items())
    ]


def compare(data_dir: Path, recordings: int) -> None:
    """Blocks and drawn batches of the first recordings, which the devices must not be able to share equally."""
    data = open_data(data_dir)
    resident, streamed = (
        load_split(data, "train", Console(quiet=True), np.arange(recordings), feed, data.preparation.inputs)
        for feed in ("resident", "streamed")
    )
    np.testing.assert_array_equal(resident.labels.values, streamed.labels.values)
    for split in (resident, streamed):  # of 1 s: 63 frames, with 4 chunks of 16
        np.testing.assert_array_equal(split.chunk_steps, np.full(recordings, 15))
    count, each = resident.utterances_per_device, resident.chunks_per_utterance
    assert count * jax.device_count() > resident.utterances
    rng = np.random.default_rng(0)
    chunks = rng.integers(resident.chunk_count, size=(5, 12)).astype(np.int32)
    drawn_recordings = rng.integers(resident.utterances, size=(5, 12))
    recordings = (drawn_recordings[..., None] * each + np.arange(each)).reshape(5, -1).astype(np.int32)
    found: list[list[list[np.ndarray]]] = [[], []]
    for split, rows in zip((resident, streamed), found, strict=True):
        with split.blocks(BLOCK) as blocks:
            rows += rows_on_devices(blocks)
    beside = pairs(chunks - chunks % each // (each - 1))  # none of them the last of its recording
    for batches, together in ((chunks, 1), (beside, 2), (recordings, each)):
        for split, rows in zip((resident, streamed), found, strict=True):
            with split.draws(batches, together) as draws:
                rows += rows_on_devices(draws)
    assert len({rows[0].shape for rows in found[0]}) > 3  # vectors, chunks of frames and masks as well
    for resident_rows, streamed_rows in zip(*found, strict=True):
        assert len(resident_rows) == jax.local_device_count()
        np.testing.assert_array_equal(resident_rows, streamed_rows)


if __name__ == "__main__":
    parallel.start_processes(Processes(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    compare(Path(sys.argv[1]), 25)
    compare(Path(sys.argv[1]), 2)  # the last device, or the last process, has nothing but padding
