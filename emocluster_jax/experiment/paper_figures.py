"""The figures of the paper from complete runs, as PNG."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emocluster_jax.evaluation.cluster_labels import ClusterExtremes
from emocluster_jax.experiment.completed import Results, completed_trials, epoch_means, summarize
from emocluster_jax.experiment.grid import (
    FIGURE2_MODELS,
    Grid,
    Run,
    Setting,
    TableName,
    table_attributes,
    table_settings,
)
from emocluster_jax.experiment.tables import full_name, system_name
from emocluster_jax.models.registry import NETWORKS
from emocluster_jax.reporting.plot_data import HIGHEST, LOWEST, histogram_edges
from emocluster_jax.reporting.plots import finish_axes, new_figure, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# Okabe & Ito's, as in `reporting.plot_data`.
MODEL_STYLES: dict[str, tuple[str, str]] = {
    "emocluster": ("#D55E00", "o"),
    "cnn_regressor": ("#000000", "v"),
    "cnn_ae": ("#0072B2", "s"),
    "cnn_vae": ("#009E73", "^"),
    "ladder": ("#CC79A7", "D"),
}
LINE_STYLES = ("-", "--", ":", "-.")
BINS = 20


def unlabeled_size_curves(grid: Grid, results: Results, path: Path) -> None:
    """Figure 2: mean test CCC over trials by the number of unlabelled recordings, with the deviation as a bar."""
    attributes = table_attributes(grid, "figure2")
    figure = new_figure(4.2 * len(attributes), 3.8)
    for axes, attribute in zip(_panels(figure, 1, len(attributes))[0], attributes, strict=True):
        for model in FIGURE2_MODELS:
            points = []
            for setting in table_settings(grid, "figure2"):
                trials = completed_trials(grid, results, setting, attribute)
                if setting.model == model and trials:
                    points.append((setting.unlabeled_size, summarize([trial.scores.ccc for trial in trials])))
            if points:
                colour, marker = MODEL_STYLES[model]
                sizes, summaries = zip(*points, strict=True)
                axes.errorbar(
                    sizes,
                    [summary.mean for summary in summaries],
                    yerr=np.nan_to_num([summary.deviation for summary in summaries]),
                    label=NETWORKS[model].title,
                    color=colour,
                    marker=marker,
                    capsize=3,
                )
        finish_axes(axes, attribute, "test CCC", x_label="unlabelled recordings")
    save_png(figure, path)


def extreme_distributions(grid: Grid, extremes: Mapping[Run, ClusterExtremes], path: Path) -> None:
    """Figure 3: the labels in the clusters with the lowest and the highest mean, all trials' chunks together."""
    (attribute,) = table_attributes(grid, "figure3")
    settings = table_settings(grid, "figure3")
    figure = new_figure(4.6 * len(settings), 3.8)
    values = [part for found in extremes.values() for part in (found.lowest, found.highest)]
    edges = histogram_edges(np.concatenate(values) if values else np.zeros(1), BINS)
    for axes, setting in zip(_panels(figure, 1, len(settings))[0], settings, strict=True):
        found = [extreme for run, extreme in extremes.items() if run.setting == setting]
        for name, colour, parts in (
            ("lowest mean", LOWEST, [extreme.lowest for extreme in found]),
            ("highest mean", HIGHEST, [extreme.highest for extreme in found]),
        ):
            if parts:
                axes.hist(np.concatenate(parts), edges.tolist(), density=True, alpha=0.6, color=colour, label=name)
        distance = f": Wasserstein {np.mean([e.distance for e in found]):.2f}" if found else ""
        stages = "stage I alone" if setting.stages == "unsupervised" else "both stages"
        finish_axes(axes, f"{stages}{distance}", "density of chunks", x_label=f"{attribute} in label units")
    save_png(figure, path)


def epoch_curves(grid: Grid, table: TableName, results: Results, path: Path) -> None:
    """Validation CCC and the NMI of consecutive clusterings over epochs, means over trials, of a table's settings."""
    attributes = table_attributes(grid, table)
    settings = table_settings(grid, table)
    name_of = system_name if len({setting.unlabeled_size for setting in settings}) == 1 else full_name
    styles = _styles(settings)
    # The legend below both panels has one column per attribute.
    figure = new_figure(4.6 * len(attributes), 6 + 0.25 * math.ceil(len(settings) / len(attributes)))
    panels = _panels(figure, 2, len(attributes))
    lines: dict[str, Line2D] = {}
    for column, attribute in enumerate(attributes):
        for setting in settings:
            means = epoch_means(completed_trials(grid, results, setting, attribute))
            for axes, curve in (
                (panels[0][column], [(mean.epoch, mean.validation_ccc) for mean in means]),
                (panels[1][column], [(mean.epoch, mean.nmi) for mean in means]),
            ):
                known = [(epoch, value) for epoch, value in curve if value is not None]
                if known:
                    (lines[name_of(setting)],) = axes.plot(*zip(*known, strict=True), **styles[setting])
        finish_axes(panels[0][column], attribute, "validation CCC")
        panels[1][column].set_ylim(0, 1)
        finish_axes(panels[1][column], "clusters against those of the epoch before", "NMI")
    if lines:
        # Inside the panels it would cover the curves.
        style: dict[str, Any] = {
            "loc": "outside lower center",
            "ncols": len(attributes),
            "frameon": False,
            "fontsize": 9,
        }
        figure.legend(list(lines.values()), list(lines), **style)
    save_png(figure, path)


def _panels(figure: Figure, rows: int, columns: int) -> list[list[Axes]]:
    grid = figure.add_gridspec(rows, columns)
    return [[figure.add_subplot(grid[row, column]) for column in range(columns)] for row in range(rows)]


def _styles(settings: Sequence[Setting]) -> dict[Setting, dict[str, Any]]:
    """One colour per system; its settings differ by the line style, and by the marker if there are many."""
    count: Counter[str] = Counter()
    styles = {}
    for setting in settings:
        number = count[setting.model]
        count[setting.model] += 1
        colour, marker = MODEL_STYLES[setting.model]
        styles[setting] = {
            "color": colour,
            "linestyle": LINE_STYLES[number % len(LINE_STYLES)],
            "marker": marker if number < len(LINE_STYLES) else "x",
            "markevery": 5,
        }
    return styles
