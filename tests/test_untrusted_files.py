"""Files from strangers: loading them runs nothing, reads nothing elsewhere, and allocates what is there to be read."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from itertools import cycle
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import scipy.io
import tensorstore

from emocluster_jax.config import FeatureConfig
from emocluster_jax.errors import InputError
from emocluster_jax.inference.model_directory import read_model, save_model
from emocluster_jax.inference.predictor import load_model
from emocluster_jax.interop.published import import_published
from emocluster_jax.records.preparation import (
    Preparation,
    metadata_checksums,
    write_preparation,
)
from emocluster_jax.records.reader import ChunkSource, open_data
from emocluster_jax.storage.checksums import CHECKSUMS, file_sha256, write_checksums
from emocluster_jax.storage.json_files import sealed
from small_models import small_model
from small_records import write_records


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._folder),)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("written") / "model"
    save_model(directory, small_model())
    return directory


@pytest.fixture
def model(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "model"))


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """What a trap makes; a trap that works is tried first."""
    folder = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Trap(folder)))
    folder.rmdir()
    return folder


def trapped_files(trap: Path) -> dict[str, bytes]:
    """Bytes of each kind that runs code where it is loaded carelessly."""
    array = io.BytesIO()
    np.save(array, np.array([Trap(trap)], object), allow_pickle=True)
    arrays = io.BytesIO()
    np.savez(arrays, params=np.array([Trap(trap)], object))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Trap(trap)))
        file.writestr("archive/version", "3\n")
    return {
        "pickle": pickle.dumps(Trap(trap)),
        "old pickle": pickle.dumps(Trap(trap), protocol=0),
        "npy": array.getvalue(),
        "npz": arrays.getvalue(),
        "torch": archive.getvalue(),
        "yaml": f"!!python/object/apply:os.mkdir ['{trap}']\n".encode(),
    }


def test_a_model_directory_with_traps_in_place_of_its_files(model: Path, trap: Path) -> None:
    traps = trapped_files(trap)
    files = [path for path in (model / "weights-000000").rglob("*") if path.is_file()]
    for path, content in [
        *zip(files, cycle(traps.values()), strict=False),
        *((path, traps["pickle"]) for path in files),
    ]:
        whole = path.read_bytes()
        path.write_bytes(content)
        # Some of Orbax's files are not needed for reading; what is read is what was there.
        try:
            np.testing.assert_array_equal(read_model(model).centroids, small_model().centroids)
        except InputError as error:
            assert str(error).isprintable()
        path.write_bytes(whole)
    for content in traps.values():
        (model / "model.json").write_bytes(content)
        with pytest.raises(InputError, match=r"model\.json"):
            read_model(model)
    assert not trap.exists()


def test_a_model_directory_with_traps_beside_its_files(model: Path, trap: Path) -> None:
    """Among the weights no other file is accepted, with a checksum or without; beside them it plays no part."""
    traps, weights = trapped_files(trap), model / "weights-000000"
    beside = {f"{kind}.{suffix}": content for kind, content in traps.items() for suffix in ("pkl", "npy", "pt", "yaml")}
    beside |= {name: f"import os; os.mkdir({str(trap)!r})\n".encode() for name in ("__init__.py", "sitecustomize.py")}
    for name, content in beside.items():
        (model / name).write_bytes(content)
    assert load_model(model).attributes == ("arousal",)
    for name, content in beside.items():
        (weights / name).write_bytes(content)
        with pytest.raises(InputError, match="is not listed in"):
            load_model(model)
        (weights / name).unlink()
    # Where earlier versions of Orbax kept arrays, as msgpack.
    for content in traps.values():
        (weights / "checkpoint").write_bytes(content)
        reseal_weights(model)
        with pytest.raises(InputError, match="is damaged"):
            load_model(model)
    assert not trap.exists()


def describe(model: Path, **changed: Any) -> None:
    """Changes entries of a model's description, as who wishes the model ill does: with the checksum that fits."""
    values = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps(sealed(values | changed)))


