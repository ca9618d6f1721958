"""Low-level descriptors of openSMILE, one frame every 10 ms: 25 numbers of eGeMAPSv02, 65 of ComParE_2016.

Source: Eyben, Wöllmer & Schuller, "openSMILE: the Munich versatile and fast open-source audio feature extractor", ACM
Multimedia 2010. Its licence allows research and other non-commercial use.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from jaxtyping import Float

from emocluster_jax.config import FrontEndFeatures
from emocluster_jax.errors import InputError, RecordingError
from emocluster_jax.preprocessing.front_ends import Encode

NOTICE = (
    "openSMILE is licensed for research and other non-commercial use, which holds for models that read its features, "
    "too; its licence: https://github.com/audeering/opensmile-python/blob/main/LICENSE"
)
_HOP, _WINDOW = 160, 800
_SHORTEST = 960
"""Samples of its longest window, 60 ms: its first and last frames are of less."""


def settings(name: str, layer: int | None) -> FrontEndFeatures:
    """The settings of a feature set; InputError if opensmile is not installed."""
    found = _installed(f"opensmile:{name}")
    size = _smile(name).num_features
    checksum = f"{name} of opensmile {found}"
    return FrontEndFeatures("opensmile", name, size, _HOP, _WINDOW, checksum, layer)


def load(features: FrontEndFeatures) -> Encode:
    """Raises InputError if opensmile is not installed, or in another version."""
    found = _installed(features.summary)
    expected = features.checksum.rpartition(" ")[2]
    if features.checksum != f"{features.name} of opensmile {found}":
        raise InputError(
            f"{features.summary} were made by opensmile {expected}, and {found} is installed: "
            f"pip install opensmile=={expected}"
        )
    smile = _smile(features.name)

    def encode(signal: Float[np.ndarray, " samples"]) -> Float[np.ndarray, "frames dimensions"]:
        if len(signal) < _SHORTEST:
            raise RecordingError("shorter than 0.06 s, which openSMILE takes at least")
        # It makes int16 of the samples, and 1 would overflow.
        (frames,) = smile(signal * np.float32(32767 / 32768), features.sample_rate_hz)
        return frames.T

    return encode


def uses_gpu() -> bool:
    return False


def _smile(name: str) -> Any:
    import opensmile

    return opensmile.Smile(feature_set=name, feature_level=opensmile.FeatureLevel.LowLevelDescriptors)


def _installed(what: str) -> str:
    try:
        return version("opensmile")
    except PackageNotFoundError:
        raise InputError(
            f'{what} needs the package opensmile, which is not installed: pip install "emocluster_jax[opensmile]" '
            "(for research and other non-commercial use)"
        ) from None
