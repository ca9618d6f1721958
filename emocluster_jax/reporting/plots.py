"""Figures of a training run and of its predictions, as PNG.

Colours are those of Okabe & Ito (2008), which colour-blind readers can tell apart; markers differ as well.
"""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from emocluster_jax.config import ATTRIBUTES
from emocluster_jax.storage.atomic_files import replacing
from emocluster_jax.training.metrics_log import loss_name, step_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ATTRIBUTE_STYLES: dict[str, tuple[str, str]] = {
    "arousal": ("#D55E00", "o"),
    "dominance": ("#0072B2", "s"),
    "valence": ("#009E73", "^"),
}
LOSS_STYLES: dict[str, tuple[tuple[str, str], ...]] = {
    "stage1": (("#CC79A7", "s"), ("#E69F00", "D"), ("#999999", "P")),
    "stage2": (("#0072B2", "o"), ("#009E73", "v"), ("#56B4E9", "X")),
}
"""Of a stage's terms in their order; the CCC loss has its own."""
CCC_LOSS_STYLE = ("#D55E00", "^")
NMI = {
    "nmi_previous": ("labelled", "#0072B2", "o"),
    "nmi_previous_unlabeled": ("unlabelled", "#CC79A7", "s"),
}
DOTS_PER_INCH = 120


def training_curves(metrics: list[dict[str, Any]], path: Path) -> None:
    """Losses and validation CCC over the epochs; of systems with clusters, NMI of consecutive ones and sizes as well.

    Args:
      metrics: what `MetricsLog` wrote, one dictionary an epoch; names that are absent or None leave gaps.
      path: PNG file, replaced in one step.
    """
    clustered = not metrics or any("cluster_sizes" in epoch for epoch in metrics)
    steps = step_curves(metrics)
    rows = 2 + 2 * clustered + 2 * bool(steps)
    figure = new_figure(11, 3.75 * rows / 2)
    grid = figure.add_gridspec(rows, 2)
    _losses(figure.add_subplot(grid[:2, 0]), metrics)
    _validation_ccc(figure.add_subplot(grid[:2, 1]), metrics)
    if clustered:
        _nmi(figure.add_subplot(grid[2:4, 0]), metrics)
        pool = any(epoch.get("cluster_sizes_unlabeled") for epoch in metrics)
        _cluster_sizes(figure.add_subplot(grid[2 if pool else slice(2, 4), 1]), metrics, "cluster_sizes", "labelled")
        if pool:
            _cluster_sizes(figure.add_subplot(grid[3, 1]), metrics, "cluster_sizes_unlabeled", "unlabelled")
    if steps:
        _steps(figure.add_subplot(grid[-2:, :]), metrics, steps)
    if metrics:
        for axes in figure.axes:
            axes.set_xlim(metrics[0]["epoch"] - 0.5, metrics[-1]["epoch"] + 0.5)
    save_png(figure, path)


def prediction_scatter(
    truth: Float[np.ndarray, " sentences"],
    prediction: Float[np.ndarray, " sentences"],
    attribute: str,
    ccc: float,
    path: Path,
) -> None:
    """Predicted against rated values of one attribute, one dot a sentence.

    Args:
      truth, prediction: in label units; sentences where either is NaN are left out.
      attribute: one of `config.ATTRIBUTES`.
      ccc: concordance correlation coefficient of the two, for the title.
      path: PNG file, replaced in one step.
    """
    rated = np.isfinite(truth) & np.isfinite(prediction)
    truth, prediction = truth[rated], prediction[rated]
    figure = new_figure(5, 5.2)
    axes = figure.add_subplot()
    # Many dots on one another must still show where they are dense.
    opacity = float(np.clip(60 / np.sqrt(len(truth) + 1) / 10, 0.08, 0.8))
    axes.scatter(truth, prediction, s=18, alpha=opacity, color=ATTRIBUTE_STYLES[attribute][0], linewidths=0)
    limits = limits_around(np.concatenate([truth, prediction]) if len(truth) else np.array([0.0, 1.0]))
    axes.plot(limits, limits, color="0.35", linewidth=1, linestyle="--", label="prediction = rating", zorder=0)
    axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel=f"rated {attribute}", ylabel=f"predicted {attribute}")
    axes.set_title(f"{attribute}: CCC {ccc:z.3f}, {len(truth)} sentences", loc="left")
    axes.legend(loc="upper left", frameon=False)
    save_png(figure, path)


