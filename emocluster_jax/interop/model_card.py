"""A model card from the numbers of a run: Markdown with front matter as in huggingface.co/docs/hub/model-cards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emocluster_jax.config import Features, FrontEndFeatures, FrontEndName, GivenFeatures
from emocluster_jax.console import audio_duration, counted
from emocluster_jax.corpora.inputs import FurtherInput
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.calibration import calibrations
from emocluster_jax.evaluation.cluster_information import ClusterInformation
from emocluster_jax.evaluation.metrics import SELECTIONS, Scores, ScoresAlone, score_rows
from emocluster_jax.evaluation.run_results import CLUSTERS_FILE, TEST_SCORES, RunScores, read_clusters, read_run_scores
from emocluster_jax.feed.split import mask_name
from emocluster_jax.inference.model_directory import SavedModel
from emocluster_jax.models.registry import NETWORKS
from emocluster_jax.preprocessing.front_ends import library
from emocluster_jax.records.folds import describe_fold
from emocluster_jax.records.preparation import Preparation
from emocluster_jax.training.workdir import RUN_FILE, SavedRun, read_run

PAPER = (
    "Wei-Cheng Lin, Kusha Sridhar and Carlos Busso, "
    '"DeepEmoCluster: a Semi-Supervised Framework for Latent Cluster Representation of Speech Emotions", ICASSP 2021'
)
_METRICS = (("ccc", "CCC", "ccc"), ("pearsonr", "Pearson r", "pearson"), ("rmse", "RMSE", "rmse"))
"""Type and name in the front matter, and the field of `Scores`."""
UNKNOWN = "unknown"

# Code of the card, which imports nothing of this project.
_SETTINGS = """import numpy as np

config = json.load(open("config.json"))
f = config["features"]
"""
_MEL = """signal = librosa.resample(signal, orig_sr=rate, target_sr=f["sample_rate_hz"], res_type="soxr_hq")
frames = librosa.feature.melspectrogram(
    y=signal / np.abs(signal).max(),
    sr=f["sample_rate_hz"],
    n_fft=f["fft_size"],
    hop_length=f["hop_size"],
    n_mels=f["mel_bands"],
    pad_mode="constant",
).T
"""
_OF_16_KHZ = """signal = librosa.resample(signal, orig_sr=rate, target_sr=16_000, res_type="soxr_hq")
signal = signal / np.abs(signal).max()  # up to 30 s; this project cuts longer recordings into parts
"""
_OPENSMILE = """smile = opensmile.Smile(feature_set=f["name"], feature_level="lld")
frames = smile(signal * 32767 / 32768, 16_000)[0].T  # (time, dimension); a sample of 1 would overflow
"""
_TRANSFORMERS = """extractor = AutoFeatureExtractor.from_pretrained(f["name"], revision=f["revision"] or "main")
encoder = AutoModel.from_pretrained(f["name"], revision=f["revision"] or "main", use_safetensors=True).eval()
with torch.no_grad():
    values = extractor(signal, sampling_rate=16_000, return_tensors="pt").input_values
    outputs = encoder(values, output_hidden_states=True)
states = outputs.last_hidden_state if f["layer"] is None else outputs.hidden_states[f["layer"]]
frames = states[0].numpy()  # (time, dimension)
"""
_FRONT_ENDS: dict[FrontEndName, tuple[str, str, str]] = {
    "opensmile": ("opensmile", "import opensmile\n", _OPENSMILE),
    "transformers": (
        "torch transformers",
        "import torch\nfrom transformers import AutoFeatureExtractor, AutoModel\n",
        _TRANSFORMERS,
    ),
}
"""Packages, imports, and what makes frames of a signal."""
_CUT = """normalised = (frames - config["feature_mean"]) / config["feature_std"]
normalised = np.nan_to_num(normalised).clip(-f["clip"], f["clip"])
length, count = config["input"]["chunks"]["shape"][1], f["chunks_per_utterance"]
normalised = np.pad(normalised, ((0, max(0, length - len(normalised))), (0, 0)))
step = (len(normalised) - length) // max(count - 1, 1)
chunks = np.stack([normalised[i * step : i * step + length] for i in range(count)]).astype(np.float32)"""
_ONNX = """import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
attributes = session.run(["attributes"], {"chunks": chunks})[0].mean(axis=0)
"""
_STABLEHLO = """from jax import export

