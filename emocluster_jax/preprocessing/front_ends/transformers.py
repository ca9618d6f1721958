"""Hidden states of a speech encoder of Hugging Face `transformers` that reads waveforms: wav2vec 2.0, HuBERT, WavLM.

Its folder has `config.json`, `preprocessor_config.json` and weights in safetensors, a format that holds no code; code
beside them is never run. Frames are as many samples apart as the strides of its convolutions multiply to.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Float

from emocluster_jax.config import FrontEndFeatures
from emocluster_jax.errors import InputError
from emocluster_jax.preprocessing.front_ends import Encode
from emocluster_jax.storage.checksums import file_sha256

NOTICE = ""
_CONFIG, _EXTRACTOR, _WEIGHTS = "config.json", "preprocessor_config.json", "*.safetensors"
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
_UNUSED = {"masked_spec_embed"}
"""Weights that training alone uses; encoders that were fine-tuned for a task come without them."""
_PROBE_FRAMES = 20


def settings(name: str, layer: int | None) -> FrontEndFeatures:
    """The settings of an encoder in a folder or on the Hub, which is fetched into Hugging Face's own cache.

    Raises InputError if a package, a network or a file is missing, or it is not an encoder of waveforms of 16 kHz.
    """
    _check_installed(f"transformers:{name}")
    folder, revision = (Path(os.path.abspath(name)), "") if _is_folder(name) else _fetched(name, "")  # noqa: PTH100
    checksum, encoder = _checksum(folder), _Encoder(folder, layer)
    hop, window = encoder.hop_and_window
    frames = encoder(np.random.default_rng(0).uniform(-1, 1, window + hop * (_PROBE_FRAMES - 1)).astype(np.float32))
    if len(frames) != _PROBE_FRAMES:
        raise InputError(
            f"{folder} makes {len(frames)} frames where its convolutions make {_PROBE_FRAMES}; give an encoder without "
            "an adapter"
        )
    where = name if revision else str(folder)
    return FrontEndFeatures("transformers", where, frames.shape[1], hop, window, checksum, encoder.layer, revision)


def load(features: FrontEndFeatures) -> Encode:
    """Raises InputError if a package or the encoder is missing, or its files are other ones than before."""
    _check_installed(features.summary)
    if features.revision:
        folder, _ = _fetched(features.name, features.revision)
    elif _is_folder(features.name):
        folder = Path(features.name)
    else:
        raise InputError(
            f"the encoder of {features.summary} is gone: {features.name} is not a folder; put a copy of it there "
            f"(SHA-256 of its files {features.checksum})"
        )
    if (found := _checksum(folder)) != features.checksum:
        raise InputError(
            f"{folder} holds another encoder than the one of these features (SHA-256 of its files {found}, expected "
            f"{features.checksum}); restore it, or prepare and train with this one"
        )
    return _Encoder(folder, features.layer)


def uses_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


class _Encoder:
    """An encoder on the GPU, if there is one, else on the CPU, in float32; one thread at a time."""

    def __init__(self, folder: Path, layer: int | None) -> None:
        import torch
        from transformers import AutoFeatureExtractor, AutoModel

        local = {"local_files_only": True, "trust_remote_code": False}
        try:
            with _without_progress():
                self._extractor = AutoFeatureExtractor.from_pretrained(folder, **local)
                model, found = AutoModel.from_pretrained(
                    folder, use_safetensors=True, output_loading_info=True, **local
                )
        except Exception as error:
            # It has errors of many types for what is not an encoder, and for files that are damaged.
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise InputError(f"{folder} does not load as a speech encoder ({reason}); give another one") from None
        if lacking := sorted(set(found["missing_keys"]) - _UNUSED):
            raise InputError(
                f"{folder} lacks {len(lacking)} weights of its encoder (first: {lacking[0]}); give one that is whole"
            )
        if getattr(self._extractor, "sampling_rate", None) != FrontEndFeatures.sample_rate_hz:
            raise InputError(f"{folder} does not read waveforms of 16 kHz; give an encoder that does")
        strides, kernels = (getattr(model.config, name, None) for name in ("conv_stride", "conv_kernel"))
        if not strides or not kernels or self._extractor.model_input_names[0] != "input_values":
            raise InputError(f"{folder} does not read waveforms; give wav2vec 2.0, HuBERT, WavLM or one of their kind")
        layers = model.config.num_hidden_layers
        if layer is not None and layer > layers:
            raise InputError(f"{folder} has the layers 0 to {layers}; layer {layer} is not one of them")
        # Of the last layer's output, versions of transformers disagree whether it is before the closing normalisation.
        self.layer = None if layer == layers else layer
        spans = [1, *np.cumprod(strides).tolist()]
        window = 1 + sum((kernel - 1) * span for kernel, span in zip(kernels, spans[:-1], strict=True))
        self.hop_and_window = math.prod(strides), window
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.float().eval().to(self._device)
        self._lock = threading.Lock()

    def __call__(self, signal: Float[np.ndarray, " samples"]) -> Float[np.ndarray, "frames dimensions"]:
        import torch

        rate = FrontEndFeatures.sample_rate_hz
        with self._lock, torch.inference_mode(), torch.backends.cudnn.flags(deterministic=True, allow_tf32=False):
            values = self._extractor(signal, sampling_rate=rate, return_tensors="pt").input_values.to(self._device)
            outputs = self._model(values, output_hidden_states=self.layer is not None)
            states = outputs.last_hidden_state if self.layer is None else outputs.hidden_states[self.layer]
            return states[0].cpu().numpy()


def _checksum(folder: Path) -> str:
    """SHA-256 of the names and contents of all files that an encoder is made of, in hexadecimal."""
    weights = sorted(folder.glob(_WEIGHTS))
    if not weights:
        raise InputError(
            f"{folder} has no weights in safetensors; write them with transformers' `save_pretrained`, and give the "
            "folder that it wrote"
        )
    digest = hashlib.sha256()
    for path in (folder / _CONFIG, folder / _EXTRACTOR, *weights):
        if not path.is_file():
            raise InputError(
                f"{folder} has no {path.name}; give a folder that the encoder and its feature extractor were saved in"
            )
        try:
            digest.update(f"{path.name} {file_sha256(path)}\n".encode())
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}; check the encoder's files") from None
    return digest.hexdigest()


def _is_folder(name: str) -> bool:
    return os.path.isdir(name)  # noqa: PTH112 (False for names that no file system allows)


def _fetched(name: str, revision: str) -> tuple[Path, str]:
    """The folder of an encoder of the Hub, and its commit: the one asked for, or with "" the newest."""
    if not _HUB_NAME.fullmatch(name):
        raise InputError(f"{name} is neither a folder nor a name on the Hugging Face Hub; give one of an encoder")
    from huggingface_hub import snapshot_download

    asked = {"allow_patterns": [_CONFIG, _EXTRACTOR, _WEIGHTS], "revision": revision or None}
    try:
        folder = Path(snapshot_download(name, **asked))
    except Exception as error:
        # Of the network, the Hub and the disk, by whichever HTTP library there is.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise InputError(
            f"{name} is not a folder, and cannot be fetched from the Hugging Face Hub ({reason}); check the name and "
            "the network, or give a folder that it was saved in"
        ) from None
    return folder, folder.name


@contextmanager
def _without_progress() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _check_installed(what: str) -> None:
    for package in ("torch", "transformers"):
        if find_spec(package) is None:
            raise InputError(
                f"{what} needs the package {package}, which is not installed: "
                'pip install "emocluster_jax[transformers]"'
            )
