"""Harm to any file of a data directory, an unfinished preparation, a run or a model: named, or without effect."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import settings

from emocluster_jax.api.training import fit
from emocluster_jax.clustering.embedding_transform import EmbeddingTransform
from emocluster_jax.config import DEFAULT_AUDIO, ClusteringConfig, FeatureConfig, TrainConfig
from emocluster_jax.console import Console
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError
from emocluster_jax.inference.model_directory import model_epoch, read_model, save_model
from emocluster_jax.models.registry import network_of
from emocluster_jax.objectives.stage import stages_of
from emocluster_jax.records import writer
from emocluster_jax.records.data_folder import unfinished_folder
from emocluster_jax.records.preparation import read_preparation
from emocluster_jax.records.reader import ChunkSource, open_data
from emocluster_jax.records.shard_work import ShardWork
from emocluster_jax.records.shards import plan_shards, request_sha256
from emocluster_jax.reporting.html.run_files import RunFiles, read_run_files
from emocluster_jax.runtime import parallel
from emocluster_jax.storage.atomic_files import write_json
from emocluster_jax.storage.json_files import sealed
from emocluster_jax.training.checkpoints import Checkpoint, Progress, restore_checkpoint, save_checkpoint
from emocluster_jax.training.steps import TrainState, create_train_state
from emocluster_jax.training.workdir import claim, locked, read_assignments, read_run
from harms import Harm, harmed, harms_of_file, harms_of_folder
from small_models import noise, small_model, write_recording
from small_records import vad, write_records
from small_training import FEATURES, MODEL, draw_recordings

pytestmark = pytest.mark.hypothesis  # few places of each file, unless its profile is `fuzz`

QUIET = Console(quiet=True)
SIZES = {"train": 12, "validation": 3, "test": 3, "unlabeled": 6}
CONFIG = TrainConfig(model=MODEL, epochs=2, batch_size=4)
IF_ABSENT = ("gone",)
LOOKED_AT = ("flip", "cut", "grow", "swap", "gone")
"""Of files without a checksum, which people look at and no part of a run goes by; another run's are found."""


@dataclass(frozen=True)
class Rule:
    """What relies on the files of one kind.

    Attributes:
      files: pattern of their paths below the tree's root; `*` is any part of one.
      read: reads what relies on them out of a tree; None where nothing does.
      may_change: kinds of harm that may change what is read without a word: "gone" where a file that is not there is
        one that was not written, or not yet.
      found: the share of the harms that is found, at least; the others are without effect.
      giant: whether the file is held in memory as a whole, and must not be where it is larger than it ever could be.
    """

    files: str
    read: Callable[[Path], Any] | None
    may_change: Sequence[str] = ()
    found: float = 0.4
    giant: bool = True


@dataclass(frozen=True)
class Tree:
    """A folder with all its files, another of the same kind, and the rules of its files.

    Attributes:
      root: the folder.
      other: the other one.
      rules: the first that a file's path matches is its rule.
      folders: what reads the folders that are checked as a whole, by pattern.
    """

    root: Path
    other: Path
    rules: Sequence[Rule]
    folders: Mapping[str, Callable[[Path], Any]] = field(default_factory=dict)

    def rule_of(self, path: Path) -> Rule:
        relative = path.relative_to(self.root)
        found = [rule for rule in self.rules if fnmatch(relative.as_posix(), rule.files)]
        assert found, f"{relative} is of a kind without a rule; say in {__name__} what reads it"
        return found[0]