program = export.deserialize(bytearray(open("model.stablehlo", "rb").read()))
attributes = program.call({given})["attributes"].mean(axis=0)
"""


@dataclass(frozen=True)
class RunNumbers:
    """A model's run, its test scores, and the clusters of its epoch; empty if the model is not beside its run.

    A calibrated model has other scores than its run, and none are known.
    """

    saved: SavedRun | None = None
    scores: Mapping[str, Scores] = field(default_factory=dict)
    alone: ScoresAlone = field(default_factory=dict)
    clusters: ClusterInformation | None = None


def read_run_numbers(model_folder: Path, model: SavedModel) -> RunNumbers:
    """The numbers of the run, if the model is in a run's work directory.

    Raises InputError if a file of the run is damaged, or it or the model belongs to another run.
    """
    workdir = model_folder.absolute().parent
    if not (workdir / RUN_FILE).exists() or "training" not in model.origin:
        return RunNumbers()
    saved = read_run(workdir)
    if saved.id and model.origin.get("run") != saved.id:
        raise InputError(
            f"{model_folder} is not of the run that {workdir / RUN_FILE} describes; move it to a folder without one"
        )
    kept = RunScores() if calibrations(model) else read_run_scores(workdir / TEST_SCORES, saved.id)
    clusters = read_clusters(workdir / CLUSTERS_FILE, saved.id, model.origin.get("epoch"))
    return RunNumbers(saved, kept.scores, kept.alone, clusters)


def model_card(
    model: SavedModel,
    run: RunNumbers,
    preparation: Preparation | None,
    formats: Sequence[str],
    *,
    name: str,
    license: str = UNKNOWN,
) -> str:
    """The card of a model in `formats` of `export_folder`; without the `preparation` its data are not described.

    `license` is that of the weights, as an identifier of Hugging Face. Raises InputError if the preparation is not that
    of the run's data.
    """
    if preparation is not None and run.saved is not None and run.saved.data not in preparation.fingerprints:
        raise InputError("`data_dir` is not what the model was trained on; give the run's, or leave it out")
    import yaml

    front = yaml.safe_dump(_front_matter(model, run, preparation, name, license), sort_keys=False, allow_unicode=True)
    sections = [
        f"---\n{front}---",
        f"# {name}",
        _what(model),
        f"## Training\n\n{_training(model, run, preparation)}",
        *([f"## Calibration\n\n{_calibration(model)}"] if calibrations(model) else []),
        f"## Test scores\n\n{_test(model, run)}",
        *([] if run.clusters is None else [f"## What the clusters know\n\n{_information(run.clusters)}"]),
        f"## Limits\n\n{_limits(model, run, license)}",
        f"## Use\n\n{_use(model, formats)}",
        f"## Method\n\n{PAPER}.",
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(
    model: SavedModel, run: RunNumbers, preparation: Preparation | None, name: str, license: str
) -> dict[str, Any]:
    front: dict[str, Any] = {
        "license": license,
        "library_name": "emocluster_jax",
        "pipeline_tag": "audio-classification",
        "tags": ["audio", "speech", "speech-emotion-recognition", "jax", *model.config.attributes],
    }
    scores = [
        {"type": kind, "name": f"{title} of {attribute}", "value": round(getattr(of, score), 4) + 0.0}  # no -0.0
        for attribute, of in run.scores.items()
        for kind, title, score in _METRICS
        if math.isfinite(getattr(of, score))
    ]
    if not scores:
        return front
    corpus = UNKNOWN if preparation is None else preparation.corpus
    result = {
        "task": {"type": "audio-classification", "name": "Regression of emotional attributes"},
        "dataset": {"type": corpus, "name": corpus, "split": "test"},
        "metrics": scores,
    }
    metrics = [kind for kind, _, _ in _METRICS]
    return {**front, "metrics": metrics, "model-index": [{"name": name, "results": [result]}]}


def _what(model: SavedModel) -> str:
    config = model.config
    calibrated = calibrations(model)
    scales = ", ".join(
        f"{name} (on the scale of its calibration)"
        if name in calibrated
        else f"{name} (training labels {mean:.2f} ± {std:.2f})"
        for name, mean, std in zip(config.attributes, model.label_mean, model.label_std, strict=True)
    )
    clusters = (
        f" It tells which of {config.clusters} clusters a chunk belongs to." if NETWORKS[config.system].clusters else ""
    )
    network = f"{NETWORKS[config.system].title}, {config.width}"
    beside = f", and {', '.join(map(str, model.inputs))}" if model.inputs else ""
    return (
        f"Predicts from speech, in label units: {scales}.{clusters} The network ({network}) reads "
        f"{model.features.chunks_per_utterance} chunks of about one second of {model.features.summary}{beside}."
    )


def _training(model: SavedModel, run: RunNumbers, preparation: Preparation | None) -> str:
    origin = model.origin
    if "imported_from" in origin:
        return f"Imported from `{origin['imported_from']}` (SHA-256 `{origin.get('sha256', 'not known')}`)."
    if "training" not in origin:
        return "Not stated: the model directory does not name its origin."
    settings = origin["training"]
    lines, saved = [], run.saved
    if preparation is None:
        lines.append("- Data: not stated.")
    else:
        counts = ", ".join(
            f"{'labelled' if preparation.folds and split == 'train' else split} {counted(count, 'recording')} "
            f"({audio_duration(preparation.hours[split])})"
            for split, count in preparation.counts.items()
        )
        lines.append(f"- Data: corpus `{preparation.corpus}`: {counts}.")
        # Without its run it is unknown whether these are the model's folds.
        if preparation.folds and saved is not None and saved.config.fold is not None:
            lines.append(f"- {describe_fold(preparation, saved.config.fold)}.")
        if preparation.skipped:
            lines.append(f"- {len(preparation.skipped)} recordings could not be used.")
    if settings.get("unlabeled_size") is not None:
        lines.append(f"- At most {settings['unlabeled_size']} recordings of the unlabelled pool.")
    if settings.get("init_from") is not None:
        began = f" (SHA-256 of its arrays `{saved.initial_sha256}`)" if saved and saved.initial_sha256 else ""
        lines.append(f"- Began with the weights of `{Path(settings['init_from']).name}`{began}.")
    lines.append(f"- Seed {settings.get('seed')}, batches of {settings.get('batch_size')} recordings.")
    selection = SELECTIONS.get(settings.get("select_by"), SELECTIONS["ccc"])
    value = origin.get(selection.origin_entry)
    of = f" of {saved.config.epochs}" if saved else ""
    chosen = (
        f"the last one trained; no validation {selection.title} chose it"
        if value is None
        else f"the one with the best validation {selection.title}, {value:z.3f} ({selection.detail})"
    )
    lines.append(f"- Epoch {origin.get('epoch')}{of}: {chosen}.")
    if settings.get("stages") == "unsupervised":
        lines.append("- Trained without labels: its regressor is random and predicts nothing.")
    if settings.get("optimizer", {}).get("freeze_regressor"):
        lines.append("- The regressor was frozen at its random initial weights.")
    return "\n".join(lines)


def _calibration(model: SavedModel) -> str:
    found = calibrations(model)
    lines = [
        "The predictions of these attributes are shifted and scaled, by other label statistics than those of the "
        "training, so that they have the mean and deviation of the labels of these recordings:\n"
    ]
    for name, mean, std in zip(model.config.attributes, model.label_mean, model.label_std, strict=True):
        if (of := found.get(name)) is not None:
            fold = "" if of.fold is None else f" of fold {of.fold}"
            drawn = "" if of.seed is None else f", drawn with seed {of.seed}"
            lines.append(
                f"- {name}: {of.recordings} recordings of the split `{of.split}`{fold} of `{Path(of.data_dir).name}` "
                f"(corpus `{of.corpus}`){drawn}. The label mean is now {mean:.3f} and the deviation {std:.3f}; in "
                f"training they were {of.former_mean:.3f} and {of.former_std:.3f}."
            )
    return "\n".join(lines)


def _test(model: SavedModel, run: RunNumbers) -> str:
    if calibrations(model):
        return "None are known of the calibrated model; `launch.evaluate` scores it."
    if not run.scores:
        return "None are known: the model was exported without the scores of a run."
    rows = [
        (name, *map(_decimals, (of.ccc, of.pearson, of.rmse)), of.n) for name, of in score_rows(run.scores, run.alone)
    ]
    return (
        "On the test split, by sentence (mean over its chunks), RMSE in label units; one run, one seed.\n\n"
        f"{_table(('attribute', 'CCC', 'Pearson r', 'RMSE', 'sentences'), rows)}"
    )


def _decimals(score: float) -> str:
    return f"{score:z.3f}" if math.isfinite(score) else "not defined"


def _information(clusters: ClusterInformation) -> str:
    rows = [(name, f"{of.ami_of_sentences:z.3f}", f"{of.p_value:.3g}") for name, of in clusters.rows]
    return (
        "Mutual information of clusters and labels on the training split, corrected for chance by permutation of the "
        "labels over sentences, or over speakers for what belongs to them (0: no more than chance).\n\n"
        f"{_table(('label', 'adjusted mutual information', 'p'), rows)}"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["|" + "---|" * len(header), *(f"| {' | '.join(map(str, row))} |" for row in rows)]
    return "\n".join([f"| {' | '.join(header)} |", *lines])


def _limits(model: SavedModel, run: RunNumbers, license: str) -> str:
    lines = [
        f"- Attributes are what raters heard in the training recordings, on "
        f"{'the scale of their calibration' if calibrations(model) else 'their scale'}; other languages, recording "
        "conditions and kinds of speech were not tested unless a table above says so.",
        "- It describes how speech sounds, not what a person feels; decisions about people should not rest on it.",
    ]
    if not run.scores:
        lines.append("- Its quality has to be measured before it is used.")
    if NETWORKS[model.config.system].clusters:
        lines.append("- Clusters have no names; another training finds and numbers them differently.")
    if isinstance(model.features, FrontEndFeatures) and (notice := library(model.features.library).NOTICE):
        lines.append(f"- {notice}.")
    if license == UNKNOWN:
        lines.append("- The licence of the weights is not stated. The terms of the training recordings may bind it.")
    return "\n".join(lines)


def _use(model: SavedModel, formats: Sequence[str]) -> str:
    parts = [
        "`config.json` has the feature settings, the statistics that normalise them, and shapes and units of input and "
        "outputs."
    ]
    packages, code = _chunks_code(model)
    if "onnx" in formats or "stablehlo" in formats:
        parts.append(f"A recording's chunks, in this folder (`pip install {packages}`):\n\n```python\n{code}\n```")
    if "onnx" in formats:
        parts.append(f"Their prediction by ONNX Runtime (`pip install onnxruntime`):\n\n```python\n{_ONNX}```")
    if "stablehlo" in formats:
        parts.append(
            f"{'or' if 'onnx' in formats else 'Their prediction'} by JAX (`pip install jax flatbuffers`):"
            f"\n\n```python\n{_STABLEHLO.format(given='chunks, inputs' if model.inputs else 'chunks')}```"
        )
    if parts[1:]:
        parts.append(f"`attributes` then holds {', '.join(model.config.attributes)}, in label units.")
    if "safetensors" in formats:
        parts.append(
            "`model.safetensors` has the weights alone, under readable names: "
            '`safetensors.numpy.load_file("model.safetensors")`.'
        )
    return "\n\n".join(parts)


def _chunks_code(model: SavedModel) -> tuple[str, str]:
    """The packages and the code that make `chunks` of a recording as the model does; docs/export.md shows it, too."""
    audio = model.audio
    if isinstance(model.features, GivenFeatures):
        packages, imports = "numpy", ""
        rate = f"{model.features.frames_per_second:g}"
        frames = f'frames = np.load("speech.npy")  # (time, dimension), {rate} frames per second\n'
    else:
        packages, imports = "numpy librosa", "import librosa\n"
        mono = audio.channel is None
        signal = f'signal, rate = librosa.load("speech.wav", sr=None, mono={mono})\n'
        if not mono:
            signal += f"signal = np.atleast_2d(signal)[{audio.channel} - 1]\n"
        if audio.remove_dc:
            signal += "signal = signal - signal.mean()\n"
        frames = signal + _MEL
        if isinstance(model.features, FrontEndFeatures):
            package, imported, made = _FRONT_ENDS[model.features.library]
            packages, imports = f"{packages} {package}", imports + imported
            frames = signal + _OF_16_KHZ + made
    further = "".join(_input_code(given, model.features) for given in model.inputs)
    start = "\ninputs = {}" if further else ""
    return packages, f"import json\n\n{imports}{_SETTINGS}{frames}{_CUT}{start}{further}"


def _input_code(given: FurtherInput, features: Features) -> str:
    """The code that reads a further input, of the recording whose `chunks` are made, into `inputs`."""
    name, rate = given.name, given.frames_per_second
    read = f'np.load("{name}.npy")'
    if rate is None:
        array = f"{read}  # ({given.numbers},)"
    else:
        _, frames, numbers = given.shape(features)
        starts = f"np.arange(count) * step / {features.frames_per_second!r} * {rate!r}"
        array = (
            f"{read}  # (frames, {numbers}), {rate:g} frames per second\n"
            f"places = np.rint({starts}).astype(int)[:, None] + np.arange({frames})\n"
            f"{name} = {name}[places.clip(max=len({name}) - 1)]"
        )
    return (
        f"\n{name} = {array}\n"
        f'inputs["{name}"] = {name}[None].astype(np.float32)\n'
        f'inputs["{mask_name(name)}"] = np.ones(1, np.float32)  # where it is missing, both are zeros'
    )