def reseal_weights(model: Path) -> None:
    write_checksums(model / "weights-000000")
    describe(model, weights_sha256=file_sha256(model / "weights-000000" / CHECKSUMS))


@pytest.mark.parametrize("kind", ["pickle", "old pickle", "npy", "npz", "torch", "yaml"])
def test_published_weights_and_statistics_with_traps(tmp_path: Path, trap: Path, kind: str) -> None:
    pytest.importorskip("torch", reason='PyTorch is not installed; pip install "emocluster_jax[import]"')
    norm = _statistics(tmp_path / "norm")
    content = trapped_files(trap)[kind]
    weights = tmp_path / "weights.pth.tar"
    weights.write_bytes(content)
    with pytest.raises(InputError, match="not a checkpoint of plain tensors"):
        import_published(weights, norm, "arousal")
    (norm / "feat_norm_means.mat").write_bytes(content)
    with pytest.raises(InputError, match="not a readable MATLAB file"):
        import_published(weights, norm, "arousal")
    assert not trap.exists()


def test_metadata_that_name_modules_import_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow Datasets imports what the features.json of a folder names."""
    data_dir = tmp_path / "data"
    features = FeatureConfig(mel_bands=4, chunk_frames=2, chunks_per_utterance=2)
    preparation = write_records(
        data_dir, features, {"train": (np.zeros((3, 2, 2, 4), np.float16), np.ones((3, 3), np.float32))}
    )
    metadata = data_dir / "features.json"
    metadata.write_text(metadata.read_text().replace("tensorflow_datasets.core.features.", "trapped_module."))
    (tmp_path / "trapped_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert "trapped_module" in metadata.read_text()
    reseal(data_dir, preparation)
    assert ChunkSource(open_data(data_dir), "train")[2].shape == (2, 2, 4)

    information = json.loads((data_dir / "dataset_info.json").read_text())
    information["splits"][0]["filepathTemplate"] = str(
        tmp_path / "elsewhere" / "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    )
    (data_dir / "dataset_info.json").write_text(json.dumps(information))
    reseal(data_dir, preparation)
    assert ChunkSource(open_data(data_dir), "train")[2].shape == (2, 2, 4)


def reseal(data_dir: Path, preparation: Preparation) -> None:
    """Makes the checksums fit what a stranger has put into a data directory."""
    write_preparation(data_dir, dataclasses.replace(preparation, metadata=metadata_checksums(data_dir)))


@pytest.mark.parametrize("what", ["model.json", "weights-000000", "part"])
def test_links_out_of_a_model_directory_are_refused(model: Path, tmp_path: Path, what: str) -> None:
    path = model / what if what != "part" else next(p for p in model.glob("weights-*/**/*") if p.is_file())
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(InputError, match="is a link out of the model directory"):
        read_model(model)


def test_links_inside_hide_no_links_out(model: Path, tmp_path: Path) -> None:
    (model / "weights-000000").rename(model / "stored")
    (model / "weights-000000").symlink_to("stored")
    part = next(path for path in (model / "stored").rglob("*") if path.is_file())
    part.rename(tmp_path / "elsewhere")
    part.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link out of the model directory"):
        read_model(model)


@pytest.mark.parametrize("name", ["model.json", "weights-000000/_METADATA", "weights-000000/manifest.ocdbt"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(model: Path, name: str) -> None:
    (model / name).unlink()
    os.mkfifo(model / name)
    with pytest.raises(InputError, match=f"{name} is not a plain file"):
        read_model(model)


def test_a_link_to_a_model_directory_and_links_inside_are_fine(model: Path, tmp_path: Path) -> None:
    (model / "weights-000000").rename(model / "stored")
    (model / "weights-000000").symlink_to("stored")
    (tmp_path / "link").symlink_to(model)
    np.testing.assert_array_equal(read_model(tmp_path / "link").centroids, small_model().centroids)


@pytest.mark.parametrize(
    "name", ["../weights-000000", "weights-000000/../../x", "/etc", "weights-" + "\u0660" * 6, ".", ""]
)
def test_weights_are_named_inside_the_directory(model: Path, name: str) -> None:
    description = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps(sealed(description | {"weights": name})))
    with pytest.raises(InputError, match="is not the name of a weights folder"):
        read_model(model)


LIMITED = """
import resource, sys
from pathlib import Path
import jax
from emocluster_jax.errors import InputError
from emocluster_jax.inference.model_directory import read_model

