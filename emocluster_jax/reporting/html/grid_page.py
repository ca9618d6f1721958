"""The page of an experiment: its tables and figures, and its runs side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import plotly.graph_objects as go

from emocluster_jax.reporting.html.figures import Figure, number_epochs, palette, plain, styled
from emocluster_jax.reporting.html.grid_files import GridFiles, GridRun, system_title
from emocluster_jax.reporting.html.rendering import render
from emocluster_jax.reporting.plot_data import Metrics

_HEIGHT = 440
_LEGEND_ROW, _NAMES_A_ROW = 20, 2
"""Height in pixels, and how many settings' names usually fit."""
_SETTING_ROW = 52
"""In pixels: the height of a setting's row, for names of several lines."""


def grid_page(grid: GridFiles, output: Path) -> str:
    """The page of an experiment, to be written to `output`, with links to the existing pages of its runs."""
    return render(
        "grid.html",
        title=grid.workdir.resolve().name,
        subtitle=f"An experiment of {len(grid.runs)} runs.",
        facts=[],
        problems=grid.problems,
        tables=grid.tables,
        pictures=grid.pictures,
        scores=_scores(grid),
        curves=_curves(grid.runs),
        runs=[(run, _own_page(run, output)) for run in grid.runs],
        columns=list(grid.results[0]) if grid.results else [],
        results=[list(record.values()) for record in grid.results],
    )


def _own_page(run: GridRun, output: Path) -> str | None:
    """A link to the run's own page, if there is one."""
    page = run.workdir / "report.html"
    # If a run cannot be read, its folder may have a name that no file system allows.
    if run.files is None or not page.exists():
        return None
    return quote(Path(os.path.relpath(page.resolve(), output.parent.resolve())).as_posix())


def _scores(grid: GridFiles) -> list[Figure]:
    """Test CCC of every run that trained a regressor, and means, by setting; one figure per attribute."""
    points: dict[str, dict[str, dict[str, float]]] = {}
    for record in grid.results:
        if record["test_ccc"] and record.get("stages") != "unsupervised":
            by_setting = points.setdefault(record["attribute"], {})
            # Several tables may show the same run.
            by_setting.setdefault(_setting(record), {})[record["workdir"]] = float(record["test_ccc"])
    settings = list(dict.fromkeys(setting for by_setting in points.values() for setting in by_setting))
    colours = dict(zip(settings, palette(len(settings)), strict=True))
    return [
        _attribute_scores(f"grid-scores-{number}", attribute, by_setting, colours)
        for number, (attribute, by_setting) in enumerate(points.items())
    ]


def _attribute_scores(
    name: str, attribute: str, by_setting: Mapping[str, Mapping[str, float]], colours: Mapping[str, str]
) -> Figure:
    figure = go.Figure()
    for setting in colours:
        if setting not in by_setting:
            continue
        cccs, colour = list(by_setting[setting].values()), colours[setting]
        title = plain(setting).replace(", ", "<br>")
        row = {"name": plain(setting), "showlegend": False, "mode": "markers"}
        dot = {"color": colour, "size": 8}
        dots = go.Scatter(x=cccs, y=[title] * len(cccs), marker=dot, opacity=0.55, hovertemplate="%{x:.3f}", **row)
        bar = {"color": colour, "symbol": "line-ns", "size": 18, "line": {"width": 3, "color": colour}}
        text = f"mean of {len(cccs)}: %{{x:.3f}}"
        mean = go.Scatter(x=[float(np.mean(cccs))], y=[title], marker=bar, hovertemplate=text, **row)
        figure.add_traces([dots, mean])
    height = 110 + _SETTING_ROW * len(by_setting)
    styled(figure, height, legend=False)
    figure.update_xaxes(title_text="test CCC")
    figure.update_yaxes(autorange="reversed", showgrid=True)
    return Figure(name, figure, height, attribute.capitalize())


def _setting(record: Mapping[str, str]) -> str:
    """In the words of the experiment's tables."""
    parts = [system_title(record.get("model", ""))]
    if record.get("clusters"):
        parts.append(f"K = {record['clusters']}")
    if record.get("stages") == "unsupervised":
        parts.append("stage I alone")
    if record.get("without"):
        parts.append(f"without {record['without']}")
    if record.get("unlabeled_size") not in (None, "", "0"):
        parts.append(f"{int(float(record['unlabeled_size'])):,} unlabelled")
    return ", ".join(parts)


def _curves(runs: Sequence[GridRun]) -> list[Figure]:
    """Validation CCC and NMI of every run over its epochs, by attribute: one colour per setting."""
    trained: dict[str, list[tuple[GridRun, Metrics]]] = {}
    for run in runs:
        if run.files is not None and run.files.metrics:
            trained.setdefault(run.settings.get("attribute", ""), []).append((run, run.files.metrics))
    settings = list(dict.fromkeys(_setting(run.settings) for of_one in trained.values() for run, _ in of_one))
    colours = dict(zip(settings, palette(len(settings)), strict=True))
    drawn = []
    for number, (attribute, of_one) in enumerate(trained.items()):
        cccs = [[(epoch.get("validation_ccc") or {}).get(attribute) for epoch in metrics] for _, metrics in of_one]
        changes = [[epoch.get("nmi_previous") for epoch in metrics] for _, metrics in of_one]
        title = attribute.capitalize()
        drawn += [
            _curves_of_runs(f"grid-ccc-{number}", f"{title}: validation CCC of sentences", of_one, cccs, colours),
            _curves_of_runs(
                f"grid-nmi-{number}",
                f"{title}: NMI of the clusters with those of the epoch before",
                of_one,
                changes,
                colours,
            ),
        ]
    return [figure for figure in drawn if figure is not None]


def _curves_of_runs(
    name: str,
    title: str,
    runs: Sequence[tuple[GridRun, Metrics]],
    values: Sequence[Sequence[float | None]],
    colours: Mapping[str, str],
) -> Figure | None:
    """A curve for each run that has any of the `values`; None if no run has."""
    figure = go.Figure()
    legend: set[str] = set()
    for (run, metrics), curve in zip(runs, values, strict=True):
        if all(value is None for value in curve):
            continue
        setting = _setting(run.settings)
        line = go.Scatter(
            x=[epoch["epoch"] for epoch in metrics],
            y=curve,
            name=plain(setting),
            legendgroup=setting,
            showlegend=setting not in legend,
            mode="lines+markers" if len(metrics) < 3 else "lines",
            line={"color": colours[setting], "width": 1.5},
            opacity=0.8,
            text=[plain(run.title)] * len(metrics),
            hovertemplate="%{text}<br>epoch %{x}: %{y:.3f}<extra></extra>",
        )
        figure.add_trace(line)
        legend.add(setting)
    if not legend:
        return None
    number_epochs(figure, 1, max(metrics[-1]["epoch"] for _, metrics in runs))
    height = _HEIGHT + _LEGEND_ROW * (len(legend) // _NAMES_A_ROW)
    return Figure(name, styled(figure, height, hovermode="closest"), height, title)
