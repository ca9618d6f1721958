"""The map of recordings by the two directions in which their embeddings vary most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from emocluster_jax.reporting.html.figures import GREY, Figure, cluster_colour, palette, plain, styled
from emocluster_jax.reporting.html.sample import Sample, SampledRecording

FEWEST = 3
"""The fewest recordings that span a plane."""
_MOST_CATEGORIES = 60
_LONGEST_LEGEND = 24
_WIDTH, _LOWEST, _HIGHEST, _MARGINS = 1_000, 480, 760, 170
"""In pixels: the map's usual width, limits of its height, and the space above and below it."""
_SYMBOLS = {"train": "circle", "validation": "square", "test": "diamond"}


def embedding_map(sample: Sample) -> Figure:
    """The recordings, at least `FEWEST`, on their first two principal components, with the centroids.

    Unlike t-SNE and UMAP, principal components keep the meaning of distances, give centroids a place among the
    recordings, and give the same map for the same embeddings.
    """
    from sklearn.decomposition import PCA

    components = PCA(2, svd_solver="full").fit(sample.embeddings)
    places = components.transform(sample.embeddings)
    recordings = sample.recordings

    def dots(rows: Sequence[int], title: str, marker: dict[str, object], legend: bool = True) -> go.Scatter:
        symbols = [_SYMBOLS[recordings[i].split] for i in rows]
        return go.Scatter(
            x=np.round(places[rows, 0], 4),
            y=np.round(places[rows, 1], 4),
            mode="markers",
            name=title,
            showlegend=legend,
            marker={"size": 7, "symbol": symbols, "line": {"width": 0.5, "color": GREY}, **marker},
            text=[_details(recordings[i]) for i in rows],
            hovertemplate="%{text}<extra></extra>",
        )

    def categories(
        values: Sequence[str], names: Sequence[str], colours: Sequence[str] | None = None
    ) -> list[go.Scatter]:
        """One trace per name, each in its own colour."""
        return [
            dots(_rows(values, name), plain(name), {"color": colour}, len(names) <= _LONGEST_LEGEND)
            for name, colour in zip(names, colours or palette(len(names)), strict=True)
        ]

    colourings: dict[str, list[go.Scatter]] = {}
    clusters = sorted({recording.cluster for recording in recordings if recording.cluster is not None})
    if clusters:
        names = [f"cluster {cluster}" for cluster in clusters]
        values = [f"cluster {recording.cluster}" for recording in recordings]
        colourings["cluster"] = categories(values, names, [cluster_colour(cluster) for cluster in clusters])
        if sample.centroids is not None:
            colourings["cluster"].append(_centroids(components.transform(np.asarray(sample.centroids))))
    for name in dict.fromkeys(name for recording in recordings for name in recording.labels):
        known, unknown = (_rows([name in recording.labels for recording in recordings], of) for of in (True, False))
        scale = {
            "color": [recordings[i].labels[name] for i in known],
            "colorscale": "Viridis",
            "colorbar": {"title": {"text": name}, "thickness": 14, "outlinewidth": 0},
        }
        colourings[name] = [dots(known, f"rated {name}", scale, legend=False)]
        if unknown:
            colourings[name].append(dots(unknown, "no label", {"color": GREY, "opacity": 0.35}))
    for title in ("split", "gender", "speaker"):
        values = [getattr(recording, title) for recording in recordings]
        names = sorted(set(values) - {""})
        if 2 <= len(names) <= _MOST_CATEGORIES:
            colourings[title] = categories(values, names)
    if not colourings:
        colourings["recordings"] = categories([""] * len(recordings), [""])

    traces: list[go.Scatter] = []
    choices: dict[str, tuple[int, ...]] = {}
    for title, found in colourings.items():
        choices[title] = tuple(range(len(traces), len(traces) + len(found)))
        traces += [trace.update(visible=len(choices) == 1) for trace in found]
    figure = go.Figure(traces)
    shares = 100 * components.explained_variance_ratio_
    figure.update_xaxes(title_text=f"first component, {shares[0]:.0f} % of the variance", showgrid=False)
    # Both axes have the same scale.
    figure.update_yaxes(title_text=f"second, {shares[1]:.0f} %", showgrid=False, scaleanchor="x", scaleratio=1)
    width, height = np.ptp(places, axis=0)
    panel = int(np.clip(_WIDTH * height / max(width, 1e-12), _LOWEST, _HIGHEST))
    styled(figure, panel + _MARGINS, hovermode="closest")
    return Figure("embedding-map", figure, panel + _MARGINS, choices=choices)


def _rows(values: Sequence[object], wanted: object) -> list[int]:
    return [i for i, value in enumerate(values) if value == wanted]


def _centroids(places: Float[np.ndarray, "K 2"]) -> go.Scatter:
    return go.Scatter(
        x=np.round(places[:, 0], 4),
        y=np.round(places[:, 1], 4),
        mode="markers+text",
        name="centroids",
        text=[str(cluster) for cluster in range(len(places))],
        textposition="middle center",
        # Dark on white in both of the page's themes, so that numbers can be read among the dots.
        textfont={"size": 12, "color": "#23262b"},
        marker={"symbol": "circle", "size": 19, "color": "#ffffff", "line": {"width": 1.5, "color": "#23262b"}},
        hovertemplate="centroid of cluster %{text}<extra></extra>",
    )


def _details(recording: SampledRecording) -> str:
    lines = [f"<b>{plain(recording.id)}</b>", *map(plain, recording.details)]
    if recording.cluster is not None:
        lines.append(f"cluster {recording.cluster} ({recording.chunks_in_cluster} of its chunks)")
    return "<br>".join(lines)