jax.devices()
resource.setrlimit(resource.RLIMIT_AS, [int(Path("/proc/self/statm").read_text().split()[0]) * 4096 + (1 << 30)] * 2)
for directory in sys.argv[1:]:
    try:
        read_model(Path(directory))
        print("read")
    except InputError as error:
        print(error)
"""


def test_sizes_in_metadata_allocate_nothing(written: Path, tmp_path: Path) -> None:
    """Giant shapes in the description, of a stored array, and of its parts; within a gibibyte of address space."""
    directories = [Path(shutil.copytree(written, tmp_path / name)) for name in ("description", "array", "parts")]
    description = json.loads((directories[0] / "model.json").read_text())
    description["model"] |= {"clusters": 1_000_000, "width_multiplier": 64.0}
    (directories[0] / "model.json").write_text(json.dumps(sealed(description)))
    for directory, change in (
        (directories[1], {"shape": [1 << 40, 32]}),
        (directories[2], {"chunks": [1 << 20, 1 << 20]}),
    ):
        specification = {"driver": "ocdbt", "base": f"file://{directory}/weights-000000/"}
        stored = tensorstore.KvStore.open(specification).result()
        metadata = json.loads(stored.read("centroids/.zarray").result().value)
        stored.write("centroids/.zarray", json.dumps(metadata | change).encode()).result()
        reseal_weights(directory)

    command = [sys.executable, "-c", LIMITED, *directories, written]
    # The C library would reserve 64 MiB of address space a thread, and a busy machine has more of them at a time.
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "MALLOC_ARENA_MAX": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)

    assert ended.returncode == 0, ended.stderr
    description_said, array_said, parts_said, whole = ended.stdout.splitlines()
    assert "bytes of weights" in description_said
    assert "['centroids'] is float32[1099511627776, 32], expected float32[5, 32]" in array_said
    assert "is stored in parts of (1048576, 1048576)" in parts_said
    assert whole == "read"


def test_a_tensor_of_any_size_in_few_bytes(tmp_path: Path) -> None:
    """A stride of zero makes one stored number a matrix of a thousand million rows."""
    torch = pytest.importorskip("torch", reason='PyTorch is not installed; pip install "emocluster_jax[import]"')
    giant = torch.zeros(1).expand(10**9, 256)
    torch.save({"state_dict": {"top_layer_class.weight": giant}}, tmp_path / "weights.pth.tar")
    assert (tmp_path / "weights.pth.tar").stat().st_size < 10_000
    with pytest.raises(InputError, match="not plain arrays"):
        import_published(tmp_path / "weights.pth.tar", _statistics(tmp_path / "norm"), "arousal")


@pytest.mark.parametrize("version", ["4", "5"])
def test_statistics_that_claim_giant_shapes(tmp_path: Path, version: str) -> None:
    norm = _statistics(tmp_path / "norm")
    path = norm / "feat_norm_means.mat"
    scipy.io.savemat(path, {"normal_para": np.ones((1, 128))}, format=version)
    content = path.read_bytes()
    columns = content.index((128).to_bytes(4, "little"))
    path.write_bytes(content[:columns] + (1 << 30).to_bytes(4, "little") + content[columns + 4 :])
    with pytest.raises(InputError, match=r"feat_norm_means\.mat"):
        import_published(tmp_path / "weights.pth.tar", norm, "arousal")


def _statistics(folder: Path) -> Path:
    """A folder of statistics as the authors publish them."""
    folder.mkdir()
    for name, size in (("feat", 128), ("act", 1)):
        for kind in ("means", "stds"):
            scipy.io.savemat(folder / f"{name}_norm_{kind}.mat", {"normal_para": np.ones((1, size))})
    return folder


def test_the_weights_of_another_model_are_refused(model: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "other", small_model(seed=5))
    shutil.rmtree(model / "weights-000000")
    (tmp_path / "other" / "weights-000000").rename(model / "weights-000000")
    with pytest.raises(InputError, match=r"SHA256SUMS is damaged, or lists the files of another folder"):
        read_model(model)


def test_a_list_of_checksums_that_lacks_a_file_is_damage(model: Path) -> None:
    weights = model / "weights-000000"
    first, *rest = (weights / CHECKSUMS).read_text().splitlines(keepends=True)
    (weights / CHECKSUMS).write_text("".join(rest))
    with pytest.raises(InputError, match="SHA256SUMS is damaged"):
        read_model(model)
    # As versions wrote it that did not name the weights' checksums in the description.
    values = json.loads((model / "model.json").read_text())
    del values["weights_sha256"]
    (model / "model.json").write_text(json.dumps(sealed(values)))
    with pytest.raises(InputError, match=f"{first.split()[1]} is not listed in"):
        read_model(model)
    (weights / CHECKSUMS).write_text("".join([first, *rest]))
    assert read_model(model).config == small_model().config


@pytest.mark.parametrize("value", ["5", " 5", "1_000", True])
def test_what_is_not_a_number_is_not_taken_for_one(model: Path, value: object) -> None:
    values = json.loads((model / "model.json").read_text())
    describe(model, feature_mean=[*values["feature_mean"][:-1], value])
    with pytest.raises(InputError, match="feature_mean is not a list of numbers"):
        read_model(model)
    describe(model, feature_mean=values["feature_mean"], label_mean={"arousal": value})
    with pytest.raises(InputError, match="label_mean is not a list of numbers"):
        read_model(model)


@pytest.mark.parametrize("deviation", [0.0, -1.0, 1e-60])
def test_deviations_that_are_not_above_0_are_refused(model: Path, deviation: float) -> None:
    deviations = json.loads((model / "model.json").read_text())["feature_std"]
    describe(model, feature_std=[*deviations[:-1], deviation])
    with pytest.raises(InputError, match=r"feature_std holds .*, expected numbers above 0"):
        read_model(model)
    describe(model, feature_std=deviations, label_std={"arousal": deviation})
    with pytest.raises(InputError, match="label_mean and label_std are not means and deviations"):
        read_model(model)
    describe(model, feature_std=deviations, label_std={"arousal": 1.0}, label_mean={"arousal": 4e30})
    with pytest.raises(InputError, match="label_mean and label_std are not means and deviations"):
        read_model(model)


@pytest.mark.parametrize("name", ["model.json", "weights-000000/SHA256SUMS", "weights-000000/_METADATA"])
def test_how_large_a_file_is_is_seen_before_it_is_read(model: Path, name: str) -> None:
    """A file of 3 GiB, which takes no room on the disk, must not take it in memory: 1 GiB more is all that there is."""
    with (model / name).open("r+b") as file:
        file.truncate(3 << 30)
    code = f"""
        import resource
        from pathlib import Path
        from emocluster_jax.errors import InputError
        from emocluster_jax.inference.model_directory import read_model
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), -1))
        try:
            read_model(Path({str(model)!r}))
        except InputError as error:
            print(error)
    """
    said = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True, check=False)
    assert name.split("/")[0] in said.stdout and "bytes" in said.stdout, said
