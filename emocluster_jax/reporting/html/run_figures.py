"""Figures of a run: its epochs, the distributions of labels in the clusters, and predictions beside labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int
from plotly.colors import sample_colorscale

from emocluster_jax.corpora.labels import LabelColumns
from emocluster_jax.evaluation.cluster_information import cluster_counts
from emocluster_jax.evaluation.cluster_labels import cluster_extremes, distributions
from emocluster_jax.reporting import plot_data
from emocluster_jax.reporting.html.figures import GREY, Figure, number_epochs, panels, plain, styled
from emocluster_jax.reporting.html.run_files import RunFiles
from emocluster_jax.reporting.plot_data import HIGHEST, LOWEST, ClusterSizes, Metrics, Panel

_TRAINING_HEIGHT, _HEIGHT = 400, 420
_HISTOGRAM_BINS = 20
_PANEL = 440
"""In pixels: width of a panel that is about square."""


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
    styled(figure, _TRAINING_HEIGHT, hovermode="x unified", barmode="stack", bargap=0.1)
    number_epochs(figure, metrics[0]["epoch"], metrics[-1]["epoch"])
    return Figure(name, figure, _TRAINING_HEIGHT)


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
        ordinal = ("largest", "2nd", "3rd")[rank] if rank < 3 else f"{rank + 1}th"
        trace = go.Bar(
            x=sizes.epochs,
            y=sizes.percent[:, rank].tolist(),
            customdata=[int(count) for count in sizes.chunks[:, rank]],
            marker_color=colour,
            showlegend=False,
            name="",
            hovertemplate=f"epoch %{{x}}, {ordinal} of {clusters}: %{{customdata}} chunks, %{{y:.1f}} %",
        )
        figure.add_trace(trace, 1, column)
    figure.update_yaxes(range=[0, 100], col=column)


def cluster_figures(assignments: Int[np.ndarray, " chunks"], labels: LabelColumns) -> list[Figure]:
    """The distribution of each label that any sentence has, in each cluster and in the two that differ most.

    The chunks of `assignments` are grouped by sentence.
    """
    return [_label_figure(name, assignments, values) for name, values in labels.columns() if np.isfinite(values).any()]


def _label_figure(
    name: str, assignments: Int[np.ndarray, " chunks"], labels: Float[np.ndarray, " sentences"]
) -> Figure:
    counts = cluster_counts(assignments, len(labels))
    found = distributions(counts, labels)
    lowest, highest = found[0], found[-1]
    extremes = cluster_extremes(assignments, labels)
    titles = (
        f"{name.capitalize()} in each cluster, by its mean",
        f"Lowest and highest mean: {extremes.distance:.2f} apart, {extremes.distance_by_chance:.2f} by chance",
    )
    figure = panels(titles, column_widths=[0.58, 0.42])
    colours = {lowest.cluster: LOWEST, highest.cluster: HIGHEST}
    for cluster in found:
        quantiles = zip(("lowerfence", "q1", "median", "q3", "upperfence"), cluster.quantiles, strict=True)
        box = go.Box(
            x=[str(cluster.cluster)],
            **{name: [value] for name, value in quantiles},
            mean=[cluster.mean],
            line={"color": colours.get(cluster.cluster, GREY), "width": 1.5},
            showlegend=False,
            name=f"cluster {cluster.cluster}, {cluster.chunks} chunks",
        )
        figure.add_trace(box, 1, 1)
    known = np.isfinite(labels)
    values = labels[known].astype(np.float64)
    edges = plot_data.histogram_edges(values, _HISTOGRAM_BINS)
    for title, cluster, colour in (("lowest", lowest, LOWEST), ("highest", highest, HIGHEST)):
        chunks, _ = np.histogram(values, edges, weights=counts[known, cluster.cluster])
        bars = go.Bar(
            x=(edges[1:] + edges[:-1]) / 2,
            y=100 * chunks / cluster.chunks,
            width=np.diff(edges),
            marker={"color": colour, "opacity": 0.55, "line": {"width": 0}},
            name=f"{title}: cluster {cluster.cluster}, mean {cluster.mean:.2f}, {cluster.chunks} chunks",
            hovertemplate="%{x:.2f}: %{y:.1f} % of the chunks",
        )
        figure.add_trace(bars, 1, 2)
    styled(figure, _HEIGHT, barmode="overlay")
    figure.update_xaxes(title_text="cluster", type="category", col=1)
    figure.update_yaxes(title_text=name, col=1)
    figure.update_xaxes(title_text=name, col=2)
    figure.update_yaxes(title_text="% of chunks", col=2)
    return Figure(f"clusters-{name}", figure, _HEIGHT)


def prediction_scatter(run: RunFiles) -> Figure | None:
    """Predicted against rated values of the test sentences, one panel per attribute; None without predictions."""
    if run.predictions is None or not run.predictions.ids:
        return None
    found, names = run.predictions, run.predictions.attributes
    cccs = [run.scores[name].ccc if name in run.scores else None for name in names]
    colours = [style.colour for style in plot_data.label_styles(names).values()]
    scatters = list(map(plot_data.rated_and_predicted, names, found.truth.T, found.predictions.T, cccs, colours))
    figure = panels([scatter.title for scatter in scatters])
    ids = np.array([plain(id) for id in found.ids])
    for column, scatter in enumerate(scatters, start=1):
        if not scatter.known.any():
            continue
        limits = list(scatter.limits)
        diagonal = go.Scatter(x=limits, y=limits, mode="lines", line={"color": GREY, "dash": "dot"}, hoverinfo="skip")
        dots = go.Scatter(
            x=scatter.rated,
            y=np.round(scatter.predicted, 4),
            mode="markers",
            marker={"color": scatter.colour, "size": 7, "opacity": 0.6},
            customdata=ids[scatter.known],
            hovertemplate="%{customdata}<br>rated %{x:.2f}, predicted %{y:.2f}<extra></extra>",
        )
        for trace in (diagonal, dots):
            figure.add_trace(trace.update(showlegend=False), 1, column)
        figure.update_xaxes(title_text=f"rated {scatter.label}", range=limits, row=1, col=column)
        figure.update_yaxes(title_text=f"predicted {scatter.label}", range=limits, row=1, col=column)
    return Figure("prediction-scatter", styled(figure, _HEIGHT, legend=False), _HEIGHT, widest=_PANEL * len(names))