def same(one: Any, other: Any) -> bool:
    """Equality to the bit of dataclasses, lists, dictionaries and arrays, NaN included."""
    one, other = _plain(one), _plain(other)
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        np.asarray(a).dtype == np.asarray(b).dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def check(tree: Tree, places: int, random: np.random.Generator, elsewhere: Path) -> None:
    """Harms every file and folder of a tree that has a rule, and reads what relies on it."""
    expected: dict[Callable[[Path], Any], Any] = {}
    files = sorted(path for path in tree.root.rglob("*") if path.is_file())
    rules = {path: tree.rule_of(path) for path in files}  # all, before any is harmed
    for path, rule in rules.items():
        if rule.read is None:
            continue
        if rule.read not in expected:
            expected[rule.read] = rule.read(tree.root)
        beside = [other for other in files if rules[other] is rule and other != path]
        foreign = _counterparts(tree, path)
        outcomes = [
            _outcome(tree.root, path, harm, rule, expected[rule.read], elsewhere)
            for harm in harms_of_file(path, places, random, _some(beside, path, random), foreign, rule.giant)
        ]
        assert np.mean(outcomes) >= rule.found, f"of the harms to {path.relative_to(tree.root)}, few are found"
    for pattern, read in tree.folders.items():
        folders = sorted(tree.root.glob(pattern))
        assert folders, f"no folder is {pattern}"
        for path in folders:
            rule = Rule(pattern, read)
            foreign = [tree.other / path.relative_to(tree.root)]
            for harm in harms_of_folder([folder for folder in folders if folder != path], foreign):
                assert _outcome(tree.root, path, harm, rule, None, elsewhere)


def _some(files: list[Path], path: Path, random: np.random.Generator) -> list[Path]:
    """Those of the same name, and two more."""
    drawn = random.permutation(len(files))[:2]
    return [file for i, file in enumerate(files) if file.name == path.name or i in drawn]


def _counterparts(tree: Tree, path: Path) -> list[Path]:
    """The other tree's file of the same name, or, where names are drawn, the one that is nearest in size."""
    file = tree.other / path.relative_to(tree.root)
    if not file.exists():
        file = next(tree.other.rglob(path.name), file)
    if file.exists():
        return [file]
    beside = [other for other in file.parent.glob("*") if other.is_file()]
    return sorted(beside, key=lambda other: abs(other.stat().st_size - path.stat().st_size))[:1]


def _outcome(root: Path, path: Path, harm: Harm, rule: Rule, expected: Any, elsewhere: Path) -> bool:
    """Whether the harm was found; fails unless it is without effect otherwise."""
    assert rule.read is not None
    what = f"{path.relative_to(root)}: {harm.name}"
    with harmed(path, harm, elsewhere):
        try:
            read = rule.read(root)
        except InputError as error:
            said = str(error)
        except BaseException as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
        else:
            said = ""
    if said:
        assert said.isprintable() and any(str(part) in said for part in (path, path.parent, root)), f"{what}: {said}"
    elif harm.kind not in rule.may_change:
        assert same(expected, read), f"{what}: not found, and something else is read"
    return bool(said)


