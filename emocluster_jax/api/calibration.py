"""A model's predictions brought to the scale of labelled recordings."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emocluster_jax.api.evaluation import open_data_for, read_labelled, run_on
from emocluster_jax.api.overview import Overview, Shown
from emocluster_jax.api.requests import CalibrateRequest, asked_by
from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.calibration import (
    CALIBRATION,
    FEW,
    Calibration,
    calibrations,
    matched_statistics,
)
from emocluster_jax.evaluation.evaluate import evaluate_split
from emocluster_jax.evaluation.metrics import Scores, score_sentences
from emocluster_jax.feed.from_records import load_split, resolve_feed
from emocluster_jax.inference.model_directory import may_take_model, save_model
from emocluster_jax.runtime.programs import freed_programs, keep_programs
from emocluster_jax.storage.disk import AGAIN, check_output_folder, writing

__all__ = ["CalibratedModel", "calibrate"]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class CalibratedModel(Shown):
    """A calibrated model, and the scores of its predictions for the recordings that it was calibrated on.

    They say what calibration changed; how good the model is, only other recordings tell.

    Attributes:
      model: its model directory.
      before: scores of the model that it was made from, by attribute.
      after: its own, equal to `before` for attributes that could not be calibrated.
    """

    model: Path
    before: dict[str, Scores]
    after: dict[str, Scores]

    def _overview(self) -> Overview:
        line = f"{self.model}: calibrated; on the recordings used, before and after:"
        rows = [
            (name, f"{old.ccc:z.3f}", f"{new.ccc:z.3f}", f"{old.rmse:.3f}", f"{new.rmse:.3f}", str(new.n))
            for (name, old), new in zip(self.before.items(), self.after.values(), strict=True)
        ]
        columns = ("attribute", "CCC before", "CCC after", "RMSE before", "RMSE after", "recordings")
        return Overview([line], columns, rows, len(rows))


@asked_by(CalibrateRequest)
@freed_programs()
def calibrate(request: CalibrateRequest) -> CalibratedModel:
    """Writes a model whose predictions for labelled recordings have the mean and the deviation of their labels.

    The arguments are the fields of `CalibrateRequest`. Each attribute is shifted and scaled (by a positive number) on
    the recordings that have a label of it; the CCC on these is Pearson's r then, the highest that such a map can reach.
    The network and its clusters stay as they are. The new model directory says what it was calibrated on. An attribute
    that cannot be calibrated stays as it is, with a warning.

    Raises:
      InputError: there is no model, data, split or fold, or the data were prepared for another model; the output is not
        a new folder; or no attribute can be calibrated, as fewer than 5 recordings have a label of it, or all labels or
        all predictions are the same.
    """
    keep_programs()
    console, model, output = request.console or Console(), Path(request.model), Path(request.output)
    check_output_folder("`output`", output)
    if not may_take_model(output):
        raise InputError(f"`output={output}` holds other files; give a new folder")
    saved = read_labelled(model)
    names, earlier = saved.config.attributes, calibrations(saved)
    data, split = open_data_for(saved, model, Path(request.data_dir), request.fold, console), request.split
    if split == "train" and run_on(data, model):
        console.warn(
            f"{model} was trained on these recordings, which it predicts better than others, so that it is calibrated "
            "too little; `split=validation` is better"
        )
    rows = np.flatnonzero(np.isfinite(data.describe(split).labels.of(names)).any(axis=1))
    if (wanted := request.recordings) is not None:
        if wanted > len(rows):
            raise InputError(
                f"`recordings` is {wanted}, and {len(rows)} recordings of the {split} split have a label of "
                f"{' or '.join(names)}; give as many at most, or leave it out"
            )
        rows = np.sort(np.random.default_rng(request.seed).permutation(rows)[:wanted])
    if not len(rows):
        raise InputError(
            f"no recording of the {split} split of {data.data_dir} has a label of {' or '.join(names)}; choose another "
            "`split`, or prepare recordings with labels"
        )
    feed = resolve_feed(request.feed, [len(rows)], data.preparation.features, console, saved.inputs)
    loaded = load_split(data, split, console, rows, feed, saved.inputs)
    found = evaluate_split(saved, loaded, lambda of: data.describe(split, rows[of]).ids, console)

    means, deviations = saved.label_mean.copy(), saved.label_std.copy()
    entries, refused = dict(earlier), {}
    for i, (name, mean, std) in enumerate(zip(names, saved.label_mean, saved.label_std, strict=True)):
        pair = found.truth[:, i], found.predictions[:, i]
        try:
            means[i], deviations[i] = matched_statistics(name, *pair, float(mean), float(std))
        except InputError as error:
            refused[name] = str(error)
            continue
        former = earlier.get(name)
        entries[name] = Calibration(
            data_dir=str(request.data_dir),
            corpus=data.preparation.corpus,
            data=data.preparation.fingerprint,
            split=split,
            recordings=found.scores[name].n,
            former_mean=former.former_mean if former else float(mean),
            former_std=former.former_std if former else float(std),
            fold=data.fold,
            seed=None if wanted is None else request.seed,
        )
    if len(refused) == len(names):
        raise InputError("; ".join(refused.values()))
    predictions = (found.predictions - saved.label_mean) / saved.label_std * deviations + means
    after = score_sentences(found.truth, predictions, names)
    for name, scores in after.items():
        if name in refused:
            console.warn(f"{name} is not calibrated: {refused[name]}")
            continue
        if scores.n < FEW:
            console.warn(f"{scores.n} recordings have a label of {name}: with fewer than {FEW} its scale is uncertain")
        if scores.pearson < 0:
            console.warn(
                f"predictions of {name} fall where its labels rise (Pearson r {scores.pearson:.3f}): calibrated, they "
                "have the labels' mean and deviation, and are of no more use than before"
            )
    calibration = {name: dataclasses.asdict(entry) for name, entry in entries.items()}
    origin = {**saved.origin, CALIBRATION: calibration}
    with writing(output, AGAIN):
        save_model(output, dataclasses.replace(saved, label_mean=means, label_std=deviations, origin=origin))
    return CalibratedModel(model=output, before=found.scores, after=after)
