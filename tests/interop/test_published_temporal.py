"""The published models that look across chunks, as files with the authors' names of arrays."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import scipy.io

from emocluster_jax.config import EmoClusterName
from emocluster_jax.errors import InputError
from emocluster_jax.inference.model_directory import read_model
from emocluster_jax.inference.predictor import Predictor
from emocluster_jax.interop.published import import_published
from emocluster_jax.models.registry import network_of
from launch import import_torch
from running import call

torch: Any = pytest.importorskip("torch", reason='PyTorch is not installed; pip install "emocluster_jax[import]"')
nn = torch.nn

CHUNKS, WIDTH = 11, 256
CHANNELS = (1, 32, 32, 64, 64, 128, 128, 128)
SYSTEMS: dict[EmoClusterName, str] = {
    "emocluster_gru": "Temp-GRU",
    "emocluster_cnn": "Temp-CNN",
    "emocluster_transformer": "Temp-Trans",
    "emocluster_triplet": "Temp-Triplet",
}
"""And how the authors' file names call them."""


class Published(nn.Module):
    """A network with the names that arrays have in the authors' files."""

    def __init__(self, system: str) -> None:
        super().__init__()
        layers: list[Any] = []
        for (inputs, outputs), stride in zip(pairwise(CHANNELS), (1, 1, 2, 2, 2, 2, 2), strict=True):
            convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
        self.cnn_features = nn.Sequential(*layers)
        self.cnn_out = nn.Sequential(nn.Linear(1024, WIDTH), nn.ReLU(), nn.Dropout(0.5))
        if system == "emocluster_gru":
            self.temporal_net = nn.GRU(WIDTH, WIDTH // 2, batch_first=True, bidirectional=True)
        elif system == "emocluster_cnn":
            first, second = nn.Conv2d(1, 16, 5, padding=2), nn.Conv2d(16, 1, 5, padding=2)
            norms = nn.BatchNorm2d(16), nn.BatchNorm2d(1)
            self.temporal_net = nn.Sequential(first, norms[0], nn.ReLU(), second, norms[1], nn.ReLU(), nn.Dropout(0.3))
        elif system == "emocluster_transformer":
            self.pos_enc = nn.Module()
            places = torch.arange(CHUNKS)[:, None] / 10_000 ** (torch.arange(0, WIDTH, 2) / WIDTH)
            encoding = torch.stack([torch.sin(places), torch.cos(places)], dim=-1).reshape(CHUNKS, 1, WIDTH)
            self.pos_enc.register_buffer("pe", encoding)
            self.temporal_net = nn.TransformerEncoderLayer(WIDTH, nhead=1, dim_feedforward=WIDTH, dropout=0.3)
        self.classifier = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.emo_regressor = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.top_layer_class = nn.Linear(WIDTH, 10)
        self.top_layer_attri = nn.Linear(WIDTH, 1)
        self.system = system

    def forward(self, chunks: Any) -> tuple[Any, Any]:
        """Cluster logits and attributes of the chunks (recordings, 11, 62, 128), one after another."""
        x = self.cnn_out(self.cnn_features(chunks.reshape(-1, 1, 62, 128)).flatten(1)).reshape(-1, CHUNKS, WIDTH)
        if self.system == "emocluster_gru":
            x, _ = self.temporal_net(x)
        elif self.system == "emocluster_cnn":
            x = self.temporal_net(x[:, None])[:, 0]
        elif self.system == "emocluster_transformer":
            x = self.temporal_net(x.transpose(0, 1) + self.pos_enc.pe).transpose(0, 1)
        x = x.reshape(-1, WIDTH)
        return self.top_layer_class(self.classifier(x)), self.top_layer_attri(self.emo_regressor(x))


@pytest.fixture(scope="module")
def chunks() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, CHUNKS, 62, 128)).clip(-3, 3).astype(np.float32)