@pytest.fixture(scope="session")
def places() -> int:
    """How many bits of a file are flipped, and half as many lengths kept: 4, and 200 with the profile `fuzz`."""
    return max(4, settings().max_examples // 25)


@pytest.fixture
def random() -> np.random.Generator:
    """The same in each run, or, with the profile `fuzz`, another; what failed says which bit or length it was."""
    return np.random.default_rng(0 if settings().derandomize else None)


# Data


def read_data(data_dir: Path) -> Any:
    """All that is in a data directory, by both ways to its chunks."""
    data = open_data(data_dir)
    found = {}
    for split in data.counts:
        resident, labels = data.read(split), data.describe(split).labels
        source = ChunkSource(data, split)
        streamed = np.array([source[i] for i in range(len(source))])
        assert same(streamed, resident.chunks) and same(labels, resident.labels)
        found[split] = resident
    return data.preparation, found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two data directories with the same rows, and files of the same names."""
    folder = tmp_path_factory.mktemp("data")
    made = folder / "one", folder / "other"
    for number, data_dir in enumerate(made):
        splits = {split: draw_recordings(size, 10 * number + i) for i, (split, size) in enumerate(SIZES.items())}
        write_records(data_dir, FEATURES, splits)
    return made


def test_data_directory(data: tuple[Path, Path], places: int, random: np.random.Generator, tmp_path: Path) -> None:
    rules = [
        Rule("*.array_record-*", read_data, giant=False),
        Rule("preparation.json", read_data),
        Rule("dataset_info.json", read_data, giant=False),
        Rule("features.json", read_data, giant=False),
    ]
    check(Tree(data[0], data[1], rules), places, random, tmp_path / "whole")


def test_records_that_are_damaged_after_a_streaming_run_began(
    data: tuple[Path, Path], places: int, random: np.random.Generator, tmp_path: Path
) -> None:
    """What ArrayRecord's own checksums do not cover decides on nothing."""
    data_dir, _ = data
    opened = open_data(data_dir)
    expected, path = opened.read("train").chunks, data_dir / opened.preparation.files[1].name
    began = ChunkSource(opened, "train")
    outcomes = []
    for harm in harms_of_file(path, 10 * places, random, [], [], giant=False):
        if harm.kind != "flip":
            continue
        with harmed(path, harm, tmp_path / "whole"):
            for source in (began, ChunkSource(opened, "train")):
                read: list[np.ndarray] = []
                try:
                    read.extend(source[i] for i in range(len(expected)))
                except InputError as error:
                    assert path.name in str(error)
                outcomes.append(len(read) < len(expected))
                np.testing.assert_array_equal(read, expected[: len(read)])
    assert np.mean(outcomes) > 0.2  # the file is 128 KiB of mostly zeros


# An unfinished preparation


class Corpus:
    """Two recordings to train on, a third that is known to crash its decoder, and one for validation."""

    def __init__(self, folder: Path, seed: int) -> None:
        folder.mkdir()
        self.features = FeatureConfig(mel_bands=8, chunk_frames=4, chunks_per_utterance=2)
        splits = {"a.wav": "train", "b.wav": "train", "crashes.wav": "train", "v.wav": "validation"}
        self.rows = []
        for i, (name, split) in enumerate(splits.items(), start=seed):
            path = write_recording(folder / name, noise(0.3, seed=i))
            self.rows.append(Utterance(name, path, split, labels=vad(1.0, 2.0, float(i))))

    def prepare(self, data_dir: Path) -> Any:
        """Begins, or goes on where it was left."""
        writer.prepare(self.rows, data_dir, self.features, "drawn", "/drawn", 1, QUIET)

    def resumed(self, root: Path) -> Any:
        """What comes of the unfinished preparation in this folder; the folder stays as it is."""
        copy = root.with_name("copy")
        shutil.rmtree(copy, ignore_errors=True)
        _copy_tree(root, copy)
        try:
            self.prepare(copy / "data")
            return read_data(copy / "data")
        except InputError as error:
            raise InputError(str(error).replace(str(copy), str(root))) from None


def _copy_tree(source: Path, target: Path) -> None:
    """As `shutil.copytree`, with pipes, whose writers it would wait for, and giants, which take no room."""
    subprocess.run(["cp", "-a", "--sparse=always", source, target], check=True)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, Corpus]:
    folder = tmp_path_factory.mktemp("corpora")
    return Corpus(folder / "one", 0), Corpus(folder / "other", 10)


WORK = "data.preparing/*/"
BEGUN_ANEW = ("flip", "cut", "grow", "foreign", "gone", "folder", "pipe", "giant")


