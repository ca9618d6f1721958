"""The data of a run's plots, which `plots` draws into PNG files and `html` into the page.

Colours are those of Okabe & Ito (2008), which colour-blind readers can tell apart; markers differ as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from emocluster_jax.training.metrics_log import loss_name, step_curves

LOWEST, HIGHEST = "#0072B2", "#D55E00"
"""Colours of the clusters with the lowest and the highest mean label."""

Metrics = Sequence[Mapping[str, Any]]
"""The metrics that `MetricsLog` wrote, one mapping per epoch; names may be absent or None."""


class Style(NamedTuple):
    """A colour and a marker of Matplotlib."""

    colour: str
    marker: str


_LABELS = {"arousal": Style("#D55E00", "o"), "dominance": Style("#0072B2", "s"), "valence": Style("#009E73", "^")}
_OTHER_LABELS = (
    *(Style("#CC79A7", "D"), Style("#E69F00", "v"), Style("#56B4E9", "P"), Style("#999999", "X")),
    *(Style("#8B6F47", "d"), Style("#8A63D2", "<"), Style("#A3A500", ">")),
)
_STAGES = {
    "stage1": (Style("#CC79A7", "s"), Style("#E69F00", "D"), Style("#999999", "P")),
    "stage2": (Style("#0072B2", "o"), Style("#009E73", "v"), Style("#56B4E9", "X")),
}
_CCC_LOSS = Style("#D55E00", "^")
_NMI = {
    "nmi_previous": ("labelled", Style("#0072B2", "o")),
    "nmi_previous_unlabeled": ("unlabelled", Style("#CC79A7", "s")),
}
_SMALLEST_CCC_RANGE = 0.1
"""Of the vertical axis: a network that has learnt nothing yet would otherwise fill it with its rounding errors."""
_SIZES = {"cluster_sizes": "labelled", "cluster_sizes_unlabeled": "unlabelled"}


class Curve(NamedTuple):
    """One quantity over the epochs; None leaves a gap."""

    title: str
    style: Style
    values: Sequence[float | None]


class Panel(NamedTuple):
    """Curves over the same epochs, each with at least one value, and the epoch to mark as kept, if any.

    The vertical axis reaches from `lowest` to `highest`; None leaves it to the curves.
    """

    title: str
    epochs: Sequence[int]
    curves: Sequence[Curve]
    lowest: float | None = None
    highest: float | None = None
    logarithmic: bool = False
    kept_epoch: int | None = None


class ClusterSizes(NamedTuple):
    """The number of chunks in each cluster, for epochs with clusters, the largest first.

    They are sorted because the numbers of clusters change their meaning from epoch to epoch.
    """

    title: str
    epochs: Sequence[int]
    chunks: Float[np.ndarray, "n K"]

    @property
    def percent(self) -> Float[np.ndarray, "n K"]:
        """The share of all chunks."""
        return 100 * self.chunks / np.maximum(self.chunks.sum(axis=1, keepdims=True), 1)


class Scatter(NamedTuple):
    """Predicted against rated values of a label, in label units, for the `known` sentences: both values are finite.

    `title` is the label with its CCC, and `limits` are of both axes.
    """

    label: str
    title: str
    colour: str
    known: Bool[np.ndarray, " sentences"]
    rated: Float[np.ndarray, " n"]
    predicted: Float[np.ndarray, " n"]
    limits: tuple[float, float]


def label_styles(names: Iterable[str]) -> dict[str, Style]:
    """The style of each label: fixed for those of the published corpora, in turn for the others."""
    others = cycle(_OTHER_LABELS)
    return {name: _LABELS[name] if name in _LABELS else next(others) for name in names}


def losses(metrics: Metrics) -> Panel:
    """The terms of both stages' losses, and the CCC loss."""
    names = sorted({name for epoch in metrics for name in epoch if loss_name(name) is not None})
    styles = {"ccc_loss": _CCC_LOSS}
    for stage, of_stage in _STAGES.items():
        styles |= zip([name for name in names if name.startswith(f"{stage}_")], cycle(of_stage), strict=False)
    curves = [Curve(loss_name(name) or name, styles[name], [epoch.get(name) for epoch in metrics]) for name in names]
    return _panel("Losses, mean over the epoch's steps", metrics, curves, lowest=0)


