from __future__ import annotations

import csv
import importlib.util
import os
import pickle
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.io

from emocluster_jax.errors import InputError
from emocluster_jax.inference.model_directory import SavedModel
from emocluster_jax.inference.predictor import Predictor
from emocluster_jax.inference.recordings import Recording, SegmentPrediction, predict_recordings
from emocluster_jax.interop.published import import_published
from emocluster_jax.models.emocluster import EmoCluster

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason='PyTorch is not installed; pip install "emocluster_jax[import]"'
)
pytestmark = pytest.mark.usefixtures("optimized")
EVERY = 13
MARKS = {"arousal": "Act", "dominance": "Dom", "valence": "Val"}


@pytest.mark.parametrize("attribute", MARKS)
def test_outputs_are_those_of_the_published_implementation(
    reference: Path, published: dict[str, SavedModel], attribute: str
) -> None:
    model = published[attribute]
    expected = np.load(reference / "parity" / "forward.npz")

    output: Any = jax.jit(EmoCluster(model.config).apply)(model.variables, {"audio": expected["chunks"][:, None]})

    found = {
        "shared": output.extras["shared"],
        "cluster_embedding": output.embeddings,
        "cluster_logits": output.cluster_logits,
        "attribute": output.attributes,
    }
    for name, value in found.items():
        stored = expected[f"{MARKS[attribute]}/{name}"]
        # 1e-4, or where the numbers are too large for float32 to be that exact, 1e-6 of the largest: dominance's
        # embeddings reach 4000, where the stored numbers themselves are 8e-4 from the same network in float64.
        tolerance = max(1e-4, 1e-6 * float(np.abs(stored).max()))
        np.testing.assert_allclose(np.asarray(value), stored, rtol=0, atol=tolerance, err_msg=name)


def test_statistics_and_settings_come_along(published: dict[str, SavedModel]) -> None:
    assert {name: model.config.clusters for name, model in published.items()} == {
        "arousal": 10,
        "dominance": 30,
        "valence": 30,
    }
    for name, model in published.items():
        assert model.config.attributes == (name,)
        assert model.centroids is None
    assert published["arousal"].label_mean == pytest.approx(4.394398)
    assert published["valence"].label_std == pytest.approx(0.883298)
    np.testing.assert_allclose(published["valence"].feature_mean[:2], [0.09699686, 0.12313872], rtol=1e-6)


def test_danish_recordings_are_predicted_as_published(
    reference: Path, emotale: Path, published: dict[str, SavedModel], pytestconfig: pytest.Config
) -> None:
    """Every 13th of them: some of each speaker, emotion and sentence. All take minutes."""
    with (reference / "parity" / "predictions.csv").open(newline="") as file:
        expected = {row.pop("file"): row for row in csv.DictReader(file)}
    predictors = [Predictor(model) for model in published.values()]
    assert len(expected) == 450
    chosen = list(expected)[:: 1 if pytestconfig.getoption("--all-recordings") else EVERY]
    recordings = [Recording(name, emotale / "audio" / name) for name in chosen]

    rows = list(predict_recordings(predictors, recordings))

    assert sorted(row.file for row in rows) == sorted(chosen)
    for row in rows:
        assert isinstance(row, SegmentPrediction)
        for prediction in row.predictions:
            for attribute, value in prediction.attributes.items():
                assert value == pytest.approx(float(expected[row.file][attribute]), abs=2e-3), (row.file, attribute)


@needs_torch
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(reference: Path, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(trap),)

    import torch

    plain, modern = tmp_path / "plain.pth.tar", tmp_path / "modern.pth.tar"
    plain.write_bytes(pickle.dumps({"arch": "vgg16", "state_dict": Trap()}))
    torch.save({"arch": "vgg16", "state_dict": {"cnn_out.0.bias": Trap()}}, modern)
    for path in (plain, modern):
        with pytest.raises(InputError, match="not a checkpoint of plain tensors") as error:
            import_published(path, reference / "norm", "arousal")
        assert "\n" not in str(error.value)
    assert not trap.exists()


@needs_torch
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short", b"\x80\x02}q\x00."])
def test_other_bytes_are_no_checkpoint(reference: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth.tar"
    path.write_bytes(content)
    with pytest.raises(InputError):
        import_published(path, reference / "norm", "arousal")


@needs_torch
@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ([1, 2], "no `state_dict`"),
        ({"state_dict": {"cnn_out.0.bias": [1.0]}}, "no `state_dict`"),
        ({"state_dict": {"cnn_out.0.bias": 1.0, 3: 4.0}}, "no `state_dict`"),
        ({"state_dict": {}}, "lack"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    reference: Path, tmp_path: Path, checkpoint: object, message: str
) -> None:
    import torch

    torch.save(checkpoint, tmp_path / "weights.pth.tar")
    with pytest.raises(InputError, match=message):
        import_published(tmp_path / "weights.pth.tar", reference / "norm", "arousal")


def test_without_pytorch_the_extra_is_named(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "weights.pth.tar").touch()
    with pytest.raises(InputError, match=r'pip install "emocluster_jax\[import\]"'):
        import_published(tmp_path / "weights.pth.tar", reference / "norm", "arousal")


def test_weights_of_another_attribute_are_refused_by_their_name(reference: Path) -> None:
    weights = next((reference / "pretrained").glob("*_Val.pth.tar"))
    with pytest.raises(InputError, match="`attribute=valence`"):
        import_published(weights, reference / "norm", "arousal")


def test_missing_files_are_named(reference: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"feat_norm_means\.mat is missing"):
        import_published(tmp_path / "weights.pth.tar", tmp_path, "arousal")


@needs_torch
def test_missing_weights_are_named(reference: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"weights\.pth\.tar is not a file"):
        import_published(tmp_path / "weights.pth.tar", reference / "norm", "arousal")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable MATLAB file"),
        (b"MATLAB 5.0 MAT-file" + bytes(200), "MATLAB|normal_para"),
        ({"other": np.ones(128)}, "no `normal_para`"),
        ({"normal_para": np.ones(127)}, "127 values"),
        ({"normal_para": np.full(128, np.nan)}, "128 finite numbers"),
        ({"normal_para": np.array([{"a": 1}] * 128, object)}, "object"),
        ({"normal_para": "text"}, "expected 128 finite numbers"),
        ({"normal_para": -np.ones(128)}, "not positive"),
    ],
)
def test_damaged_statistics_are_refused(reference: Path, tmp_path: Path, content: bytes | dict, message: str) -> None:
    norm = tmp_path / "norm"
    shutil.copytree(reference / "norm", norm, copy_function=shutil.copyfile)
    norm.chmod(0o755)
    path = norm / "feat_norm_stds.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        scipy.io.savemat(path, content)
    with pytest.raises(InputError, match=message):
        import_published(tmp_path / "weights.pth.tar", norm, "arousal")
