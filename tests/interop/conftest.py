from __future__ import annotations

from pathlib import Path

import pytest

from emocluster_jax.inference.model_directory import SavedModel
from emocluster_jax.interop.published import import_published

FILES = {
    "arousal": "Vgg16DeepEmoCluster_epoch50_batch64_10clusters_Act.pth.tar",
    "dominance": "Vgg16DeepEmoCluster_epoch50_batch64_30clusters_Dom.pth.tar",
    "valence": "Vgg16DeepEmoCluster_epoch50_batch64_30clusters_Val.pth.tar",
}


@pytest.fixture(scope="session")
def published(reference: Path) -> dict[str, SavedModel]:
    """The three published models, by attribute."""
    pytest.importorskip("torch", reason='PyTorch is not installed; pip install "emocluster_jax[import]"')
    return {
        attribute: import_published(reference / "pretrained" / file, reference / "norm", attribute)
        for attribute, file in FILES.items()
    }
