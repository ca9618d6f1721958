"""A prepared data directory: opened once, then read split by split."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float, Float16, Float32, Int

from emocluster_jax.config import FOLD, LABEL
from emocluster_jax.corpora.inputs import InputSizes
from emocluster_jax.corpora.labels import LabelColumns
from emocluster_jax.errors import InputError
from emocluster_jax.records.folds import LABELED_SPLITS, split_counts
from emocluster_jax.records.preparation import FILE_NAME, Preparation, RecordFile, input_field, read_preparation
from emocluster_jax.storage.checksums import check_files

Deserialize = Callable[[bytes], dict[str, Any]]

_THREADS = 4
_DESCRIPTION = ("attributes", "id", "speaker", "gender", "duration_s")
"""Fields of a record that say what is known of the recording."""
_BATCH = 64
"""Records decompressed at a time, so that a large file is not held in memory twice."""


@dataclass(frozen=True)
class Descriptions:
    """What is known of the recordings of one split, row by row.

    Attributes:
      labels: in the corpus's units, NaN where missing.
      ids: unique within the corpus.
      speakers: "" where unknown.
      genders: "female", "male", or "" where unknown.
      durations_s: duration of each recording in seconds.
    """

    labels: LabelColumns
    ids: list[str]
    speakers: list[str]
    genders: list[str]
    durations_s: Float[np.ndarray, " recordings"]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class SplitArrays(Descriptions):
    """Recordings of one split with what is known of them.

    Attributes:
      chunks: normalised, clipped chunks of mel spectrograms or given features; by default (11, 62, 128) per recording.
      inputs: those further inputs that were asked for, by name, (recordings, length) float32; NaN where missing.
    """

    chunks: Float16[np.ndarray, "recordings chunks frames mel"]
    inputs: dict[str, Float32[np.ndarray, "recordings length"]]


@dataclass(frozen=True)
class SplitPlace:
    """Where the records hold the recordings of a split.

    Attributes:
      records: the split of the records.
      size: number of recordings.
      positions: of the recordings in the records' split, ascending; None for all of it.
    """

    records: str
    size: int
    positions: Int[np.ndarray, " n"] | None = None

    def rows(self, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """From positions among these recordings to positions in the records' split."""
        return indices if self.positions is None else self.positions[indices]


