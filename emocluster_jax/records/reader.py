"""A prepared data directory: opened once, then read split by split, or recording by recording."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float16, Float32, Int

from emocluster_jax.config import LABEL
from emocluster_jax.corpora.inputs import FurtherInputs
from emocluster_jax.corpora.labels import LabelColumns
from emocluster_jax.errors import InputError
from emocluster_jax.records.folds import LABELED_SPLITS, split_counts
from emocluster_jax.records.preparation import FILE_NAME, Preparation, RecordFile, input_field, read_preparation
from emocluster_jax.storage.checksums import check_files

Indices = Sequence[int] | np.ndarray | None
Progress = Callable[[int], None]

_THREADS = 4
_DESCRIPTION = ("attributes", "id", "speaker", "gender", "duration_s")
_BATCH = 64
"""Records decompressed at a time, so that a large file is not held in memory twice."""


@dataclass(frozen=True)
class Descriptions:
    """What is known of the recordings of one split, row by row."""

    labels: LabelColumns  # in the corpus's units, NaN where missing
    ids: list[str]  # unique within the corpus
    speakers: list[str]  # "" where unknown
    genders: list[str]  # "female", "male", or "" where unknown
    durations_s: Float[np.ndarray, " recordings"]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class SplitArrays(Descriptions):
    """Recordings of one split with what is known of them."""

    chunks: Float16[np.ndarray, "recordings chunks frames mel"]
    """Normalised and clipped; by default (11, 62, 128) per recording."""
    inputs: dict[str, Float32[np.ndarray, "recordings ..."]]
    """The requested further inputs by name; NaN where missing."""


class SplitPlace(NamedTuple):
    """Where the recordings of a split are: the split of the records that holds them, and their positions in it."""

    records: str
    positions: Int[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class PreparedData:
    """A prepared data directory as the run that tests on `fold` sees it."""

    data_dir: Path
    preparation: Preparation  # which `open_data` has verified
    fold: int | None = None  # None where the data have no folds, or only the unlabelled pool is read

    @property
    def counts(self) -> dict[str, int]:
        return split_counts(self.preparation, self.fold)

    def check_fold(self) -> None:
        """Raises InputError unless `fold` is one of the data's folds, or None where they have none."""
        fold, folds = self.fold, self.preparation.folds
        if folds is None:
            if fold is not None:
                raise InputError(
                    f"`fold={fold}` is given, but {self.data_dir} was prepared without folds; leave it out, or prepare "
                    "with `folds`"
                )
        elif fold is None:
            raise InputError(
                f"{self.data_dir} was prepared in {folds.count} folds; say by `fold` which to test on, from 1 to "
                f"{folds.count}"
            )
        elif not 1 <= fold <= folds.count:
            raise InputError(f"`fold` is {fold}; {self.data_dir} has folds 1 to {folds.count}")

    def locate(self, split: str) -> SplitPlace:
        """Where the recordings of a split are; the unlabelled pool is the same for all folds. InputError if there is no
        such split or fold, or its files are too short for its recordings."""
        counts, folds = self.preparation.counts, self.preparation.folds if split in LABELED_SPLITS else None
        if folds is not None:
            self.check_fold()
        elif split not in counts:
            raise InputError(f"{self.data_dir} has no split {split!r}; it has {', '.join(counts)}")
        records = split if folds is None else "train"
        # Memory is allocated for no more recordings than the files can hold, at a byte per record.
        for file in self.preparation.files:
            path = self.data_dir / file.name
            if file.split == records and path.is_file() and path.stat().st_size < file.records:
                raise InputError(f"{path} is too short for {file.records} recordings; prepare {self.data_dir} again")
        if folds is None:
            return SplitPlace(records, np.arange(counts[split]))
        assert self.fold is not None
        used = np.isin(folds.of_recordings, list(folds.of_split(split, self.fold)))
        return SplitPlace(records, np.flatnonzero(used))

    def read(
        self, split: str, indices: Indices = None, progress: Progress | None = None, inputs: FurtherInputs = ()
    ) -> SplitArrays:
        """Reads a split, or some of it, into memory.

        Args:
          indices: positions within the split, which is sorted by id, in the order wanted, each at most once; None reads
            all. Only the files that hold them are read.
          progress: called with the number of recordings read since the last call.

        Raises:
          InputError: no such split or fold, an index outside of it, or a damaged or missing file, which it names.
        """
        fields = ("chunks", *(input_field(given.name) for given in inputs), *_DESCRIPTION)
        columns = self._read(split, indices, fields, progress)
        further = {given.name: columns[input_field(given.name)] for given in inputs}
        return SplitArrays(**vars(self._described(split, columns)), chunks=columns["chunks"], inputs=further)

    def describe(self, split: str, indices: Indices = None, progress: Progress | None = None) -> Descriptions:
        """Reads all that is known of a split, or of some of it, but its chunks and inputs; as `read`."""
        return self._described(split, self._read(split, indices, _DESCRIPTION, progress))

    def _described(self, split: str, columns: dict[str, np.ndarray]) -> Descriptions:
        labels, ids = LabelColumns(self.preparation.labels, columns["attributes"]), columns["id"].tolist()
        beyond = np.argwhere(np.abs(labels.values) > LABEL.highest)
        if len(beyond):  # earlier versions accepted them
            row, column = beyond[0]
            raise InputError(
                f"{self.data_dir}: {ids[row]} of the split {split!r} has the {labels.names[column]} label "
                f"{labels.values[row, column]:g}; expected {LABEL}; mend the corpus's labels and prepare them anew"
            )
        return Descriptions(labels, ids, columns["speaker"].tolist(), columns["gender"].tolist(), columns["duration_s"])

    def _read(
        self, split: str, indices: Indices, fields: Sequence[str], progress: Progress | None
    ) -> dict[str, np.ndarray]:
        """These fields of the recordings as arrays with a row for each, read and verified by several threads."""
        from emocluster_jax.records.builder import record_features

        place = self.locate(split)
        size = len(place.positions)
        wanted = np.arange(size) if indices is None else np.asarray(indices, np.int64)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < size:
            raise InputError(f"{self.data_dir}: an index outside the {size} recordings of the split {split!r}")
        row_of = np.full(self.preparation.counts[place.records], -1)
        row_of[place.positions[wanted]] = np.arange(len(wanted))
        if (row_of >= 0).sum() != len(wanted):
            raise InputError(f"{self.data_dir}: the same recording of the split {split!r} is asked for twice")

        # Not in the threads: TFDS loads its features at their first use, which is not safe in several at once.
        features: Any = record_features(self.preparation.layout, fields)
        deserialize = features.deserialize_example_np
        columns = {
            name: np.empty((len(wanted), *feature.shape), feature.np_dtype) for name, feature in features.items()
        }
        files = [file for file in self.preparation.files if file.split == place.records]
        starts = np.cumsum([0, *(file.records for file in files)])
        with ThreadPoolExecutor(_THREADS) as executor:
            reads = [
                executor.submit(self._read_file, file, row_of[start : start + file.records], deserialize, columns)
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
        return columns

    def _read_file(
        self,
        file: RecordFile,
        rows: Int[np.ndarray, " records"],
        deserialize: Callable[[bytes], dict[str, Any]],
        columns: dict[str, np.ndarray],
    ) -> int:
        """Puts the file's record i into the row `rows[i]`, unless that is -1; returns how many it put."""
        positions = np.flatnonzero(rows >= 0)
        if not len(positions):
            return 0
        path = self.data_dir / file.name
        remedy = f"restore a copy, or remove {self.data_dir} and prepare it again"
        check_files(self.data_dir, {file.name: file.sha256}, remedy)

        from array_record.python.array_record_module import ArrayRecordReader

        try:
            with contextlib.closing(ArrayRecordReader(str(path), options="readahead_buffer_size:0")) as reader:
                for start in range(0, len(positions), _BATCH):
                    batch = positions[start : start + _BATCH]
                    for position, content in zip(batch, reader.read(batch.tolist()), strict=True):
                        for name, value in deserialize(content).items():
                            columns[name][rows[position]] = value.decode() if isinstance(value, bytes) else value
        except Exception as error:
            raise _other_records(path) from error
        return len(positions)


def open_data(data_dir: Path, fold: int | None = None) -> PreparedData:
    """Opens what `records.writer.prepare` wrote, as the run that tests on `fold` sees it; raises as `read_preparation`.

    Files of records are verified when they are read.
    """
    return PreparedData(data_dir, read_preparation(data_dir), fold)


def _other_records(path: Path) -> InputError:
    """Of whatever ArrayRecord, TFDS and NumPy raise where a file and its description are at odds."""
    return InputError(f"{path} holds other records than {FILE_NAME} says; prepare {path.parent} again")


class StoredInputs(NamedTuple):
    """A recording's chunks, and its further inputs by name; NaN where one is missing."""

    chunks: Float16[np.ndarray, "chunks time mel"]
    inputs: dict[str, Float32[np.ndarray, " ..."]]


class ChunkSource:
    """The inputs of one recording at a time, read at every access; several threads may read at once."""

    def __init__(self, data: PreparedData, split: str, inputs: FurtherInputs = ()) -> None:
        """Opens a split, and these of its further inputs, whose files `PreparedData.describe` has verified; raises as
        `PreparedData.locate`."""
        # TFDS takes a while to load.
        from array_record.python.array_record_data_source import ArrayRecordDataSource
        from tensorflow_datasets.core.utils.shard_utils import FileInstruction

        from emocluster_jax.records.builder import record_features

        records, self._positions = data.locate(split)
        layout = data.preparation.layout
        self.inputs = inputs
        # Only the inputs are decoded: the other fields take as long.
        features: Any = record_features(layout, ("chunks", *(input_field(given.name) for given in inputs)))
        self.shape: tuple[int, int, int] = features["chunks"].shape  # (C, time, mel)
        self.input_shapes = {given.name: given.shape(layout.features) for given in inputs}
        self._deserialize = features.deserialize_example_np
        files = [file for file in data.preparation.files if file.split == records]
        self._paths = [data.data_dir / file.name for file in files]
        self._ends = np.cumsum([file.records for file in files])
        # Not by `tfds.builder_from_directory`, which imports whatever modules features.json names.
        instructions: Any = [
            FileInstruction(str(path), skip=0, take=file.records, examples_in_shard=file.records)
            for path, file in zip(self._paths, files, strict=True)
        ]
        self._records = ArrayRecordDataSource(instructions)

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, position: int) -> Float16[np.ndarray, "chunks time mel"]:
        return self.read(position).chunks

    def read(self, position: int) -> StoredInputs:
        """The inputs of the recording at this position; raises InputError if its file has gone or is damaged."""
        row = int(self._positions[position])
        path = self._paths[np.searchsorted(self._ends, row, side="right")]
        try:
            content = self._records[row]
        except Exception as error:
            # ArrayRecord raises whatever its C++ side makes of the file, RuntimeError mostly.
            reason = "is damaged" if path.is_file() else "is gone"
            raise InputError(
                f"{path} {reason} since the run began ({error}); restore it, or prepare {path.parent} again"
            ) from error
        try:
            record = self._deserialize(content)
        except Exception as error:
            raise _other_records(path) from error
        return StoredInputs(record["chunks"], {given.name: record[input_field(given.name)] for given in self.inputs})
