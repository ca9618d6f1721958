"""Fine-tuning: a run that starts from the weights of another model, as far as they fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float

from emocluster_jax.config import Features, ModelConfig, TrainConfig
from emocluster_jax.console import Console
from emocluster_jax.corpora.inputs import FurtherInputs
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.calibration import calibrations
from emocluster_jax.inference.model_directory import SavedModel, model_folder, read_model
from emocluster_jax.objectives.optimizers import CLUSTER_HEAD, REGRESSOR
from emocluster_jax.storage.disk import check_path
from emocluster_jax.training.data import TrainingData
from emocluster_jax.training.steps import TrainState


def read_initial_model(config: TrainConfig, features: Features, inputs: FurtherInputs = ()) -> SavedModel | None:
    """The model that `config.init_from` names, if any.

    Raises InputError if it is not a model directory, or its network, features or further inputs are not the run's.
    """
    if config.init_from is None:
        return None
    check_path("`init_from`", Path(config.init_from))
    model = read_model(model_folder(Path(config.init_from)))
    theirs, ours = model.config, config.model
    if theirs.system != ours.system:
        fault = f"is a model of `system={theirs.system}`, and this run is one of {ours.system}; give that `system`"
    elif theirs.width_multiplier != ours.width_multiplier:
        width = ours.width_multiplier
        fault = f"has `width_multiplier={theirs.width_multiplier:g}`, and this run {width:g}; give the same"
    elif theirs.inputs != ours.inputs:
        read, given = (", ".join(names) or "nothing" for names in (theirs.inputs, ours.inputs))
        fault = f"reads {read} beside the audio, and this run {given}; give the same `inputs`"
    elif model.features != features:
        fault = "was trained on chunks of other feature settings than the data; prepare the data with the same"
    elif model.inputs != inputs:
        theirs, ours = (", ".join(map(str, given)) for given in (model.inputs, inputs))
        fault = f"reads {theirs}, and the data have {ours}; prepare inputs as it reads them"
    else:
        return model
    raise InputError(f"`init_from={config.init_from}` {fault}, or give another model to start from")


def in_label_units(
    initial: SavedModel, label_mean: Float[np.ndarray, " A"], label_std: Float[np.ndarray, " A"]
) -> SavedModel:
    """The model with other label statistics, which predicts the attributes that it was calibrated for as before.

    Their outputs are scaled and shifted by the regressor's last layer. Of other attributes the network's output stays,
    and so means as many deviations of other labels: scales of ratings differ from corpus to corpus.
    """
    calibrated = np.array([name in calibrations(initial) for name in initial.config.attributes])
    if not calibrated.any() or not np.isfinite(label_std).all():
        return initial
    scale = np.where(calibrated, initial.label_std / label_std, 1).astype(np.float32)
    shift = np.where(calibrated, (initial.label_mean - label_mean) / label_std, 0).astype(np.float32)
    params = initial.variables["params"]
    output = params[REGRESSOR]["output"]
    output = {"kernel": output["kernel"] * scale, "bias": output["bias"] * scale + shift}
    params = {**params, REGRESSOR: {**params[REGRESSOR], "output": output}}
    return dataclasses.replace(initial, variables={**initial.variables, "params": params})


def start_from(state: TrainState, initial: SavedModel, config: ModelConfig) -> tuple[TrainState, tuple[str, ...]]:
    """A fresh state with the weights and running statistics of another model of the same system and width.

    Also returns the layers that keep their random draw: the regressor's last layer if the attributes differ, the
    cluster classifier's if the number of clusters does.
    """
    drawn = [
        layer
        for layer, fits in (
            ((REGRESSOR, "output"), initial.config.attributes == config.attributes),
            (CLUSTER_HEAD, initial.config.clusters == config.clusters),
        )
        if not fits and layer[0] in state.params
    ]
    params = initial.variables["params"]
    for outer, inner in drawn:
        params = {**params, outer: {**params[outer], inner: state.params[outer][inner]}}
    variables = {"params": params, "batch_stats": initial.variables["batch_stats"]}
    taken = jax.tree.map(lambda own, value: np.asarray(value, own.dtype), state.variables, variables)
    started = TrainState(**taken, optimizer_states=state.optimizer_states)
    return started if state.average is None else started.averaging(), tuple(map("/".join, drawn))


def announce(
    initial: SavedModel, config: TrainConfig, drawn: Sequence[str], data: TrainingData, console: Console
) -> None:
    """Says which layers a fine-tuning takes over, and warns if the model was trained with another normalisation."""
    taken = "all layers taken over" if not drawn else f"drawn anew: {', '.join(drawn)}; all other layers taken over"
    console.line(f"Starts from {config.init_from}: {taken}")
    if (calibrated := list(calibrations(initial))) and f"{REGRESSOR}/output" not in drawn:
        console.line(f"Calibrated for {', '.join(calibrated)}: its predictions are what training begins with")
    if not initial.normalized_by(data.feature_mean, data.feature_std):
        console.warn(
            f"the data were normalised with other statistics than those that {config.init_from} was trained with; "
            f"prepare them with `statistics_from={config.init_from}` for inputs as its layers expect them"
        )
