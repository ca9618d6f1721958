"""From a prepared data directory to arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float32, Int

from emocluster_jax.config import ATTRIBUTES, LABEL
from emocluster_jax.errors import InputError
from emocluster_jax.records.arrays import Descriptions, SplitArrays
from emocluster_jax.records.preparation import FILE_NAME, Preparation, RecordFile, read_preparation
from emocluster_jax.records.splits import locate
from emocluster_jax.storage.checksums import check_files

Deserialize = Callable[[bytes], dict[str, Any]]

_THREADS = 4
_BATCH = 64
"""Records decompressed at a time, so that a large file is not held in memory twice."""


def read_split(
    data_dir: Path,
    split: str,
    indices: Sequence[int] | np.ndarray | None = None,
    progress: Callable[[int], None] | None = None,
    fold: int | None = None,
) -> SplitArrays:
    """Reads a split, or some of it, into memory.

    Args:
      data_dir: what `records.writer.prepare` wrote.
      split: one of `config.SPLITS`.
      indices: positions within the split, sorted by id, in the order wanted, each at most once; None reads all. Only
        the files that hold them are read.
      progress: called with the number of recordings read since the last call.
      fold: of data that have folds, the one that the split's run tests on (`splits.locate`).

    Raises:
      InputError: no such data directory, split or fold, an index outside of it, or a damaged or missing file, which it
        names.
    """
    preparation = read_preparation(data_dir)
    records, row_of, count = _rows_wanted(data_dir, preparation, split, indices, fold)
    features = preparation.features
    shape = (count, features.chunks_per_utterance, features.chunk_frames, features.dimensions)
    chunks = np.empty(shape, np.float16)
    descriptions, put_description = _descriptions(count)

    def put(row: int, record: dict[str, Any]) -> None:
        chunks[row] = record["chunks"]
        put_description(row, record)

    _read_records(data_dir, preparation, records, row_of, None, put, progress)
    _check_labels(data_dir, split, descriptions.attributes, descriptions.ids)
    return SplitArrays(**vars(descriptions), chunks=chunks)


def read_descriptions(data_dir: Path, split: str, fold: int | None = None) -> Descriptions:
    """Reads all that is known of a split but its chunks, and finds its files whole; as `read_split`."""
    preparation = read_preparation(data_dir)
    records, row_of, count = _rows_wanted(data_dir, preparation, split, None, fold)
    descriptions, put = _descriptions(count)
    fields = ("attributes", "id", "speaker", "gender", "duration_s")
    _read_records(data_dir, preparation, records, row_of, fields, put, None)
    _check_labels(data_dir, split, descriptions.attributes, descriptions.ids)
    return descriptions


def read_ids(data_dir: Path, split: str, indices: Sequence[int] | np.ndarray, fold: int | None = None) -> list[str]:
    """Reads the ids of some recordings of a split; as `read_split`."""
    preparation = read_preparation(data_dir)
    records, row_of, count = _rows_wanted(data_dir, preparation, split, indices, fold)
    ids = [""] * count

    def put(row: int, record: dict[str, Any]) -> None:
        ids[row] = record["id"].decode()

    _read_records(data_dir, preparation, records, row_of, ("id",), put, None)
    return ids


def read_attributes(
    data_dir: Path,
    split: str,
    indices: Sequence[int] | np.ndarray | None = None,
    progress: Callable[[int], None] | None = None,
    fold: int | None = None,
) -> Float32[np.ndarray, "recordings 3"]:
    """Reads the labels of a split, or of some of it, and finds the files that hold them whole; as `read_split`."""
    preparation = read_preparation(data_dir)
    records, row_of, count = _rows_wanted(data_dir, preparation, split, indices, fold)
    attributes, ids = np.empty((count, len(ATTRIBUTES)), np.float32), [""] * count

    def put(row: int, record: dict[str, Any]) -> None:
        attributes[row] = record["attributes"]
        ids[row] = record["id"].decode()

    _read_records(data_dir, preparation, records, row_of, ("attributes", "id"), put, progress)
    _check_labels(data_dir, split, attributes, ids)
    return attributes


def _rows_wanted(
    data_dir: Path, preparation: Preparation, split: str, indices: Sequence[int] | np.ndarray | None, fold: int | None
) -> tuple[str, Int[np.ndarray, " records"], int]:
    """The records' split to read; for each of its recordings the row in the result, or -1; and the number of rows."""
    place = locate(preparation, data_dir, split, fold)
    total = place.size
    _check_sizes(data_dir, preparation, place.records)
    wanted = np.arange(total) if indices is None else np.asarray(indices, np.int64)
    if len(wanted) and not 0 <= wanted.min() <= wanted.max() < total:
        raise InputError(f"{data_dir}: an index outside the {total} recordings of the split {split!r}")
    row_of = np.full(preparation.counts[place.records], -1)
    row_of[place.rows(wanted)] = np.arange(len(wanted))
    if (row_of >= 0).sum() != len(wanted):
        raise InputError(f"{data_dir}: the same recording of the split {split!r} is asked for twice")
    return place.records, row_of, len(wanted)


