"""Figures of a run: its epochs, the distributions of labels in the clusters, and predictions beside labels."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int
from plotly.colors import sample_colorscale

from emocluster_jax.corpora.labels import LabelColumns
from emocluster_jax.evaluation.cluster_information import cluster_counts
from emocluster_jax.evaluation.cluster_labels import cluster_extremes, distributions
from emocluster_jax.reporting import plot_data
from emocluster_jax.reporting.html.figures import GREY, Figure, cluster_colour, number_epochs, plain, styled
from emocluster_jax.reporting.html.run_files import RunFiles
from emocluster_jax.reporting.plot_data import ClusterSizes, Metrics, Panel

_HEIGHT = 400
"""In pixels, of every figure."""
_HISTOGRAM_BINS = 20
_PANEL = 440
"""In pixels: width of a panel that is about square."""


def training_curves(metrics: Metrics) -> list[Figure]:
    """The losses, the validation CCC, and the steps' other metrics over the epochs, those that there are."""
    drawn = {
        "losses": plot_data.losses(metrics),
        "validation": plot_data.validation_scores(metrics),
        "steps": plot_data.steps(metrics),
    }
    return [_curves(name, metrics, panel) for name, panel in drawn.items() if panel.curves]


def cluster_curves(metrics: Metrics) -> list[Figure]:
    """The similarity of clusters to those of the previous epoch, and their sizes, those that there are."""
    changes = plot_data.cluster_changes(metrics)
    sizes = [_sizes(f"cluster-sizes-{i}", metrics, pool) for i, pool in enumerate(plot_data.cluster_sizes(metrics))]
    return [*([_curves("cluster-changes", metrics, changes)] if changes.curves else []), *sizes]


def _over_epochs(name: str, metrics: Metrics, figure: go.Figure, title: str, note: str = "") -> Figure:
    styled(figure, _HEIGHT, hovermode="x unified", barmode="stack", bargap=0.1)
    number_epochs(figure, metrics[0]["epoch"], metrics[-1]["epoch"])
    return Figure(name, figure, _HEIGHT, title, note)


def _curves(name: str, metrics: Metrics, panel: Panel) -> Figure:
    figure = go.Figure()
    for curve in panel.curves:
        trace = go.Scatter(
            x=panel.epochs,
            y=curve.values,
            name=plain(curve.title),
            showlegend=True,
            mode="lines+markers" if len(panel.epochs) <= 60 else "lines",
            line={"color": curve.style.colour},
            hovertemplate="%{y:.4g}",
        )
        figure.add_trace(trace)
    if panel.lowest is not None and panel.highest is not None:
        figure.update_yaxes(range=[panel.lowest, panel.highest])
    elif panel.lowest == 0:
        figure.update_yaxes(rangemode="tozero")
    if panel.logarithmic:
        figure.update_yaxes(type="log")
    if panel.kept_epoch:
        line = {"color": GREY, "dash": "dot"}
        figure.add_shape(type="line", x0=panel.kept_epoch, x1=panel.kept_epoch, y0=0, y1=1, yref="paper", line=line)
    note = f"dotted: epoch {panel.kept_epoch}, kept" if panel.kept_epoch else ""
    return _over_epochs(name, metrics, figure, panel.title, note)


def _sizes(name: str, metrics: Metrics, sizes: ClusterSizes) -> Figure:
    figure = go.Figure()
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
        figure.add_trace(trace)
    figure.update_yaxes(range=[0, 100])
    return _over_epochs(name, metrics, figure, sizes.title)


def cluster_figures(assignments: Int[np.ndarray, " chunks"], labels: LabelColumns) -> list[Figure]:
    """The distribution of each label that any sentence has, in each cluster and in the two that differ most.

    The chunks of `assignments` are grouped by sentence.
    """
    known = [(name, values) for name, values in labels.columns() if np.isfinite(values).any()]
    return [figure for name, values in known for figure in _label_figures(name, assignments, values)]


def _label_figures(
    name: str, assignments: Int[np.ndarray, " chunks"], labels: Float[np.ndarray, " sentences"]
) -> tuple[Figure, Figure]:
    counts = cluster_counts(assignments, len(labels))
    found = distributions(counts, labels)
    lowest, highest = found[0], found[-1]
    extremes = cluster_extremes(assignments, labels)
    boxes, histograms = go.Figure(), go.Figure()
    for cluster in found:
        quantiles = zip(("lowerfence", "q1", "median", "q3", "upperfence"), cluster.quantiles, strict=True)
        box = go.Box(
            x=[str(cluster.cluster)],
            **{name: [value] for name, value in quantiles},
            mean=[cluster.mean],
            line={"color": cluster_colour(cluster.cluster), "width": 1.5},
            showlegend=False,
            name=f"cluster {cluster.cluster}, {cluster.chunks} chunks",
        )
        boxes.add_trace(box)
    known = np.isfinite(labels)
    values = labels[known].astype(np.float64)
    edges = plot_data.histogram_edges(values, _HISTOGRAM_BINS)
    for title, cluster in (("lowest", lowest), ("highest", highest)):
        chunks, _ = np.histogram(values, edges, weights=counts[known, cluster.cluster])
        bars = go.Bar(
            x=(edges[1:] + edges[:-1]) / 2,
            y=100 * chunks / cluster.chunks,
            width=np.diff(edges),
            marker={"color": cluster_colour(cluster.cluster), "opacity": 0.55, "line": {"width": 0}},
            name=f"{title}: cluster {cluster.cluster}, mean {cluster.mean:.2f}, {cluster.chunks} chunks",
            hovertemplate="%{x:.2f}: %{y:.1f} % of the chunks",
        )
        histograms.add_trace(bars)
    styled(boxes, _HEIGHT, legend=False)
    boxes.update_xaxes(title_text="cluster", type="category")
    boxes.update_yaxes(title_text=name)
    styled(histograms, _HEIGHT, barmode="overlay")
    histograms.update_xaxes(title_text=name)
    histograms.update_yaxes(title_text="% of chunks")
    note = f"{extremes.distance:.2f} apart, {extremes.distance_by_chance:.2f} by chance"
    return (
        Figure(f"clusters-{name}", boxes, _HEIGHT, f"{name.capitalize()} in each cluster, by its mean"),
        Figure(f"extremes-{name}", histograms, _HEIGHT, f"Lowest and highest mean {name}", note),
    )


def prediction_scatters(run: RunFiles) -> list[Figure]:
    """Predicted against rated values of the test sentences, for each attribute that any of them has a rating of."""
    if run.predictions is None:
        return []
    found, names = run.predictions, run.predictions.attributes
    cccs = [run.scores[name].ccc if name in run.scores else None for name in names]
    colours = [style.colour for style in plot_data.label_styles(names).values()]
    scatters = list(map(plot_data.rated_and_predicted, names, found.truth.T, found.predictions.T, cccs, colours))
    ids = np.array([plain(id) for id in found.ids])
    drawn = []
    for scatter in scatters:
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
        figure = styled(go.Figure([diagonal, dots]).update_traces(showlegend=False), _HEIGHT, legend=False)
        figure.update_xaxes(title_text=f"rated {scatter.label}", range=limits)
        figure.update_yaxes(title_text=f"predicted {scatter.label}", range=limits)
        drawn.append(Figure(f"predictions-{scatter.label}", figure, _HEIGHT, scatter.title, widest=_PANEL))
    return drawn