def limits_around(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """From below the least of some finite values to above the greatest, however near to each other, or far from 0."""
    least, greatest = float(values.min()), float(values.max())
    margin = max(0.05 * greatest - 0.05 * least or 0.05, 1e-6 * max(abs(least), abs(greatest)))
    return least - margin, greatest + margin


def histogram_edges(values: Float[np.ndarray, " n"], bins: int) -> Float[np.ndarray, " edges"]:
    """Edges of equally wide bins from the least to the greatest of some finite values.

    NumPy refuses as many bins as one likes where the values are so large and so near to each other that the edges
    would be the same number; here the outer bins then lie outside of the values.
    """
    least, greatest = float(values.min()), float(values.max())
    # Halves: the range of double precision is larger than its largest number.
    centre, half = least / 2 + greatest / 2, greatest / 2 - least / 2
    narrowest = bins * float(np.spacing(max(abs(least), abs(greatest))))
    half = max(half, narrowest) if half else max(0.5, narrowest)
    edges = centre + half * np.linspace(-1, 1, bins + 1)
    edges[0], edges[-1] = min(edges[0], least), max(edges[-1], greatest)
    return edges


def _losses(axes: Axes, metrics: list[dict[str, Any]]) -> None:
    names = dict.fromkeys(name for epoch in metrics for name in epoch)
    for stage, styles in LOSS_STYLES.items():
        terms = [name for name in names if name.startswith(f"{stage}_")]
        for name, style in zip(terms, cycle(styles), strict=False):
            _curve(axes, metrics, [epoch.get(name) for epoch in metrics], loss_name(name) or name, *style)
    _curve(axes, metrics, [epoch.get("ccc_loss") for epoch in metrics], "1 - CCC, training", *CCC_LOSS_STYLE)
    axes.set_ylim(bottom=0)
    finish_axes(axes, "Losses", "mean over the epoch's steps")


def _steps(axes: Axes, metrics: list[dict[str, Any]], curves: dict[str, list[float | None]]) -> None:
    styles = cycle(style for styles in LOSS_STYLES.values() for style in styles)
    for (title, values), style in zip(curves.items(), styles, strict=False):
        _curve(axes, metrics, values, title, *style)
    axes.set_yscale("log")
    finish_axes(axes, "Steps", "mean over the epoch's steps")


def _validation_ccc(axes: Axes, metrics: list[dict[str, Any]]) -> None:
    attributes = [name for name in ATTRIBUTES if any(name in _ccc(epoch) for epoch in metrics)]
    for name in attributes:
        _curve(axes, metrics, [_ccc(epoch).get(name) for epoch in metrics], name, *ATTRIBUTE_STYLES[name])
    best = metrics[-1].get("best_epoch") if metrics else None
    (kept,) = [epoch for epoch in metrics if epoch["epoch"] == best] or [{}]
    if kept.get("validation_ccc_mean") is not None:
        score = f"{kept['validation_ccc_mean']:z.3f}"
        label = f"kept: epoch {best}, {'mean ' if len(attributes) > 1 else ''}{score}"
        axes.axvline(kept["epoch"], color="0.35", linewidth=1, linestyle="--", label=label, zorder=0)
    finish_axes(axes, "Validation", "CCC of sentences")


def _nmi(axes: Axes, metrics: list[dict[str, Any]]) -> None:
    for name, (label, colour, marker) in NMI.items():
        _curve(axes, metrics, [epoch.get(name) for epoch in metrics], label, colour, marker)
    axes.set_ylim(0, 1)
    finish_axes(axes, "Clusters against those of the epoch before", "normalised mutual information")


def _cluster_sizes(axes: Axes, metrics: list[dict[str, Any]], name: str, pool: str) -> None:
    """Shares of the chunks, largest cluster at the bottom: numbers of clusters mean nothing from epoch to epoch."""
    from matplotlib import colormaps

    epochs = [epoch for epoch in metrics if epoch.get(name)]
    clusters = max((len(epoch[name]) for epoch in epochs), default=0)
    shares = np.zeros((len(epochs), clusters))
    for row, epoch in zip(shares, epochs, strict=True):
        sizes = np.sort(np.asarray(epoch[name], dtype=float))[::-1]
        row[: len(sizes)] = 100 * sizes / max(sizes.sum(), 1)
    # Each epoch is a step half an epoch to both sides, so that a single one is visible too.
    numbers = np.array([epoch["epoch"] for epoch in epochs])
    edges = np.stack([numbers - 0.5, numbers + 0.5], axis=1).ravel()
    colours = colormaps["cividis"](np.linspace(0.1, 0.95, clusters))
    if epochs:
        axes.stackplot(edges, np.repeat(shares, 2, axis=0).T, colors=list(colours), edgecolor="white", linewidth=0.3)
    axes.set_ylim(0, 100)
    finish_axes(axes, f"Cluster sizes, {pool} ({clusters} clusters, by size)", "% of chunks", grid=False)


def _curve(
    axes: Axes, metrics: list[dict[str, Any]], values: list[float | None], label: str, colour: str, marker: str
) -> None:
    if all(value is None for value in values):
        return
    heights = [np.nan if value is None else value for value in values]
    # Markers thin out where there are many epochs; a lone epoch would be invisible without one.
    every = max(len(values) // 15, 1)
    axes.plot(
        [epoch["epoch"] for epoch in metrics],
        heights,
        color=colour,
        marker=marker,
        markevery=every,
        markersize=4.5,
        linewidth=1.6,
        label=label,
    )


def _ccc(epoch: dict[str, Any]) -> dict[str, float | None]:
    return epoch.get("validation_ccc") or {}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure; width and height in inches."""
    # The object interface: no global state, hence safe in threads and beside a notebook's own figures.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def finish_axes(axes: Axes, title: str, y_label: str, grid: bool = True, x_label: str = "epoch") -> None:
    """Title, labels and legend in the style of all plots; the horizontal axis counts in whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, loc="left", fontsize=11)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.spines[["top", "right"]].set_visible(False)
    if grid:
        axes.grid(axis="y", color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)


def save_png(figure: Figure, path: Path) -> None:
    """Writes the figure to a PNG file, which is replaced in one step."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DOTS_PER_INCH, facecolor="white")