@pytest.fixture(scope="module")
def norm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of statistics, of arousal alone."""
    folder, random = tmp_path_factory.mktemp("norm"), np.random.default_rng(1)
    for name, length in (("feat", 128), ("act", 1)):
        for statistic in ("means", "stds"):
            values = {"normal_para": random.uniform(1, 2, (1, length))}
            scipy.io.savemat(folder / f"{name}_norm_{statistic}.mat", values)
    return folder


@pytest.fixture(scope="module", params=SYSTEMS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A network in evaluation mode, and the file of its weights."""
    system = request.param
    torch.manual_seed(0)
    network = Published(system)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.ndim > 1 and "pos_enc" not in name:
                tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5)  # so that chunks differ in what comes out
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith(("running_mean", "bias")):
                tensor.normal_(0, 0.1)
    # Their networks were trained on several devices, which shows in these names.
    arrays = {name.replace("features.", "features.module."): array for name, array in network.state_dict().items()}
    name = f"TempDeepEmoCluster_epoch30_batch64_10clusters_Act_{SYSTEMS[system]}.pth.tar"
    path = tmp_path_factory.mktemp("weights") / name
    torch.save({"epoch": 30, "arch": "vgg16", "state_dict": arrays}, path)
    return network.eval(), path


def test_outputs_are_those_of_the_published_network(written: tuple[Any, Path], norm: Path, chunks: np.ndarray) -> None:
    network, path = written
    model = import_published(path, norm, "arousal")
    assert model.config.system == network.system and model.config.clusters == 10
    with torch.no_grad():
        logits, attributes = network(torch.from_numpy(chunks))

    output: Any = jax.jit(network_of(model.config).apply)(model.variables, {"audio": chunks})
    for ours, theirs in ((output.cluster_logits, logits), (output.attributes, attributes)):
        # Float32 sums in another order, through nine layers and the temporal network.
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))
        assert np.ptp(np.asarray(ours), axis=0).min() > 0.1


def test_a_model_directory_predicts_them(written: tuple[Any, Path], norm: Path, tmp_path: Path) -> None:
    network, path = written
    output = tmp_path / "model"
    given = ["--weights", path, "--norm", norm, "--attribute", "arousal", "--output", output]
    call(import_torch, *map(str, given))
    model = read_model(output)
    assert model.config.system == network.system
    prediction = Predictor(model)(np.random.default_rng(2).normal(size=16_000).astype(np.float32), 16_000)
    assert list(prediction.attributes) == ["arousal"] and np.isfinite(prediction.attributes["arousal"])
    assert prediction.chunk_clusters is not None and prediction.chunk_clusters.shape == (CHUNKS,)


def test_the_attribute_stands_in_the_middle_of_the_name(written: tuple[Any, Path], norm: Path) -> None:
    with pytest.raises(InputError, match="is a model of arousal by its name, not of valence"):
        import_published(written[1], norm, "valence")


def saved(written: tuple[Any, Path], folder: Path, **changes: Any) -> Path:
    """The file with some arrays replaced, or without those that are None."""
    state = {**torch.load(written[1], weights_only=True)["state_dict"], **changes}
    path = folder / "weights.pth.tar"
    torch.save({"state_dict": {name: value for name, value in state.items() if value is not None}}, path)
    return path


def test_damaged_arrays_are_named(written: tuple[Any, Path], norm: Path, tmp_path: Path) -> None:
    network, _ = written
    names = [name for name in network.state_dict() if name.startswith("temporal_net.") and "num_batches" not in name]
    if not names:  # triplets
        path = saved(written, tmp_path, **{"temporal_net.weight": torch.zeros(3)})
        with pytest.raises(InputError, match=r"does not have: temporal_net\.weight"):
            import_published(path, norm, "arousal")
        return
    lost = torch.full_like(network.state_dict()[names[0]], torch.nan)
    for value, message in ((None, "lack "), (torch.zeros(2, 2, 2), ""), (lost, "")):
        path = saved(written, tmp_path, **{names[0]: value})
        with pytest.raises(InputError, match=f"{message}{names[0]}"):
            import_published(path, norm, "arousal")
    if network.system == "emocluster_transformer":
        path = saved(written, tmp_path, **{"pos_enc.pe": torch.zeros(CHUNKS, 1, WIDTH)})
        with pytest.raises(InputError, match=r"pos_enc\.pe does not hold sinusoidal positions"):
            import_published(path, norm, "arousal")
        path = saved(written, tmp_path, **{"pos_enc.pe": None})
        assert import_published(path, norm, "arousal").config.system == network.system
