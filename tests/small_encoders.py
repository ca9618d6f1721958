"""Speech encoders of Hugging Face transformers with random weights, so small that they run in milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

Kind = Literal["wav2vec2", "wavlm"]
REASON = 'not installed; pip install "emocluster_jax[transformers]"'


def save_encoder(folder: Path, kind: Kind = "wavlm", seed: int = 0) -> Path:
    """Two layers of 16 numbers, of which wav2vec2 takes the signal as it is, and WavLM normalises it.

    The test is skipped where PyTorch or transformers is not installed.
    """
    torch = pytest.importorskip("torch", reason=f"PyTorch is {REASON}")
    transformers = pytest.importorskip("transformers", reason=f"transformers is {REASON}")
    torch.manual_seed(seed)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    size |= {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    if kind == "wavlm":
        config = transformers.WavLMConfig(**size, feat_extract_norm="layer", do_stable_layer_norm=True)
        model = transformers.WavLMModel(config)
    else:
        model = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**size))
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=kind == "wavlm").save_pretrained(folder)
    return folder