def validation_scores(metrics: Metrics) -> Panel:
    """The validation CCC of each label, and the epoch that was kept."""
    by_label = [epoch.get("validation_ccc") or {} for epoch in metrics]
    curves = [
        Curve(f"{name} CCC", style, [scores.get(name) for scores in by_label])
        for name, style in label_styles(dict.fromkeys(name for scores in by_label for name in scores)).items()
    ]
    kept_epoch = metrics[-1].get("best_epoch") if metrics else None
    known = [value for curve in curves for value in curve.values if value is not None]
    limits = {}
    if known and max(known) - min(known) < _SMALLEST_CCC_RANGE:
        middle = (max(known) + min(known)) / 2
        limits = {"lowest": middle - _SMALLEST_CCC_RANGE / 2, "highest": middle + _SMALLEST_CCC_RANGE / 2}
    return _panel("Validation CCC of sentences", metrics, curves, kept_epoch=kept_epoch, **limits)


def steps(metrics: Metrics) -> Panel:
    """The steps' gradient norms and learning rates; what is the same in both stages is one curve."""
    titles: dict[tuple[str, tuple[float | None, ...]], list[str]] = {}
    for title, values in step_curves(metrics).items():
        name = title.removeprefix("stage I ").removeprefix("stage II ")
        titles.setdefault((name, tuple(values)), []).append(title)
    styles = cycle((*(style for of_stage in _STAGES.values() for style in of_stage), _CCC_LOSS, *_OTHER_LABELS[-3:]))
    curves = [
        Curve(title if not same else f"stages I and II {name}", next(styles), values)
        for (name, values), (title, *same) in titles.items()
    ]
    return _panel("Gradient norms and learning rates, mean over the epoch's steps", metrics, curves, logarithmic=True)


def cluster_changes(metrics: Metrics) -> Panel:
    """The normalised mutual information of each epoch's clusters with those of the previous epoch."""
    curves = [Curve(title, style, [epoch.get(name) for epoch in metrics]) for name, (title, style) in _NMI.items()]
    return _panel("NMI of the clusters with those of the epoch before", metrics, curves, lowest=0, highest=1.02)


def cluster_sizes(metrics: Metrics) -> list[ClusterSizes]:
    """The cluster sizes of the labelled and the unlabelled chunks, where there are any."""
    found = []
    for name, pool in _SIZES.items():
        epochs = [epoch for epoch in metrics if epoch.get(name)]
        if epochs:
            chunks = np.zeros((len(epochs), max(len(epoch[name]) for epoch in epochs)))
            for row, epoch in zip(chunks, epochs, strict=True):
                row[: len(epoch[name])] = np.sort(np.asarray(epoch[name], float))[::-1]
            title = f"Cluster sizes, {pool}, % of chunks"
            found.append(ClusterSizes(title, [epoch["epoch"] for epoch in epochs], chunks))
    return found


def rated_and_predicted(
    label: str,
    rated: Float[np.ndarray, " sentences"],
    predicted: Float[np.ndarray, " sentences"],
    ccc: float | None,
    colour: str = "",
) -> Scatter:
    """The points of a label's scatter plot; sentences without a finite rating and prediction are left out.

    Without a `ccc` the title has none; by default dots have the label's own colour.
    """
    known = np.isfinite(rated) & np.isfinite(predicted)
    rated, predicted = rated[known], predicted[known]
    limits = limits_around(np.concatenate([rated, predicted]) if len(rated) else np.array([0.0, 1.0]))
    title = label if ccc is None else f"{label}: CCC {ccc:z.3f}"
    return Scatter(label, title, colour or label_styles([label])[label].colour, known, rated, predicted, limits)


def limits_around(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """An interval around finite values, with a margin however close they are or far from 0."""
    least, greatest = float(values.min()), float(values.max())
    margin = max(0.05 * greatest - 0.05 * least or 0.05, 1e-6 * max(abs(least), abs(greatest)))
    return least - margin, greatest + margin


def histogram_edges(values: Float[np.ndarray, " n"], bins: int) -> Float[np.ndarray, " edges"]:
    """Edges of equally wide bins from the least to the greatest of some finite values.

    If values are so large and close that neighbouring edges would be the same number, which NumPy refuses, the outer
    bins extend beyond the values.
    """
    least, greatest = float(values.min()), float(values.max())
    # Halves: the range of double precision is larger than its largest number.
    centre, half = least / 2 + greatest / 2, greatest / 2 - least / 2
    narrowest = bins * float(np.spacing(max(abs(least), abs(greatest))))
    half = max(half, narrowest) if half else max(0.5, narrowest)
    edges = centre + half * np.linspace(-1, 1, bins + 1)
    edges[0], edges[-1] = min(edges[0], least), max(edges[-1], greatest)
    return edges


def _panel(title: str, metrics: Metrics, curves: Iterable[Curve], **axis: Any) -> Panel:
    drawn = [curve for curve in curves if any(value is not None for value in curve.values)]
    return Panel(title, [epoch["epoch"] for epoch in metrics], drawn, **axis)