@pytest.mark.parametrize("killed", ["in the first pass", "in the second pass", "at the end"])
def test_unfinished_preparation(
    corpora: tuple[Corpus, Corpus], killed: str, places: int, random: np.random.Generator, tmp_path: Path
) -> None:
    roots = tmp_path / "one", tmp_path / "other"
    for root, corpus in zip(roots, corpora, strict=True):
        root.mkdir()
        _kill(corpus, root / "data", killed)
    resumed = corpora[0].resumed
    first_pass = killed == "in the first pass"
    rules = [
        Rule(f"{WORK}finished/*.array_record-*", resumed, giant=False),
        Rule(f"{WORK}finished/*.json", resumed, found=0),  # written anew
        Rule("data.preparing/lock", resumed, found=0),
        # What is of another request is removed, and the preparation begins anew.
        Rule("data.preparing/request.sha256", resumed, may_change=BEGUN_ANEW, found=0),
        Rule(f"{WORK}crashing.json", resumed if first_pass else None, IF_ABSENT),
        Rule(f"{WORK}*.mel", resumed, giant=False),
        Rule(f"{WORK}*.moments.npy", resumed if first_pass else None, giant=False),
        Rule(f"{WORK}*.spool.json", resumed, IF_ABSENT),
        Rule(f"{WORK}statistics.npz", resumed, IF_ABSENT),
        Rule(f"{WORK}*.json", resumed, IF_ABSENT),
        Rule(f"{WORK}*.array_record", resumed, giant=False),
    ]
    check(Tree(roots[0], roots[1], rules), places, random, tmp_path / "whole")


def _kill(corpus: Corpus, data_dir: Path, where: str) -> None:
    """Prepares as far as to a place where the process is killed."""
    request = request_sha256(corpus.rows, corpus.features, "train", None, DEFAULT_AUDIO)
    with unfinished_folder(data_dir, request) as work:
        write_json(work / "crashing.json", sealed({"crashing": {"crashes.wav": "its decoder crashes (SIGSEGV)"}}))
    *_, validation = plan_shards(corpus.rows)

    write = ShardWork.write

    def killed(*given: Any, **arguments: Any) -> None:
        if "statistics" in arguments:  # another worker has written the validation split meanwhile
            write(given[0], validation, **arguments)
        raise KeyboardInterrupt

    places = {
        "in the first pass": (writer, "feature_statistics"),
        "in the second pass": (ShardWork, "write"),
        "at the end": (writer, "write_preparation"),
    }
    module, name = places[where]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, name, killed)
        corpus.prepare(data_dir)


# A run


class Run:
    """A run of two epochs, and what reads its files."""

    def __init__(self, workdir: Path, data_dir: Path, config: TrainConfig) -> None:
        fit(data_dir, workdir, config, console=QUIET)
        self._config = config
        self._data = read_preparation(data_dir).fingerprint
        self._id = read_run(workdir).id
        stages = [stage for stage in stages_of(config, parallel.AXIS) if stage is not None]
        optimizers = {stage.name: stage.optimizer for stage in stages}
        key = jax.random.key(0, impl="rbg")
        self._template = create_train_state(network_of(config.model), FEATURES, optimizers, key)

    def saved(self, workdir: Path) -> Any:
        """The run, if its command would go on with it."""
        copy = workdir.with_name("claimed")
        shutil.rmtree(copy, ignore_errors=True)
        (copy / "checkpoints" / "epoch-000002").mkdir(parents=True)
        found = read_run(workdir)
        write_json(copy / "run.json", sealed({}))
        shutil.copy(workdir / "run.json", copy / "run.json")
        try:
            claim(copy, self._config, self._data, resume=True)
        except InputError as error:
            raise InputError(str(error).replace(str(copy), str(workdir))) from None
        assert same(read_run(copy), found)
        return found

    def lock(self, workdir: Path) -> None:
        with locked(workdir):
            pass

    def newest(self, workdir: Path) -> Any:
        return restore_checkpoint(workdir / "checkpoints", self._template, run_id=self._id)

    def earlier(self, workdir: Path) -> Any:
        """The checkpoint that is gone on from where a person has removed the newest, as the message says."""
        newest, aside = workdir / "checkpoints" / "epoch-000002", workdir.with_name("aside")
        newest.rename(aside)
        try:
            return self.newest(workdir)
        finally:
            aside.rename(newest)

    def model(self, workdir: Path) -> Any:
        return model_epoch(workdir / "model", self._id), read_model(workdir / "model")

    def assignments(self, workdir: Path) -> Any:
        clusters = self._config.model.clusters
        return [read_assignments(workdir, epoch, self._id, clusters) for epoch in (1, 2)]

    def report(self, workdir: Path) -> RunFiles:
        found = read_run_files(workdir)
        if found.problems:
            raise InputError("; ".join(found.problems))
        return found