def _descriptions(count: int) -> tuple[Descriptions, Callable[[int, dict[str, Any]], None]]:
    """Rows to fill, and what fills a row from a record."""
    rows = Descriptions(
        attributes=np.empty((count, len(ATTRIBUTES)), np.float32),
        ids=[""] * count,
        speakers=[""] * count,
        genders=[""] * count,
        durations_s=np.empty(count, np.float32),
    )

    def put(row: int, record: dict[str, Any]) -> None:
        rows.attributes[row] = record["attributes"]
        rows.ids[row] = record["id"].decode()
        rows.speakers[row] = record["speaker"].decode()
        rows.genders[row] = record["gender"].decode()
        rows.durations_s[row] = record["duration_s"]

    return rows, put


def _check_labels(
    data_dir: Path, split: str, attributes: Float32[np.ndarray, "recordings 3"], ids: Sequence[str]
) -> None:
    """Raises InputError for labels that are out of `config.LABEL`: earlier versions prepared such."""
    beyond = np.argwhere(np.abs(attributes) > LABEL.highest)
    if len(beyond):
        row, column = beyond[0]
        raise InputError(
            f"{data_dir}: {ids[row]} of the split {split!r} has the {ATTRIBUTES[column]} label "
            f"{attributes[row, column]:g}; expected {LABEL}; mend the corpus's labels and prepare them anew"
        )


def _check_sizes(data_dir: Path, preparation: Preparation, split: str) -> None:
    """Memory is allocated for no more recordings than the split's files can hold, at a byte a record."""
    for file in preparation.files:
        path = data_dir / file.name
        if file.split == split and path.is_file() and path.stat().st_size < file.records:
            raise InputError(f"{path} is too short for {file.records} recordings; prepare {data_dir} again")


def _read_records(
    data_dir: Path,
    preparation: Preparation,
    split: str,
    row_of: Int[np.ndarray, " records"],
    fields: Sequence[str] | None,
    put: Callable[[int, dict[str, Any]], None],
    progress: Callable[[int], None] | None,
) -> None:
    """Calls `put(row, record)` for every recording that has a row, from several threads; only `fields` are decoded."""
    from emocluster_jax.records.builder import record_features

    # Here and not in the threads: TFDS loads its features at their first use, which is not safe in several at once.
    deserialize = cast(Deserialize, record_features(preparation.features, fields).deserialize_example_np)
    files = [file for file in preparation.files if file.split == split]
    starts = np.cumsum([0, *(file.records for file in files)])
    with ThreadPoolExecutor(_THREADS) as executor:
        reads = [
            executor.submit(_read_file, data_dir, file, row_of[start : start + file.records], deserialize, put)
            for file, start in zip(files, starts[:-1], strict=True)
        ]
        try:
            for read in as_completed(reads):
                count = read.result()
                if progress is not None:
                    progress(count)
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise


def _read_file(
    data_dir: Path,
    file: RecordFile,
    rows: Int[np.ndarray, " records"],
    deserialize: Deserialize,
    put: Callable[[int, dict[str, Any]], None],
) -> int:
    """Puts the file's record i at `rows[i]`, unless that is -1; returns how many it put."""
    positions = np.flatnonzero(rows >= 0)
    if not len(positions):
        return 0
    path = data_dir / file.name
    check_files(data_dir, {file.name: file.sha256}, f"restore a copy, or remove {data_dir} and prepare it again")

    from array_record.python.array_record_module import ArrayRecordReader

    try:
        reader = ArrayRecordReader(str(path), options="readahead_buffer_size:0")
        with contextlib.closing(reader):
            for start in range(0, len(positions), _BATCH):
                batch = positions[start : start + _BATCH]
                for position, content in zip(batch, reader.read(batch.tolist()), strict=True):
                    put(int(rows[position]), deserialize(content))
    except Exception as error:
        # ArrayRecord, TFDS and NumPy raise many types where a file and its description are at odds.
        raise InputError(f"{path} holds other records than {FILE_NAME} says; prepare {data_dir} again") from error
    return len(positions)
