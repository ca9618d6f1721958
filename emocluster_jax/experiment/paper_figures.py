"""The figures of the paper from complete runs, as PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emocluster_jax.evaluation.cluster_labels import ClusterExtremes
from emocluster_jax.experiment.completed import Results, completed_trials, epoch_means, summarize
from emocluster_jax.experiment.grid import FIGURE2_MODELS, Grid, Run, Setting, TableName
from emocluster_jax.experiment.number_of_clusters import ClusterNumber
from emocluster_jax.experiment.tables import full_name, system_name
from emocluster_jax.models.registry import NETWORKS
from emocluster_jax.reporting.plot_data import HIGHEST, LOWEST, histogram_edges
from emocluster_jax.reporting.plots import finish_axes, new_figure, save_png

if TYPE_CHECKING:
    from matplotlib.lines import Line2D

# Okabe & Ito's, as in `reporting.plot_data`.
MODEL_STYLES: dict[str, tuple[str, str]] = {
    "emocluster": ("#D55E00", "o"),
    "cnn_regressor": ("#000000", "v"),
    "cnn_ae": ("#0072B2", "s"),
    "cnn_vae": ("#009E73", "^"),
    "ladder": ("#CC79A7", "D"),
    "emocluster_gru": ("#E69F00", "P"),
    "emocluster_cnn": ("#0072B2", "s"),
    "emocluster_transformer": ("#009E73", "^"),
    "emocluster_triplet": ("#56B4E9", "X"),
}
_OF_NUMBERS = {
    "validation_ccc": "validation CCC",
    "stability": "stability (adjusted Rand index)",
    "information": "information on the label (AMI)",
}
LINE_STYLES = ("-", "--", ":", "-.")
BINS = 20


def unlabeled_size_curves(grid: Grid, results: Results, path: Path) -> None:
    """Figure 2: mean test CCC over trials by the number of unlabelled recordings, with the deviation as a bar."""
    attributes = grid.attributes_of("figure2")
    figure = new_figure(4.2 * len(attributes), 3.8)
    for axes, attribute in zip(figure.subplots(squeeze=False, ncols=len(attributes))[0], attributes, strict=True):
        for model in FIGURE2_MODELS:
            points = [
                (setting.unlabeled_size, summarize([trial.scores.ccc for trial in trials]))
                for setting in grid.settings_of("figure2")
                if setting.model == model and (trials := completed_trials(results, setting, attribute))
            ]
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


def cluster_number_curves(numbers: Mapping[str, Sequence[ClusterNumber]], path: Path) -> None:
    """Validation CCC, stability and information by the number of clusters, with deviations as bars."""
    figure = new_figure(4.2 * len(numbers), 3.8)
    for axes, (attribute, found) in zip(
        figure.subplots(squeeze=False, ncols=len(numbers))[0], numbers.items(), strict=True
    ):
        for (name, title), (colour, marker) in zip(_OF_NUMBERS.items(), MODEL_STYLES.values(), strict=False):
            summaries = [getattr(number, name) for number in found]
            axes.errorbar(
                [number.clusters for number in found],
                [summary.mean for summary in summaries],
                yerr=np.nan_to_num([summary.deviation for summary in summaries]),
                label=title,
                color=colour,
                marker=marker,
                capsize=3,
            )
        finish_axes(axes, attribute, x_label="clusters")
    save_png(figure, path)


def extreme_distributions(grid: Grid, extremes: Mapping[Run, ClusterExtremes], path: Path) -> None:
    """Figure 3: the labels in the clusters with the lowest and the highest mean, all trials' chunks together."""
    (attribute,) = grid.attributes_of("figure3")
    settings = grid.settings_of("figure3")
    figure = new_figure(4.6 * len(settings), 3.8)
    values = [part for found in extremes.values() for part in (found.lowest, found.highest)]
    edges = histogram_edges(np.concatenate(values) if values else np.zeros(1), BINS)
    for axes, setting in zip(figure.subplots(squeeze=False, ncols=len(settings))[0], settings, strict=True):
        found = [extreme for run, extreme in extremes.items() if run.setting == setting]
        distance = ""
        if found:
            style: dict[str, Any] = {"bins": edges.tolist(), "density": True, "alpha": 0.6}
            axes.hist(np.concatenate([e.lowest for e in found]), color=LOWEST, label="lowest mean", **style)
            axes.hist(np.concatenate([e.highest for e in found]), color=HIGHEST, label="highest mean", **style)
            distance = f": Wasserstein {np.mean([e.distance for e in found]):.2f}"
        stages = "stage I alone" if setting.stages == "unsupervised" else "both stages"
        finish_axes(axes, f"{stages}{distance}", "density of chunks", x_label=f"{attribute} in label units")
    save_png(figure, path)


def epoch_curves(grid: Grid, table: TableName, results: Results, path: Path) -> None:
    """Validation CCC and the NMI of consecutive clusterings over epochs, means over trials, of a table's settings."""
    attributes = grid.attributes_of(table)
    settings = grid.settings_of(table)
    name_of = system_name if len({setting.unlabeled_size for setting in settings}) == 1 else full_name
    styles = _styles(settings)
    # The legend below both panels has one column per attribute.
    figure = new_figure(4.6 * len(attributes), 6 + 0.25 * math.ceil(len(settings) / len(attributes)))
    panels = figure.subplots(2, len(attributes), squeeze=False)
    lines: dict[str, Line2D] = {}
    for column, attribute in enumerate(attributes):
        for setting in settings:
            means = epoch_means(completed_trials(results, setting, attribute))
            for row, name in zip(panels, ("validation_ccc", "nmi"), strict=True):
                known = [(mean["epoch"], mean[name]) for mean in means if mean[name] is not None]
                if known:
                    (lines[name_of(setting)],) = row[column].plot(*zip(*known, strict=True), **styles[setting])
        finish_axes(panels[0, column], attribute, "validation CCC")
        panels[1, column].set_ylim(0, 1)
        finish_axes(panels[1, column], "clusters against those of the epoch before", "NMI")
    if lines:
        # Inside the panels it would cover the curves.
        place: Any = "outside lower center"
        figure.legend(list(lines.values()), list(lines), loc=place, ncols=len(attributes), frameon=False, fontsize=9)
    save_png(figure, path)


def _styles(settings: Sequence[Setting]) -> dict[Setting, dict[str, Any]]:
    """One colour per system; its settings differ by the line style, and by the marker if there are many."""
    styles = {}
    for model, (colour, marker) in MODEL_STYLES.items():
        for number, setting in enumerate(setting for setting in settings if setting.model == model):
            styles[setting] = {
                "color": colour,
                "linestyle": LINE_STYLES[number % len(LINE_STYLES)],
                "marker": marker if number < len(LINE_STYLES) else "x",
                "markevery": 5,
            }
    return styles
