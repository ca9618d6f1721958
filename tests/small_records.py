"""Prepared records of recordings that were never sound, so small that they are written at once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from emocluster_jax.config import FeatureConfig
from emocluster_jax.corpora.inputs import FurtherInput
from emocluster_jax.corpora.labels import VAD
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.preprocessing.normalization import Statistics
from emocluster_jax.records.builder import record_file_name, record_serializer, write_metadata
from emocluster_jax.records.folds import Folds
from emocluster_jax.records.preparation import (
    Layout,
    Preparation,
    RecordFile,
    metadata_checksums,
    write_preparation,
)

PER_FILE = 6


def vad(*values: float) -> dict[str, float]:
    """Labels of a row: arousal, dominance and valence."""
    return dict(zip(VAD, values, strict=True))


def further_input(name: str, rows: np.ndarray, features: FeatureConfig) -> FurtherInput:
    """The input that has these vectors (n, numbers), or these chunks (n, C, frames, numbers)."""
    if rows.ndim == 2:
        return FurtherInput(name, rows.shape[1])
    return FurtherInput(name, rows.shape[3], rows.shape[2] * features.frames_per_second / features.chunk_frames)


def write_records(
    data_dir: Path,
    features: FeatureConfig,
    splits: dict[str, tuple[np.ndarray, np.ndarray]],
    folds: Folds | None = None,
    further: dict[str, np.ndarray] | None = None,
) -> Preparation:
    """Writes chunks (n, C, time, mel) and labels (n, 3) of every split into a new directory, `PER_FILE` a file.

    Further inputs are those of every split, by name: vectors (n, numbers), or chunks (n, C, frames, numbers); NaN where
    missing.
    """
    further = {name: rows.astype(np.float32) for name, rows in (further or {}).items()}
    inputs = tuple(further_input(name, rows, features) for name, rows in sorted(further.items()))
    data_dir.mkdir(parents=True)
    layout = Layout(features, VAD, inputs)
    serialize = record_serializer(layout)
    files: list[RecordFile] = []
    sizes: dict[str, list[tuple[int, int]]] = {}
    for split, (chunks, labels) in splits.items():
        starts = range(0, len(chunks), PER_FILE)
        for number, start in enumerate(starts):
            path = data_dir / record_file_name(split, number, len(starts))
            examples = [
                serialize(
                    Utterance(f"{split}-{i:03d}", Path("x"), split, labels=vad(*map(float, labels[i]))),
                    chunks[i],
                    {name: rows[i] for name, rows in further.items()},
                    1.0,
                )
                for i in range(start, min(start + PER_FILE, len(chunks)))
            ]
            writer = ArrayRecordWriter(str(path), "group_size:1,zstd:1")
            for example in examples:
                writer.write(example)
            writer.close()
            files.append(RecordFile(path.name, split, len(examples), hashlib.sha256(path.read_bytes()).hexdigest()))
            sizes.setdefault(split, []).append((len(examples), sum(map(len, examples))))
    write_metadata(data_dir, layout, sizes)
    nothing, one = np.zeros(features.dimensions, np.float32), np.ones(features.mel_bands, np.float32)
    preparation = Preparation(
        corpus="drawn",
        source="/drawn",
        request="drawn",
        features=features,
        feature_statistics=Statistics(nothing, one),
        statistics_from="train",
        labels=VAD,
        label_statistics=Statistics(np.full(3, 4, np.float32), np.ones(3, np.float32)),
        counts={split: len(chunks) for split, (chunks, _) in splits.items()},
        hours=dict.fromkeys(splits, 1.0),
        skipped=(),
        padded=0,
        files=tuple(files),
        metadata=metadata_checksums(data_dir),
        folds=folds,
        inputs=inputs,
    )
    write_preparation(data_dir, preparation)
    return preparation
