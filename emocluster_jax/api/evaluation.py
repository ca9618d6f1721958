"""How good a model is on a prepared split."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from emocluster_jax.api.frames import recordings_frame
from emocluster_jax.api.overview import Overview, Shown
from emocluster_jax.api.requests import EvaluateRequest, asked_by
from emocluster_jax.config import Engine
from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.by_input import scores_alone
from emocluster_jax.evaluation.calibration import calibrations, reachable
from emocluster_jax.evaluation.evaluate import EmbeddingSample, Evaluation, evaluate_split
from emocluster_jax.evaluation.metrics import Scores, ScoresAlone, score_rows
from emocluster_jax.feed.from_records import load_split, resolve_feed
from emocluster_jax.feed.split import Feed
from emocluster_jax.inference.engine import check_engine
from emocluster_jax.inference.model_directory import SavedModel, model_folder, read_model
from emocluster_jax.records.reader import Descriptions, PreparedData, open_data
from emocluster_jax.runtime import parallel
from emocluster_jax.runtime.programs import freed_programs, keep_programs
from emocluster_jax.training.workdir import RUN_FILE, SavedRun, read_run

if TYPE_CHECKING:
    import pandas

__all__ = ["EmbeddingSample", "Scores", "SplitEvaluation", "evaluate"]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SplitEvaluation(Shown, Evaluation):
    """An evaluation, with the prepared records and the split that it is of.

    Attributes:
      data: the records.
      split: its name.
      reachable: the highest CCC that calibration could give on this split, which is Pearson's r, of the attributes that
        have a CCC of more than 0.05 below it; those that were calibrated on these records are left out.
      alone: of models with further inputs, the scores by attribute and by the input that predicted alone, with the
        others hidden, of the sentences that have it.
    """

    data: PreparedData
    split: str
    reachable: dict[str, float]
    alone: ScoresAlone

    def describe(self) -> Descriptions:
        """Ids, speakers, genders and durations of the sentences, in the same order, from the records."""
        return self.data.describe(self.split)

    def to_frame(self) -> pandas.DataFrame:
        """The columns in audformat's segmented index.

        Raises:
          InputError: pandas is not installed, or the records, which have the files and times, are gone.
        """
        return recordings_frame(self.describe(), self.columns())

    def _overview(self) -> Overview:
        fold = "" if self.data.fold is None else f", fold {self.data.fold}"
        lines = [f"{self.split} split of {self.data.data_dir}{fold}: {len(self.truth)} recordings"]
        if self.reachable:
            most = ", ".join(f"{value:.3f} for {name}" for name, value in self.reachable.items())
            lines.append(f"calibration (emocluster_jax.calibrate) could raise the CCC to at most {most}")
        rows = [
            (name, f"{s.ccc:z.3f}", f"{s.pearson:z.3f}", f"{s.rmse:.3f}", str(s.n))
            for name, s in score_rows(self.scores, self.alone)
        ]
        return Overview(lines, ("attribute", "CCC", "Pearson r", "RMSE", "recordings"), rows, len(rows))

    def columns(self) -> dict[str, Float[np.ndarray, " U"]]:
        """`arousal_truth`, `arousal_prediction` and so on, in label units."""
        columns = {}
        for name, truth, predictions in zip(self.attributes, self.truth.T, self.predictions.T, strict=True):
            columns |= {f"{name}_truth": truth, f"{name}_prediction": predictions}
        return columns


@asked_by(EvaluateRequest)
@freed_programs()
def evaluate(request: EvaluateRequest) -> SplitEvaluation:
    """Predicts every sentence of a prepared split as the mean over its chunks, and scores the predictions.

    The arguments are the fields of `EvaluateRequest`.

    Returns:
      U sentences' truth and predictions, (U, A) float32 in label units, and by attribute CCC, Pearson's r (both -1 to
      1) and RMSE (in label units) over the sentences that have a label and a finite prediction.

    Raises:
      InputError: there is no model, no such data, split or fold, the data were prepared for another model, or the
        engine is not installed or cannot run the model.
    """
    keep_programs()
    console, model, split = request.console or Console(), Path(request.model), request.split
    with parallel.all_or_none():
        saved = read_labelled(model)
        check_engine(request.engine, saved)
        data = open_data_for(saved, model, Path(request.data_dir), request.fold, console)
        size = len(data.locate(split).positions)
        calibrated_on = {(of.data, of.split, of.fold) for of in calibrations(saved).values()}
    if not parallel.same_everywhere(repr((split, data.fold, data.preparation.fingerprint, saved.config, saved.origin))):
        raise InputError("the processes have different models, data or splits; give all the same options")
    if (data.preparation.fingerprint, split, data.fold) in calibrated_on and parallel.is_primary():
        console.warn(f"{model} was calibrated on this split: its scores here are better than on other recordings")
    chosen = resolve_feed(request.feed, [size], data.preparation.features, console, saved.inputs)
    return evaluate_prepared(saved, data, split, chosen, console, engine=request.engine)


def read_labelled(model: Path) -> SavedModel:
    """Reads a model directory, or that of a work directory; raises InputError if it was trained without labels."""
    saved = read_model(model_folder(model))
    if not saved.knows_labels:
        raise InputError(f"{model} was trained without labels and predicts none; give a model that does")
    return saved


def evaluate_prepared(
    model: SavedModel,
    data: PreparedData,
    split: str,
    feed: Feed,
    console: Console,
    sample: int = 0,
    *,
    engine: Engine,
) -> SplitEvaluation:
    """Evaluates a model on a split of records that are open; the embeddings of about `sample` sentences are kept."""
    loaded = load_split(data, split, console, feed=feed, inputs=model.inputs)
    evaluation = evaluate_split(model, loaded, lambda rows: data.describe(split, rows).ids, console, sample, engine)
    fitted = [name for name, of in calibrations(model).items() if of.data in data.preparation.fingerprints]
    most = {name: value for name, value in reachable(evaluation.scores).items() if name not in fitted}
    alone = scores_alone(model, loaded, console)
    return SplitEvaluation(**vars(evaluation), data=data, split=split, reachable=most, alone=alone)


def open_data_for(
    saved: SavedModel, model: Path, data_dir: Path, fold: int | None, console: Console, pool: bool = False
) -> PreparedData:
    """Opens records that were prepared as the model's training data were, with the fold to test on.

    The fold is by default that of the run beside the model, if these are its data; another one brings a warning. For
    the unlabelled pool, which is the same for all folds, none is needed.

    Raises:
      InputError: there are none, they have other features, inputs or normalisation, or no such fold is chosen.
    """
    data = open_data(data_dir, fold)
    features = data.preparation.features
    if saved.features != features:
        own = dataclasses.asdict(saved.features)
        different = [
            f"{name} {value}, not {own[name]}"
            for name, value in dataclasses.asdict(features).items()
            if own.get(name, value) != value
        ]
        raise InputError(
            f"{data_dir} was prepared with other feature settings than the model's training data "
            f"({'; '.join(different) or features.summary}); prepare it with the same"
        )
    statistics = data.preparation.feature_statistics
    if not saved.normalized_by(statistics.mean, statistics.std):
        raise InputError(
            f"{data_dir} was normalised with other statistics than the model's training data; prepare the corpus for "
            "this model, with `statistics_from` the model directory"
        )
    if missing := [str(given) for given in saved.inputs if given not in data.preparation.inputs]:
        raise InputError(
            f"{data_dir} does not have all inputs that the model reads: {', '.join(missing)}; prepare recordings with "
            "them"
        )
    if pool:
        return data
    if data.preparation.folds is not None and (run := run_on(data, model)):
        if fold is None:
            data = dataclasses.replace(data, fold=run.config.fold)
        elif fold != run.config.fold and parallel.is_primary():
            console.warn(
                f"the run of {model} had `fold={run.config.fold}`: it trained on what `fold={fold}` tests on, or "
                "chose its best epoch by it"
            )
    data.check_fold()
    return data


def run_on(data: PreparedData, model: Path) -> SavedRun | None:
    """The run of a model in its work directory, if it was trained on these data; InputError if its file is damaged."""
    workdir = model_folder(model).absolute().parent
    run = read_run(workdir) if (workdir / RUN_FILE).exists() else None
    return run if run and run.data in data.preparation.fingerprints else None
