"""Embeddings for TensorBoard's projector, which needs files beside the event files and nothing in them."""

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
    """Writes n points, in place of those that may be there, and what is known of them.

    Not by tensorboardX's `add_embedding`: it comes with a writer whose thread a full disk ends, adds the points to
    those of a run's former end, and puts names with tabs and line breaks into its table as they are.

    Args:
      directory: of the event files.
      title: what the projector calls the points; printable ASCII without quotes.
      embeddings: their places.
      columns: at least two, n values each, by a name without tabs; the first one labels the points.
    """
    with replacing(directory / EMBEDDINGS) as temporary:
        np.savetxt(temporary, embeddings, fmt="%.6g", delimiter="\t")
    lines = ["\t".join(columns)]
    lines += ["\t".join(map(_cell, row)) for row in zip(*columns.values(), strict=True)]
    with replacing(directory / METADATA) as temporary:
        temporary.write_text("\n".join(lines) + "\n", "utf-8")
    config = (
        f'embeddings {{\n  tensor_name: "{title}"\n  tensor_path: "{EMBEDDINGS}"\n  metadata_path: "{METADATA}"\n}}\n'
    )
    with replacing(directory / CONFIG) as temporary:
        temporary.write_text(config, "utf-8")


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if text.isprintable() else repr(text)[1:-1]
