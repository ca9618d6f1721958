"""Random access to the inputs of a split in its records."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from jaxtyping import Float16, Float32
from tensorflow_datasets.core.utils.shard_utils import FileInstruction

from emocluster_jax.corpora.inputs import InputSizes
from emocluster_jax.errors import InputError
from emocluster_jax.records.builder import record_features
from emocluster_jax.records.preparation import input_field
from emocluster_jax.records.reader import PreparedData


class StoredInputs(NamedTuple):
    """A recording's chunks, and its further inputs by name; NaN where one is missing."""

    chunks: Float16[np.ndarray, "chunks time mel"]
    vectors: dict[str, Float32[np.ndarray, " length"]]


class ChunkSource:
    """The inputs of one recording at a time, read at every access; several threads may read at once.

    Attributes:
      shape: of a recording's chunks, (C, time, mel).
      inputs: the further inputs.
    """

    def __init__(self, data: PreparedData, split: str, inputs: InputSizes = ()) -> None:
        """Opens a split, the files of which `PreparedData.describe` has verified; raises as `PreparedData.locate`.

        Args:
          data: prepared records.
          split: one of `config.SPLITS`.
          inputs: further inputs to read, as in `Preparation.inputs`.
        """
        records, self._positions = data.locate(split)
        layout = data.preparation.layout
        self.inputs = inputs
        # Only the inputs are decoded: the other fields take as long.
        features: Any = record_features(layout, ("chunks", *(input_field(name) for name, _ in inputs)))
        self.shape: tuple[int, int, int] = features["chunks"].shape
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
        """The chunks of the recording at this position of the split; raises as `read`."""
        return self.read(position).chunks

    def read(self, position: int) -> StoredInputs:
        """The inputs of the recording at this position; raises InputError if its file has gone or is damaged."""
        row = int(self._positions[position])
        try:
            record = self._deserialize(self._records[row])
            return StoredInputs(record["chunks"], {name: record[input_field(name)] for name, _ in self.inputs})
        except Exception as error:
            # ArrayRecord raises whatever its C++ side makes of the file, RuntimeError mostly.
            path = self._paths[np.searchsorted(self._ends, row, side="right")]
            reason = "is damaged" if path.is_file() else "is gone"
            raise InputError(
                f"{path} {reason} since the run began ({error}); restore it, or prepare {path.parent} again"
            ) from error