@dataclass(frozen=True, eq=False)
class PreparedData:
    """A prepared data directory as the run that tests on `fold` sees it.

    Attributes:
      data_dir: the directory.
      preparation: its description, which `open_data` has verified.
      fold: the one that the run tests on; None where the data have no folds, or only the unlabelled pool is read.
    """

    data_dir: Path
    preparation: Preparation
    fold: int | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Recordings per split."""
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
        else:
            FOLD.check("`fold`", fold)

    def locate(self, split: str) -> SplitPlace:
        """Where the recordings of a split lie; the unlabelled pool is the same for all folds.

        Raises:
          InputError: there is no such split, or no such fold.
        """
        folds, counts = self.preparation.folds, self.preparation.counts
        if folds is not None and split in LABELED_SPLITS:
            self.check_fold()
            assert self.fold is not None
            wanted = list(folds.of_split(split, self.fold))
            positions = np.flatnonzero(np.isin(folds.of_recordings, wanted))
            return SplitPlace("train", len(positions), positions)
        if split not in counts:
            raise InputError(f"{self.data_dir} has no split {split!r}; it has {', '.join(counts)}")
        return SplitPlace(split, counts[split])

    def read(
        self,
        split: str,
        indices: Sequence[int] | np.ndarray | None = None,
        progress: Callable[[int], None] | None = None,
        inputs: InputSizes = (),
    ) -> SplitArrays:
        """Reads a split, or some of it, into memory.

        Args:
          split: one of `config.SPLITS`.
          indices: positions within the split, which is sorted by id, in the order wanted, each at most once; None reads
            all. Only the files that hold them are read.
          progress: called with the number of recordings read since the last call.
          inputs: further inputs to read, as `Preparation.inputs` has them.

        Raises:
          InputError: no such split or fold, an index outside of it, or a damaged or missing file, which it names.
        """
        features = self.preparation.features
        rows = self._rows(split, indices)
        shape = (rows.count, features.chunks_per_utterance, features.chunk_frames, features.dimensions)
        chunks = np.empty(shape, np.float16)
        vectors = {name: np.empty((rows.count, length), np.float32) for name, length in inputs}
        descriptions, put_description = self._descriptions(rows.count)

        def put(row: int, record: dict[str, Any]) -> None:
            chunks[row] = record["chunks"]
            for name, held in vectors.items():
                held[row] = record[input_field(name)]
            put_description(row, record)

        fields = ("chunks", *map(input_field, vectors), *_DESCRIPTION)
        self._read(rows, fields, put, progress)
        self._check_labels(split, descriptions.labels, descriptions.ids)
        return SplitArrays(**vars(descriptions), chunks=chunks, inputs=vectors)

    def describe(self, split: str) -> Descriptions:
        """Reads all that is known of a split but its chunks, and verifies its files; raises as `read`."""
        rows = self._rows(split, None)
        descriptions, put = self._descriptions(rows.count)
        self._read(rows, _DESCRIPTION, put, None)
        self._check_labels(split, descriptions.labels, descriptions.ids)
        return descriptions

    def ids(self, split: str, indices: Sequence[int] | np.ndarray) -> list[str]:
        """Reads the ids of some recordings of a split; raises as `read`."""
        rows = self._rows(split, indices)
        ids = [""] * rows.count

        def put(row: int, record: dict[str, Any]) -> None:
            ids[row] = record["id"].decode()

        self._read(rows, ("id",), put, None)
        return ids

    def labels(
        self,
        split: str,
        indices: Sequence[int] | np.ndarray | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> LabelColumns:
        """Reads the labels of a split, or of some of it, and verifies the files that hold them; as `read`."""
        rows = self._rows(split, indices)
        labels, ids = self._no_labels(rows.count), [""] * rows.count

        def put(row: int, record: dict[str, Any]) -> None:
            labels.values[row] = record["attributes"]
            ids[row] = record["id"].decode()

        self._read(rows, ("attributes", "id"), put, progress)
        self._check_labels(split, labels, ids)
        return labels

    def _rows(self, split: str, indices: Sequence[int] | np.ndarray | None) -> _Rows:
        place = self.locate(split)
        self._check_sizes(place.records)
        wanted = np.arange(place.size) if indices is None else np.asarray(indices, np.int64)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < place.size:
            raise InputError(f"{self.data_dir}: an index outside the {place.size} recordings of the split {split!r}")
        row_of = np.full(self.preparation.counts[place.records], -1)
        row_of[place.rows(wanted)] = np.arange(len(wanted))
        if (row_of >= 0).sum() != len(wanted):
            raise InputError(f"{self.data_dir}: the same recording of the split {split!r} is asked for twice")
        return _Rows(place.records, row_of, len(wanted))

    def _check_sizes(self, split: str) -> None:
        """Memory is allocated for no more recordings than the split's files can hold, at a byte per record."""
        for file in self.preparation.files:
            path = self.data_dir / file.name
            if file.split == split and path.is_file() and path.stat().st_size < file.records:
                raise InputError(f"{path} is too short for {file.records} recordings; prepare {self.data_dir} again")

    def _no_labels(self, count: int) -> LabelColumns:
        """Rows to fill."""
        names = self.preparation.labels
        return LabelColumns(names, np.empty((count, len(names)), np.float32))

    def _descriptions(self, count: int) -> tuple[Descriptions, Callable[[int, dict[str, Any]], None]]:
        """Rows to fill, and the function that fills a row from a record."""
        rows = Descriptions(
            labels=self._no_labels(count),
            ids=[""] * count,
            speakers=[""] * count,
            genders=[""] * count,
            durations_s=np.empty(count, np.float32),
        )

        def put(row: int, record: dict[str, Any]) -> None:
            rows.labels.values[row] = record["attributes"]
            rows.ids[row] = record["id"].decode()
            rows.speakers[row] = record["speaker"].decode()
            rows.genders[row] = record["gender"].decode()
            rows.durations_s[row] = record["duration_s"]

        return rows, put

    def _check_labels(self, split: str, labels: LabelColumns, ids: Sequence[str]) -> None:
        """Raises InputError for labels outside `config.LABEL`, which earlier versions accepted."""
        beyond = np.argwhere(np.abs(labels.values) > LABEL.highest)
        if len(beyond):
            row, column = beyond[0]
            raise InputError(
                f"{self.data_dir}: {ids[row]} of the split {split!r} has the {labels.names[column]} label "
                f"{labels.values[row, column]:g}; expected {LABEL}; mend the corpus's labels and prepare them anew"
            )

    def _read(
        self,
        rows: _Rows,
        fields: Sequence[str],
        put: Callable[[int, dict[str, Any]], None],
        progress: Callable[[int], None] | None,
    ) -> None:
        """Calls `put(row, record)` for every recording that has a row, from several threads, with these fields."""
        from emocluster_jax.records.builder import record_features

        # Here and not in the threads: TFDS loads its features at their first use, which is not safe in several at once.
        deserialize = cast(Deserialize, record_features(self.preparation.layout, fields).deserialize_example_np)
        files = [file for file in self.preparation.files if file.split == rows.records]
        starts = np.cumsum([0, *(file.records for file in files)])
        with ThreadPoolExecutor(_THREADS) as executor:
            reads = [
                executor.submit(self._read_file, file, rows.of[start : start + file.records], deserialize, put)
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
        self,
        file: RecordFile,
        rows: Int[np.ndarray, " records"],
        deserialize: Deserialize,
        put: Callable[[int, dict[str, Any]], None],
    ) -> int:
        """Puts the file's record i at `rows[i]`, unless that is -1; returns how many it put."""
        positions = np.flatnonzero(rows >= 0)
        if not len(positions):
            return 0
        path = self.data_dir / file.name
        remedy = f"restore a copy, or remove {self.data_dir} and prepare it again"
        check_files(self.data_dir, {file.name: file.sha256}, remedy)

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
            raise InputError(
                f"{path} holds other records than {FILE_NAME} says; prepare {self.data_dir} again"
            ) from error
        return len(positions)


@dataclass(frozen=True)
class _Rows:
    """What is to be read.

    Attributes:
      records: the split of the records.
      of: for each of its recordings the row in the result, or -1.
      count: number of rows.
    """

    records: str
    of: Int[np.ndarray, " records"]
    count: int


def open_data(data_dir: Path, fold: int | None = None) -> PreparedData:
    """Opens what `records.writer.prepare` wrote and verifies its description; each file of records, when it is read.

    Args:
      data_dir: the directory.
      fold: of data that have folds, the one that the run tests on.

    Raises:
      InputError: no such directory, one without prepared data, of another format version, or with a damaged file.
    """
    return PreparedData(data_dir, read_preparation(data_dir), fold)
