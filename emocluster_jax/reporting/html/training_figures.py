"""Figures of a training's epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from emocluster_jax.reporting.html.figures import GREY, Figure, number_epochs, palette, panels, styled
from emocluster_jax.reporting.plots import ATTRIBUTE_STYLES, NMI
from emocluster_jax.training.metrics_log import loss_name, step_curves

_HEIGHT = 400

Metrics = Sequence[dict[str, Any]]


def training_curves(metrics: Metrics) -> Figure:
    """The losses, and the CCC of the validation split, over the epochs."""
    steps = step_curves(metrics)
    titles = ("Losses, mean over the epoch's steps", "Validation: CCC of sentences")
    figure = panels((*titles, "Steps, mean over the epoch's") if steps else titles)
    losses = {name: title for epoch in metrics for name in sorted(epoch) if (title := loss_name(name)) is not None}
    for (name, title), colour in zip(losses.items(), palette(len(losses)), strict=True):
        figure.add_trace(_curve(metrics, [epoch.get(name) for epoch in metrics], title, colour), 1, 1)
    for name, (colour, _) in ATTRIBUTE_STYLES.items():
        values = [(epoch.get("validation_ccc") or {}).get(name) for epoch in metrics]
        if any(value is not None for value in values):
            figure.add_trace(_curve(metrics, values, f"{name} CCC", colour), 1, 2)
    for (title, values), colour in zip(steps.items(), palette(len(steps)), strict=True):
        figure.add_trace(_curve(metrics, values, title, colour), 1, 3)
    if steps:
        figure.update_yaxes(type="log", col=3)
    best = metrics[-1].get("best_epoch")
    if best:
        # Plotly's annotations know neither numbers for `row` and `col` nor the options of shapes.
        cast(Any, figure).add_vline(
            x=best,
            line={"color": GREY, "dash": "dot"},
            annotation_text=f"kept: epoch {best}",
            annotation_position="bottom left",
            row=1,
            col=2,
        )
    return Figure("training-curves", _by_epoch(figure, metrics), _HEIGHT)


def cluster_curves(metrics: Metrics) -> Figure | None:
    """Cluster sizes and how much of the epoch before the clusters keep; None without clusters."""
    pools = {"labelled": "cluster_sizes", "unlabelled": "cluster_sizes_unlabeled"}
    pools = {title: name for title, name in pools.items() if any(epoch.get(name) for epoch in metrics)}
    if not pools:
        return None
    titles = ["NMI with the epoch before", *(f"Cluster sizes, {title}, % of chunks" for title in pools)]
    figure = panels(titles)
    for name, (label, colour, _) in NMI.items():
        values = [epoch.get(name) for epoch in metrics]
        if any(value is not None for value in values):
            figure.add_trace(_curve(metrics, values, label, colour), 1, 1)
    for column, name in enumerate(pools.values(), start=2):
        _add_sizes(figure, column, metrics, name)
    figure.update_yaxes(range=[0, 1.02], col=1)
    figure.update_layout(barmode="stack", bargap=0.1)
    return Figure("cluster-curves", _by_epoch(figure, metrics), _HEIGHT)


def _add_sizes(figure: go.Figure, column: int, metrics: Metrics, name: str) -> None:
    """Shares of the chunks, largest cluster first: numbers of clusters mean nothing from epoch to epoch."""
    epochs = [epoch for epoch in metrics if epoch.get(name)]
    sizes = [np.sort(np.asarray(epoch[name], float))[::-1] for epoch in epochs]
    clusters = max(map(len, sizes))
    for rank, colour in enumerate(sample_colorscale("Cividis", np.linspace(0.15, 0.95, clusters))):
        share = [100 * size[rank] / max(size.sum(), 1) for size in sizes]
        chunks = [int(size[rank]) for size in sizes]
        figure.add_trace(
            go.Bar(
                x=[epoch["epoch"] for epoch in epochs],
                y=share,
                customdata=chunks,
                marker_color=colour,
                showlegend=False,
                name="",
                hovertemplate=f"epoch %{{x}}, {_ordinal(rank + 1)} of {clusters}: %{{customdata}} chunks, %{{y:.1f}} %",
            ),
            1,
            column,
        )
    figure.update_yaxes(range=[0, 100], col=column)


def _curve(metrics: Metrics, values: Sequence[float | None], title: str, colour: str) -> go.Scatter:
    return go.Scatter(
        x=[epoch["epoch"] for epoch in metrics],
        y=values,
        name=title,
        mode="lines+markers" if len(metrics) <= 60 else "lines",
        line={"color": colour},
        hovertemplate="%{y:.4f}",
    )


def _by_epoch(figure: go.Figure, metrics: Metrics) -> go.Figure:
    styled(figure, _HEIGHT, hovermode="x unified")
    number_epochs(figure, metrics[0]["epoch"], metrics[-1]["epoch"])
    return figure


def _ordinal(number: int) -> str:
    return {1: "largest", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")
