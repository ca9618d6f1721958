"""Embeddings for TensorBoard's projector, in files beside the event files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from emocluster_jax.storage.atomic_files import replacing

CONFIG = "projector_config.pbtxt"
EMBEDDINGS = "embeddings.tsv"
METADATA = "embeddings_metadata.tsv"


def write_projector(
    directory: Path, title: str, embeddings: Float[np.ndarray, "n E"], columns: Mapping[str, Sequence[object]]
) -> None:
    """Writes points and their metadata, replacing earlier ones.

    tensorboardX's `add_embedding` would not do: a full disk ends its writer's thread, it adds to earlier points, and it
    does not escape tabs and line breaks in names.

    Args:
      directory: the folder of the event files.
      title: the name of the points; printable ASCII without quotes.
      columns: at least two, by a name without tabs; the first one labels the points.
    """
    with replacing(directory / EMBEDDINGS) as temporary:
        np.savetxt(temporary, embeddings, fmt="%.6g", delimiter="\t")
    rows = [columns, *zip(*columns.values(), strict=True)]
    texts = {
        METADATA: "".join("\t".join(map(_cell, row)) + "\n" for row in rows),
        CONFIG: f'embeddings {{\n  tensor_name: "{title}"\n  tensor_path: "{EMBEDDINGS}"\n'
        f'  metadata_path: "{METADATA}"\n}}\n',
    }
    for name, text in texts.items():
        with replacing(directory / name) as temporary:
            temporary.write_text(text, "utf-8")


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if text.isprintable() else repr(text)[1:-1]
