"""The data set as TensorFlow Datasets sees it: its features, its files, its metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, Float32
from tensorflow_datasets.core.dataset_info import DatasetIdentity
from tensorflow_datasets.core.example_serializer import ExampleSerializer
from tensorflow_datasets.core.splits import SplitDict

from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.records.preparation import Layout, input_field

NAME = "emocluster"

Chunks = Float[np.ndarray, "chunks frames mel"]
Arrays = Mapping[str, Float32[np.ndarray, " ..."]]

_DESCRIPTION = """\
Recordings of speech as normalised mel spectrograms, or features that were given, cut into equally many chunks each,
with their labels and further inputs (NaN where missing), which preparation.json names.
"""
_CITATION = """\
@inproceedings{lin2021deepemocluster,
  title={DeepEmoCluster: a semi-supervised framework for latent cluster representation of speech emotions},
  author={Lin, Wei-Cheng and Sridhar, Kusha and Busso, Carlos},
  booktitle={ICASSP},
  year={2021}
}
"""


def write_metadata(data_dir: Path, layout: Layout, files: Mapping[str, Sequence[tuple[int, int]]]) -> None:
    """Writes `dataset_info.json` and `features.json`, so that `tfds.builder_from_directory(data_dir)` needs no code.

    `files` has, per split, the number of records and of their bytes in each ArrayRecord file, in order.
    """
    folder = str(data_dir)
    identity = DatasetIdentity(name=NAME, version=tfds.core.Version("1.0.0"), data_dir=folder, module_name=__name__)
    info = tfds.core.DatasetInfo(
        builder=identity,
        description=_DESCRIPTION,
        citation=_CITATION,
        features=record_features(layout),
        disable_shuffling=True,
    )
    info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
    template = tfds.core.ShardedFileTemplate(
        data_dir=tfds.core.Path(data_dir), dataset_name=NAME, filetype_suffix="array_record"
    )
    splits = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[records for records, _ in shards],
            num_bytes=sum(size for _, size in shards),
            filename_template=template.replace(split=split),
        )
        for split, shards in files.items()
    ]
    info.set_splits(SplitDict(splits))
    info.write_to_directory(data_dir)


def record_features(layout: Layout, fields: Sequence[str] | None = None) -> tfds.features.FeaturesDict:
    """What a record holds, or those of its fields that are to be decoded.

    Arrays are stored as their bytes: TFDS's lists of floats take 8 ms per recording to read.
    """
    features = layout.features
    chunks = (features.chunks_per_utterance, features.chunk_frames, features.dimensions)
    stored = tfds.features.Encoding.BYTES

    def numbers(*shape: int) -> tfds.features.Tensor:
        return tfds.features.Tensor(shape=shape, dtype=np.float32, encoding=stored)

    all_fields = {
        "chunks": tfds.features.Tensor(shape=chunks, dtype=np.float16, encoding=stored),
        **{input_field(given.name): numbers(*given.shape(features)) for given in layout.inputs},
        "attributes": numbers(len(layout.labels)),
        "id": tfds.features.Text(),
        "speaker": tfds.features.Text(),
        "gender": tfds.features.Text(),
        "duration_s": tfds.features.Scalar(dtype=np.float32),
    }
    return tfds.features.FeaturesDict({name: all_fields[name] for name in fields or all_fields})


def record_serializer(layout: Layout) -> Callable[[Utterance, Chunks, Arrays, float], bytes]:
    """A function that makes a record of a recording, its chunks, its further inputs and its duration in seconds.

    The same recording gives the same bytes in every process, unlike `FeaturesDict.serialize_example`, which leaves the
    order of the fields to protobuf.
    """
    fields = record_features(layout)
    serializer = ExampleSerializer(cast(Any, fields.get_serialized_info()))

    def serialize(utterance: Utterance, chunks: Chunks, inputs: Arrays, duration_s: float) -> bytes:
        values = {
            "chunks": chunks.astype(np.float16),
            **{input_field(name): array for name, array in inputs.items()},
            "attributes": np.array([utterance.labels.get(name, np.nan) for name in layout.labels], np.float32),
            "id": utterance.id,
            "speaker": utterance.speaker or "",
            "gender": utterance.gender or "",
            "duration_s": np.float32(duration_s),
        }
        return serializer.get_tf_example(fields.encode_example(values)).SerializeToString(deterministic=True)

    return serialize


def record_file_name(split: str, index: int, count: int) -> str:
    """TFDS's name of a split's file, e.g. `emocluster-train.array_record-00000-of-00016`."""
    return f"{NAME}-{split}.array_record-{index:05d}-of-{count:05d}"
