"""Figures of labels: their distributions in the clusters, and predictions beside them."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int

from emocluster_jax.corpora.labels import LabelColumns
from emocluster_jax.evaluation.cluster_information import cluster_counts
from emocluster_jax.evaluation.cluster_labels import cluster_extremes, distributions
from emocluster_jax.reporting.html.figures import GREY, Figure, panels, plain, styled
from emocluster_jax.reporting.html.run_files import RunFiles
from emocluster_jax.reporting.plot_data import HIGHEST, LOWEST, histogram_edges, label_styles, rated_and_predicted

_HISTOGRAM_BINS = 20
_HEIGHT = 420
_PANEL = 440
"""In pixels: width of a panel that is about square."""


def cluster_figures(assignments: Int[np.ndarray, " chunks"], labels: LabelColumns) -> list[Figure]:
    """The distribution of each label that any sentence has, in each cluster and in the two that differ most.

    Args:
      assignments: cluster of every chunk, grouped by sentence.
      labels: of the sentences.
    """
    known = ((name, values) for name, values in labels.columns() if np.isfinite(values).any())
    return [_label_figure(name, assignments, values) for name, values in known]


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
        least, lower, median, upper, greatest = ([value] for value in cluster.quantiles)
        figure.add_trace(
            go.Box(
                x=[str(cluster.cluster)],
                lowerfence=least,
                q1=lower,
                median=median,
                q3=upper,
                upperfence=greatest,
                mean=[cluster.mean],
                line={"color": colours.get(cluster.cluster, GREY), "width": 1.5},
                showlegend=False,
                name=f"cluster {cluster.cluster}, {cluster.chunks} chunks",
            ),
            1,
            1,
        )
    known = np.isfinite(labels)
    values = labels[known].astype(np.float64)
    edges = histogram_edges(values, _HISTOGRAM_BINS)
    for title, cluster, colour in (("lowest", lowest, LOWEST), ("highest", highest, HIGHEST)):
        chunks, _ = np.histogram(values, edges, weights=counts[known, cluster.cluster])
        figure.add_trace(
            go.Bar(
                x=(edges[1:] + edges[:-1]) / 2,
                y=100 * chunks / cluster.chunks,
                width=np.diff(edges),
                marker={"color": colour, "opacity": 0.55, "line": {"width": 0}},
                name=f"{title}: cluster {cluster.cluster}, mean {cluster.mean:.2f}, {cluster.chunks} chunks",
                hovertemplate="%{x:.2f}: %{y:.1f} % of the chunks",
            ),
            1,
            2,
        )
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
    styles = label_styles(names)
    scatters = [
        rated_and_predicted(
            name,
            found.truth[:, i],
            found.predictions[:, i],
            run.scores[name].ccc if name in run.scores else None,
            styles[name].colour,
        )
        for i, name in enumerate(names)
    ]
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
