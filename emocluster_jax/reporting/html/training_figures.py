"""Figures of a training's epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from emocluster_jax.reporting import plot_data
from emocluster_jax.reporting.html.figures import GREY, Figure, number_epochs, panels, plain, styled
from emocluster_jax.reporting.plot_data import ClusterSizes, Metrics, Panel

_HEIGHT = 400


def training_curves(metrics: Metrics) -> Figure:
    """The losses, the validation CCC, and the steps' other metrics over the epochs."""
    drawn, steps = [plot_data.losses(metrics), plot_data.validation_scores(metrics)], plot_data.steps(metrics)
    return _figure("training-curves", metrics, [*drawn, steps] if steps.curves else drawn)


def cluster_curves(metrics: Metrics) -> Figure | None:
    """The similarity of clusters to those of the previous epoch, and their sizes; None without clusters."""
    sizes = plot_data.cluster_sizes(metrics)
    return _figure("cluster-curves", metrics, [plot_data.cluster_changes(metrics), *sizes]) if sizes else None


def _figure(name: str, metrics: Metrics, drawn: Sequence[Panel | ClusterSizes]) -> Figure:
    figure = panels([panel.title for panel in drawn])
    for column, panel in enumerate(drawn, start=1):
        if isinstance(panel, Panel):
            _add_curves(figure, column, panel)
        else:
            _add_sizes(figure, column, panel)
    styled(figure, _HEIGHT, hovermode="x unified", barmode="stack", bargap=0.1)
    number_epochs(figure, metrics[0]["epoch"], metrics[-1]["epoch"])
    return Figure(name, figure, _HEIGHT)


def _add_curves(figure: go.Figure, column: int, panel: Panel) -> None:
    for curve in panel.curves:
        trace = go.Scatter(
            x=panel.epochs,
            y=curve.values,
            name=plain(curve.title),
            mode="lines+markers" if len(panel.epochs) <= 60 else "lines",
            line={"color": curve.style.colour},
            hovertemplate="%{y:.4f}",
        )
        figure.add_trace(trace, 1, column)
    if panel.lowest is not None and panel.highest is not None:
        figure.update_yaxes(range=[panel.lowest, 1.02 * panel.highest], col=column)
    if panel.logarithmic:
        figure.update_yaxes(type="log", col=column)
    if panel.kept_epoch:
        # Plotly's type annotations lack numbers for `row` and `col`, and the options of shapes.
        cast(Any, figure).add_vline(
            x=panel.kept_epoch,
            line={"color": GREY, "dash": "dot"},
            annotation_text=f"kept: epoch {panel.kept_epoch}",
            annotation_position="bottom left",
            row=1,
            col=column,
        )


def _add_sizes(figure: go.Figure, column: int, sizes: ClusterSizes) -> None:
    clusters = sizes.chunks.shape[1]
    for rank, colour in enumerate(sample_colorscale("Cividis", np.linspace(0.15, 0.95, clusters))):
        trace = go.Bar(
            x=sizes.epochs,
            y=sizes.percent[:, rank].tolist(),
            customdata=[int(count) for count in sizes.chunks[:, rank]],
            marker_color=colour,
            showlegend=False,
            name="",
            hovertemplate=f"epoch %{{x}}, {_ordinal(rank + 1)} of {clusters}: %{{customdata}} chunks, %{{y:.1f}} %",
        )
        figure.add_trace(trace, 1, column)
    figure.update_yaxes(range=[0, 100], col=column)


def _ordinal(number: int) -> str:
    return {1: "largest", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")
