"""The authors' published models as this project's.

Source: `*.pth.tar` weights and `*.mat` statistics of Lin, Sridhar & Busso's repository,
winston-lin-wei-cheng/DeepEmoClusters.

Neither is trusted: weights are read by PyTorch's weights-only unpickler, which calls only constructors of tensors and
containers, and SciPy's reader of MATLAB files creates only arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from emocluster_jax.config import DEFAULT_AUDIO, ClusteringConfig, FeatureConfig, ModelConfig
from emocluster_jax.errors import InputError
from emocluster_jax.inference.model_directory import SavedModel
from emocluster_jax.interop.torch_weights import variables_from_torch
from emocluster_jax.storage.checksums import file_sha256

_MARKS = {"arousal": "act", "dominance": "dom", "valence": "val"}
"""The attributes' names in the published file names."""


def import_published(weights: Path, norm: Path, attribute: str) -> SavedModel:
    """A published model, without centroids, ready for `model_directory.save_model`.

    Args:
      weights: a `.pth.tar` file of the published repository, or one of the same network.
      norm: the folder with its `feat_norm_means.mat`, `feat_norm_stds.mat`, and those of the attribute.
      attribute: arousal, dominance or valence, which the file does not name.

    Raises:
      InputError: PyTorch is not installed; a file is missing, damaged, has anything but plain arrays, or belongs to
        another attribute or network.
    """
    if attribute not in _MARKS:
        raise InputError(f"attribute {attribute!r} is unknown; expected one of {', '.join(_MARKS)}")
    mark = weights.name.split(".")[0].rpartition("_")[2].lower()
    named = next((name for name, theirs in _MARKS.items() if theirs == mark), attribute)
    if named != attribute:
        raise InputError(
            f"{weights.name} is a model of {named} by its name, not of {attribute}; give `attribute={named}`"
        )
    features = FeatureConfig()
    label = _MARKS[attribute]
    statistics: dict[str, Any] = {
        "feature_mean": _read_norm(norm / "feat_norm_means.mat", features.mel_bands),
        "feature_std": _read_norm(norm / "feat_norm_stds.mat", features.mel_bands),
        "label_mean": _read_norm(norm / f"{label}_norm_means.mat", 1),
        "label_std": _read_norm(norm / f"{label}_norm_stds.mat", 1),
    }
    if statistics["feature_std"].min() <= 0 or statistics["label_std"].min() <= 0:
        raise InputError(f"{norm} has a standard deviation that is not positive; download it again")
    variables = variables_from_torch(_read_state_dict(weights))
    params = variables["params"]
    attributes = len(params["attribute_regressor"]["output"]["bias"])
    if attributes != 1:
        raise InputError(f"{weights} predicts {attributes} attributes; published models predict one")
    clusters = len(params["cluster_classifier"]["output"]["bias"])
    return SavedModel(
        config=ModelConfig(attributes=(attribute,), clusters=clusters),  # type: ignore[arg-type]
        clustering=ClusteringConfig(),
        features=features,
        variables=variables,
        transform=None,
        centroids=None,
        audio=DEFAULT_AUDIO,
        origin={"imported_from": weights.name, "sha256": file_sha256(weights)},
        **statistics,
    )


def _read_norm(path: Path, length: int) -> Float[np.ndarray, " length"]:
    import scipy.io

    if not path.is_file():
        raise InputError(f"{path} is missing; give the folder of published statistics (norm/)")
    try:
        value = scipy.io.loadmat(path, variable_names=["normal_para"])["normal_para"]
    except KeyError:
        raise InputError(f"{path} holds no `normal_para`; give the folder of published statistics (norm/)") from None
    except Exception as error:  # SciPy raises whatever the parsing of a damaged file leads to
        raise InputError(f"{path} is not a readable MATLAB file ({_brief(error)}); download it again") from None
    if not np.issubdtype(value.dtype, np.floating) or value.size != length or not np.isfinite(value).all():
        raise InputError(
            f"{path} holds {value.size} values of {value.dtype}, expected {length} finite numbers; download it again"
        )
    return value.astype(np.float32).reshape(-1)


def _read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a PyTorch checkpoint by name."""
    try:
        import torch
    except ImportError:
        raise InputError('PyTorch is needed to read its weights: pip install "emocluster_jax[import]"') from None
    if not path.is_file():
        raise InputError(f"{path} is not a file; give a published .pth.tar file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever damaged bytes lead it to
        raise InputError(
            f"{path} is not a checkpoint of plain tensors, and nothing else is read ({_brief(error)}); "
            "give a published .pth.tar file"
        ) from None
    state_dict: Any = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else None
    if not isinstance(state_dict, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state_dict.items()
    ):
        raise InputError(f"{path} holds no `state_dict` of named tensors; give a published .pth.tar file")
    try:
        return {name: _as_numpy(tensor) for name, tensor in state_dict.items()}
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise InputError(f"{path} has tensors that are not plain arrays ({_brief(error)})") from None


def _as_numpy(tensor: Any) -> np.ndarray:
    # A tensor of any size can be declared over a few stored numbers, with all rows on top of one another.
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise TypeError(f"a tensor of {tensor.numel()} elements with fewer stored")
    return (tensor.detach().float() if tensor.is_floating_point() else tensor.detach()).numpy()


def _brief(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]