@pytest.fixture(scope="module")
def run_of(data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path, Path]:
    """A run, its work directory, and that of a run of the same settings but for the seed."""
    folder = tmp_path_factory.mktemp("runs")
    run = Run(folder / "one", data[0], CONFIG)
    Run(folder / "other", data[0], dataclasses.replace(CONFIG, seed=1))
    return run, folder / "one", folder / "other"


def test_run(run_of: tuple[Run, Path, Path], places: int, random: np.random.Generator, tmp_path: Path) -> None:
    run, workdir, other = run_of
    rules = [
        Rule("run.json", run.saved),
        Rule(".lock", run.lock, found=0),
        Rule("checkpoints/epoch-000001/*", run.earlier),
        Rule("checkpoints/epoch-000002/*", run.newest),
        Rule("model/*", run.model),
        Rule("assignments/*.npz", run.assignments, IF_ABSENT),
        Rule("metrics.jsonl", run.report, LOOKED_AT, found=0),
        Rule("clusters.json", run.report, IF_ABSENT),
        Rule("test.json", run.report, IF_ABSENT),
        Rule("test_predictions.csv", run.report, IF_ABSENT),
        Rule("plots/*.png", None),
        Rule("tensorboard/*", None),
    ]
    folders = {
        "checkpoints/epoch-000001": run.earlier,
        "checkpoints/epoch-000002": run.newest,
        "model/weights-*": run.model,
    }
    check(Tree(workdir, other, rules, folders), places, random, tmp_path / "whole")


def test_a_damaged_checkpoint_names_the_one_before(tmp_path: Path) -> None:
    params = {"dense": {"kernel": np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32)}}
    state = TrainState(params, {"mean": np.zeros(20, np.float32)}, {"stage2": (np.int32(7), params)})  # type: ignore[arg-type]
    for epoch in (1, 2, 3):
        save_checkpoint(tmp_path, Checkpoint(state, Progress(epoch, best_epoch=1, best_value=0.5)))
    first, second = sorted(tmp_path.iterdir())
    assert (first.name, second.name) == ("epoch-000002", "epoch-000003")
    (second / "_METADATA").write_bytes(b"")
    with pytest.raises(InputError, match=rf"remove {second} and resume: the run then goes on from epoch-000002"):
        restore_checkpoint(tmp_path, state)
    shutil.rmtree(second)
    restored = restore_checkpoint(tmp_path, state)
    assert restored is not None and same(restored[0], state) and restored[1].epoch == 2
    (first / "_METADATA").write_bytes(b"")
    with pytest.raises(InputError, match=rf"remove {first} and resume: the run then goes on from the start"):
        restore_checkpoint(tmp_path, state)


# A model


def test_model_directory_with_principal_components(places: int, random: np.random.Generator, tmp_path: Path) -> None:
    for seed, name in enumerate(("one", "other")):
        drawn = np.random.default_rng(seed)
        mean, projection = (drawn.normal(size=shape).astype(np.float32) for shape in (32, (32, 8)))
        model = small_model(
            seed=seed,
            clustering=ClusteringConfig(pca_components=8),
            transform=EmbeddingTransform(mean, projection),  # pyright: ignore[reportArgumentType]
            centroids=drawn.normal(size=(5, 8)).astype(np.float32),
        )
        save_model(tmp_path / name, model)
    rules = [Rule("model.json", read_model), Rule("weights-000000/*", read_model)]
    tree = Tree(tmp_path / "one", tmp_path / "other", rules, {"weights-*": read_model})
    check(tree, places, random, tmp_path / "whole")
