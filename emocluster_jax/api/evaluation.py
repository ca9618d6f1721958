"""How good a model is on a prepared split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from emocluster_jax.api.data_for_model import open_data_for
from emocluster_jax.api.frames import recordings_frame
from emocluster_jax.api.requests import EvaluateRequest, asked_by
from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.evaluate import EmbeddingSample, Evaluation, evaluate_split
from emocluster_jax.evaluation.sentences import Scores
from emocluster_jax.feed.choice import resolve_feed
from emocluster_jax.feed.from_records import load_split
from emocluster_jax.inference.model_directory import model_folder, read_model
from emocluster_jax.records.reader import Descriptions, PreparedData
from emocluster_jax.runtime import parallel

if TYPE_CHECKING:
    import pandas

__all__ = ["EmbeddingSample", "Scores", "SplitEvaluation", "evaluate"]


@dataclass(frozen=True, eq=False, kw_only=True)
class SplitEvaluation(Evaluation):
    """An evaluation, and the prepared sentences that it is of.

    Attributes:
      data: the prepared records.
      split: which of their splits.
    """

    data: PreparedData
    split: str

    def describe(self) -> Descriptions:
        """Ids, speakers, genders and durations of the sentences, in the same order; read from the records."""
        return self.data.describe(self.split)

    def to_frame(self) -> pandas.DataFrame:
        """`arousal_truth` and `arousal_prediction`, and so on, in label units, in audformat's segmented index.

        The names of the recordings' files, and where the recordings begin and end, are read from the records.

        Raises:
          InputError: pandas is not installed, or the records have gone.
        """
        sentences = self.describe()
        columns: dict[str, Float[np.ndarray, " U"]] = {}
        for name, truth, predictions in zip(self.attributes, self.truth.T, self.predictions.T, strict=True):
            columns |= {f"{name}_truth": truth, f"{name}_prediction": predictions}
        return recordings_frame(sentences, columns)


@asked_by(EvaluateRequest)
@parallel.freed_programs()
def evaluate(request: EvaluateRequest) -> SplitEvaluation:
    """Predicts every sentence of a prepared split as the mean over its chunks, and scores the predictions.

    The arguments are the fields of `EvaluateRequest`.

    Returns:
      U sentences' truth and predictions, (U, A) float32 in label units, and by attribute CCC, Pearson's r (both -1 to
      1) and RMSE (in label units) over the sentences that have a label and a finite prediction.

    Raises:
      InputError: there is no model, no such data, split or fold, or the data were prepared for another model.
    """
    console, model, split = request.console or Console(), Path(request.model), request.split
    with parallel.all_or_none():
        saved = read_model(model_folder(model))
        if not saved.knows_labels:
            raise InputError(f"{model} was trained without labels and predicts none; give a model to score that does")
        data = open_data_for(saved, model, Path(request.data_dir), request.fold, console)
        size = len(data.locate(split).positions)
    if not parallel.same_everywhere(repr((split, data.fold, data.preparation.fingerprint, saved.config, saved.origin))):
        raise InputError("the processes have different models, data or splits; give all the same options")
    chosen = resolve_feed(request.feed, [size], data.preparation.features, console)
    loaded = load_split(data, split, console, feed=chosen, inputs=saved.inputs)
    evaluation = evaluate_split(saved, loaded, lambda rows: data.describe(split, rows).ids, console)
    return SplitEvaluation(**vars(evaluation), data=data, split=split)
