from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from emocluster_jax.clustering.embedding_transform import EmbeddingTransform
from emocluster_jax.config import AudioConfig, ClusteringConfig
from emocluster_jax.errors import InputError
from emocluster_jax.inference.model_directory import model_epoch, read_model, save_model, settle, write_pending
from emocluster_jax.storage.json_files import sealed
from small_models import small_model


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    saved = small_model(
        ("arousal", "valence"),
        clustering=ClusteringConfig(pca_components=8, l2_normalize=True),
        transform=EmbeddingTransform(
            random.normal(size=32).astype(np.float32), random.normal(size=(32, 8)).astype(np.float32)
        ),
        centroids=random.normal(size=(5, 8)).astype(np.float32),
        origin={"note": "æøå"},
        audio=AudioConfig(channel=2, remove_dc=True, strict=True),
    )
    save_model(tmp_path / "model", saved)

    read = read_model(tmp_path / "model")

    for name in ("config", "clustering", "features", "origin", "audio"):
        assert getattr(read, name) == getattr(saved, name)
    for name in ("feature_mean", "feature_std", "label_mean", "label_std", "centroids"):
        np.testing.assert_array_equal(getattr(read, name), getattr(saved, name))
    assert read.transform is not None and saved.transform is not None
    for ours, theirs in zip(jax.tree.leaves(read.transform), jax.tree.leaves(saved.transform), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert jax.tree.structure(read.variables) == jax.tree.structure(saved.variables)
    for ours, theirs in zip(jax.tree.leaves(read.variables), jax.tree.leaves(saved.variables), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_model_without_centroids_has_none_after_reading(tmp_path: Path) -> None:
    save_model(tmp_path, small_model(centroids=None))
    assert read_model(tmp_path).centroids is None


def test_a_model_from_before_audio_settings_has_the_usual_ones(tmp_path: Path) -> None:
    save_model(tmp_path, small_model(audio=AudioConfig(channel=2)))
    values = json.loads((tmp_path / "model.json").read_text())
    del values["audio"], values["sha256"]
    (tmp_path / "model.json").write_text(json.dumps(sealed(values)))
    assert read_model(tmp_path).audio == AudioConfig()


def test_a_model_from_before_networks_over_chunks_were_systems_is_read(tmp_path: Path) -> None:
    model = small_model()
    save_model(tmp_path, model)
    description = json.loads((tmp_path / "model.json").read_text())
    del description["model"]["temporal_dropout_rate"], description["sha256"]
    description["model"]["temporal"] = "none"
    (tmp_path / "model.json").write_text(json.dumps(sealed(description)))
    assert read_model(tmp_path).config == model.config


def test_a_model_that_knows_no_labels_says_so(tmp_path: Path) -> None:
    unknown = np.full(2, np.nan, np.float32)
    save_model(tmp_path, small_model(("arousal", "valence"), label_mean=unknown, label_std=unknown))
    assert json.loads((tmp_path / "model.json").read_text())["label_std"] == {"arousal": None, "valence": None}
    read = read_model(tmp_path)
    assert not read.knows_labels and np.isnan(read.label_mean).all()


def test_a_newer_model_replaces_the_older(tmp_path: Path) -> None:
    save_model(tmp_path, small_model(seed=1))
    save_model(tmp_path, small_model(seed=2))

    assert read_model(tmp_path).origin == {"seed": 2}
    assert [path.name for path in tmp_path.glob("weights-*")] == ["weights-000001"]


def test_a_pending_model_counts_once_it_is_adopted(tmp_path: Path) -> None:
    save_model(tmp_path, small_model(seed=1, origin={"epoch": 1}))
    write_pending(tmp_path, small_model(seed=2, origin={"epoch": 2}))
    assert model_epoch(tmp_path) == read_model(tmp_path).origin["epoch"] == 1
    shutil.copytree(tmp_path, tmp_path / "other")
    settle(tmp_path / "other", 1)
    settle(tmp_path, 2)
    assert [read_model(folder).origin["epoch"] for folder in (tmp_path / "other", tmp_path)] == [1, 2]


def test_killed_at_every_change_to_files(tmp_path: Path) -> None:
    """Between the model, the checkpoint and what mends them, killed too: see model_kills_worker.py."""
    worker = [sys.executable, str(Path(__file__).with_name("model_kills_worker.py")), str(tmp_path)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(worker, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # Weights, description, checkpoint, and the removal of what is replaced: the old weights have ten files and folders.
    assert found["kills"] > 15 and found["old"] > 15 and found["new"] > 5, found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("written") / "model"
    save_model(directory, small_model())
    return directory


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "is of format version 99, and this program reads version 1"),
        ({"weights": "../elsewhere"}, "is not the name of a weights folder"),
        ({"weights": "/etc"}, "is not the name of a weights folder"),
        ({"weights": ["weights-000000"]}, "is not the name of a weights folder"),
        ({"weights": "weights-000007"}, "weights-000007"),
        ({"feature_mean": [0.0, 1.0]}, "feature_mean holds 2 values, expected 128"),
        ({"feature_std": "many"}, "feature_std"),
        ({"label_mean": {}}, "no entry 'arousal'"),
        ({"label_mean": {"arousal": None}}, "label_mean and label_std are not means and deviations"),
        ({"has_centroids": False}, "centroids"),
        ({"model": {"clusters": "ten"}}, "clusters is 'ten'"),
        ({"model": {"layers": 3}}, "unknown setting 'layers'"),
        ({"model": {"clusters": 6, "width_multiplier": 0.125}}, "does not fit"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(written: Path, tmp_path: Path, change: dict, message: str) -> None:
    directory = tmp_path / "model"
    shutil.copytree(written, directory)
    description = json.loads((directory / "model.json").read_text())
    (directory / "model.json").write_text(json.dumps(sealed(description | change)))

    with pytest.raises(InputError) as error:
        read_model(directory)

    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format_version": 1}', "\x00\x01"])
def test_a_damaged_description_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(InputError, match=r"model\.json"):
        read_model(tmp_path)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a model directory"):
        read_model(tmp_path)


def test_damaged_weights_are_refused(written: Path, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(written, directory)
    for path in (directory / "weights-000000").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="weights-000000"):
        read_model(directory)
