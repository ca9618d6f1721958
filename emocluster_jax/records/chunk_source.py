"""Random access to the inputs of a split in its records, by TFDS's data source."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float16, Float32

from emocluster_jax.corpora.inputs import InputSizes
from emocluster_jax.errors import InputError
from emocluster_jax.records.builder import RecordsBuilder, record_features
from emocluster_jax.records.preparation import input_field
from emocluster_jax.records.reader import Deserialize, PreparedData


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
        """Opens a split, the files of which `PreparedData.labels` has verified.

        Args:
          data: prepared records.
          split: one of `config.SPLITS`.
          inputs: further inputs to read, as `Preparation.inputs` has them.

        Raises:
          InputError: there is no such split or fold, or TFDS's metadata are missing or damaged.
        """
        self._place = place = data.locate(split)
        data_dir, preparation, features = data.data_dir, data.preparation, data.preparation.features
        self.inputs = inputs
        self.shape = (features.chunks_per_utterance, features.chunk_frames, features.dimensions)
        records = [file for file in preparation.files if file.split == place.records]
        self._names = [data_dir / file.name for file in records]
        self._ends = np.cumsum([file.records for file in records])
        # Only the inputs are decoded: the other fields take as long.
        fields = ("chunks", *(input_field(name) for name, _ in inputs))
        self._deserialize = cast(Deserialize, record_features(preparation.layout, fields).deserialize_example_np)
        try:
            # Not by `tfds.builder_from_directory`, which imports whatever modules features.json names.
            builder = RecordsBuilder(data_dir, preparation.layout)
            files = [Path(part.filename) for part in builder.info.splits[place.records].file_instructions]
            if files != self._names:
                raise ValueError("other record files than those of the preparation")
            self._records = cast(Any, builder).as_data_source(
                place.records, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
            )
            if len(self._records) != self._ends[-1]:
                raise ValueError(f"{len(self._records)} recordings instead of {self._ends[-1]}")
        except Exception as error:
            # TFDS and protobuf raise many types for files that are missing or were changed.
            raise InputError(
                f"the metadata that TFDS needs in {data_dir} (dataset_info.json) are missing or damaged; "
                f"remove {data_dir} and prepare it again"
            ) from error

    def __len__(self) -> int:
        return self._place.size

    def __getitem__(self, position: int) -> Float16[np.ndarray, "chunks time mel"]:
        """The chunks of the recording at this position of the split; raises as `read`."""
        return self.read(position).chunks

    def read(self, position: int) -> StoredInputs:
        """The inputs of the recording at this position of the split.

        Raises:
          InputError: its file has gone or is damaged.
        """
        positions = self._place.positions
        row = position if positions is None else int(positions[position])
        try:
            record = self._deserialize(self._records[row])
            return StoredInputs(record["chunks"], {name: record[input_field(name)] for name, _ in self.inputs})
        except Exception as error:
            # ArrayRecord raises whatever its C++ side makes of the file, RuntimeError mostly.
            path = self._names[np.searchsorted(self._ends, row, side="right")]
            reason = "is damaged" if path.is_file() else "is gone"
            raise InputError(
                f"{path} {reason} since the run began ({error}); restore it, or prepare {path.parent} again"
            ) from error
