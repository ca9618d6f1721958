"""The plots of a run as PNG files, drawn with Matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emocluster_jax.reporting import plot_data
from emocluster_jax.reporting.plot_data import ClusterSizes, Metrics, Panel, Scatter
from emocluster_jax.storage.atomic_files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 120


def training_curves(metrics: Metrics, path: Path) -> None:
    """Draws losses and validation CCC over the epochs, and changes and sizes of clusters, into a PNG file.

    What the metrics do not have gets no panel.
    """
    of_epochs = (plot_data.losses(metrics), plot_data.validation_scores(metrics), plot_data.cluster_changes(metrics))
    drawn, pools = [panel for panel in of_epochs if panel.curves], plot_data.cluster_sizes(metrics)
    steps = plot_data.steps(metrics)
    rows = 2 * -(-(len(drawn) + bool(pools)) // 2) + 2 * bool(steps.curves) or 2
    figure = new_figure(11, 3.75 * rows / 2)
    grid = figure.add_gridspec(rows, 2)
    for place, panel in enumerate(drawn):
        top = place - place % 2
        _draw_curves(figure.add_subplot(grid[top : top + 2, place % 2]), panel)
    top, column = len(drawn) - len(drawn) % 2, len(drawn) % 2
    for row, sizes in enumerate(pools, start=top):
        _draw_sizes(figure.add_subplot(grid[row if len(pools) > 1 else slice(top, top + 2), column]), sizes)
    if steps.curves:
        axes = figure.add_subplot(grid[-2:, :])
        _draw_curves(axes, steps)
        # Its many names would cover the curves.
        axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(0, -0.15), ncols=3)
    if metrics:
        for axes in figure.axes:
            axes.set_xlim(metrics[0]["epoch"] - 0.5, metrics[-1]["epoch"] + 0.5)
    save_png(figure, path)


def prediction_scatter(scatter: Scatter, path: Path) -> None:
    """Draws predicted against rated values of one attribute into a PNG file, one dot per sentence with both."""
    figure = new_figure(5, 5.2)
    axes = figure.add_subplot()
    count = len(scatter.rated)
    # Overlapping dots must still show where they are dense.
    opacity = float(np.clip(6 / np.sqrt(count + 1), 0.08, 0.8))
    axes.scatter(scatter.rated, scatter.predicted, s=18, alpha=opacity, color=scatter.colour, linewidths=0)
    limits = scatter.limits
    axes.plot(limits, limits, color="0.35", linewidth=1, linestyle="--", label="prediction = rating", zorder=0)
    labels = {"xlabel": f"rated {scatter.label}", "ylabel": f"predicted {scatter.label}"}
    axes.set(xlim=limits, ylim=limits, aspect="equal", **labels)
    axes.set_title(f"{scatter.title}, {count} sentences", loc="left")
    axes.legend(loc="upper left", frameon=False)
    save_png(figure, path)


def _draw_curves(axes: Axes, panel: Panel) -> None:
    # Many epochs get fewer markers; a single epoch would be invisible without one.
    every = max(len(panel.epochs) // 15, 1)
    for curve in panel.curves:
        axes.plot(
            panel.epochs,
            [np.nan if value is None else value for value in curve.values],
            color=curve.style.colour,
            marker=curve.style.marker,
            markevery=every,
            markersize=4.5,
            linewidth=1.6,
            label=curve.title,
        )
    if panel.kept_epoch:
        label = f"kept: epoch {panel.kept_epoch}"
        axes.axvline(panel.kept_epoch, color="0.35", linewidth=1, linestyle="--", label=label, zorder=0)
    # The scale first: limits, even of None, are kept as they are on the linear one.
    if panel.logarithmic:
        axes.set_yscale("log")
    axes.set_ylim(panel.lowest, panel.highest)
    finish_axes(axes, panel.title)


def _draw_sizes(axes: Axes, sizes: ClusterSizes) -> None:
    from matplotlib import colormaps

    # Each epoch extends half an epoch to both sides, so that a single one is visible.
    edges = (np.array(sizes.epochs)[:, None] + np.array([-0.5, 0.5])).ravel()
    colours = list(colormaps["cividis"](np.linspace(0.1, 0.95, sizes.chunks.shape[1])))
    shares = np.repeat(sizes.percent, 2, axis=0).T
    axes.stackplot(edges, shares, colors=colours, edgecolor="white", linewidth=0.3)
    axes.set_ylim(0, 100)
    finish_axes(axes, sizes.title, grid=False)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure; width and height in inches."""
    # Without Matplotlib's global state it is safe in threads and beside a notebook's figures.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def finish_axes(axes: Axes, title: str, y_label: str = "", *, x_label: str = "epoch", grid: bool = True) -> None:
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
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DOTS_PER_INCH, facecolor="white")
