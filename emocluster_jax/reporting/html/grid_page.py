"""The page of an experiment: its tables and figures, and its runs side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import plotly.graph_objects as go

from emocluster_jax.reporting.html.figures import Figure, number_epochs, palette, panels, plain, styled
from emocluster_jax.reporting.html.grid_files import GridFiles, GridRun
from emocluster_jax.reporting.html.rendering import render
from emocluster_jax.reporting.plot_data import Metrics

_HEIGHT = 440
_LEGEND_ROW, _NAMES_A_ROW = 20, 3
"""Height in pixels, and how many settings' names usually fit."""


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


def _scores(grid: GridFiles) -> Figure | None:
    """Test CCC of every run that trained a regressor, and means, by setting; one panel per attribute."""
    points: dict[str, dict[str, dict[str, float]]] = {}
    for record in grid.results:
        if record["test_ccc"] and record.get("stages") != "unsupervised":
            by_setting = points.setdefault(record["attribute"], {})
            # Several tables may show the same run.
            by_setting.setdefault(_setting(record), {})[record["workdir"]] = float(record["test_ccc"])
    if not points:
        return None
    settings = list(dict.fromkeys(setting for by_setting in points.values() for setting in by_setting))
    colours = dict(zip(settings, palette(len(settings)), strict=True))
    figure = panels([plain(name) for name in points], shared_yaxes=True)
    for column, by_setting in enumerate(points.values(), start=1):
        for setting in settings:
            if setting not in by_setting:
                continue
            cccs, colour, name = list(by_setting[setting].values()), colours[setting], plain(setting)
            row = {"name": name, "legendgroup": setting, "showlegend": False, "mode": "markers"}
            dot = {"color": colour, "size": 8}
            dots = go.Scatter(x=cccs, y=[name] * len(cccs), marker=dot, opacity=0.55, hovertemplate="%{x:.3f}", **row)
            bar = {"color": colour, "symbol": "line-ns", "size": 18, "line": {"width": 3, "color": colour}}
            text = f"mean of {len(cccs)}: %{{x:.3f}}"
            mean = go.Scatter(x=[float(np.mean(cccs))], y=[name], marker=bar, hovertemplate=text, **row)
            figure.add_traces([dots, mean], rows=[1, 1], cols=[column, column])
    height = 110 + 34 * len(settings)
    styled(figure, height, legend=False)
    figure.update_xaxes(title_text="test CCC")
    figure.update_yaxes(autorange="reversed", showgrid=True)
    return Figure("grid-scores", figure, height)


def _setting(record: Mapping[str, str]) -> str:
    parts = [record.get("model", "")]
    if record.get("clusters"):
        parts.append(f"K = {record['clusters']}")
    if record.get("unlabeled_size") not in (None, "", "0"):
        parts.append(f"{record['unlabeled_size']} unlabelled")
    if record.get("stages") == "unsupervised":
        parts.append("stage I alone")
    return ", ".join(parts)


def _curves(runs: Sequence[GridRun]) -> list[Figure]:
    """Validation CCC and NMI of every run over its epochs: one figure per attribute, one colour per setting."""
    trained: dict[str, list[tuple[GridRun, Metrics]]] = {}
    for run in runs:
        if run.files is not None and run.files.metrics:
            trained.setdefault(run.settings.get("attribute", ""), []).append((run, run.files.metrics))
    settings = list(dict.fromkeys(_setting(run.settings) for of_one in trained.values() for run, _ in of_one))
    colours = dict(zip(settings, palette(len(settings)), strict=True))
    return [
        _attribute_curves(f"grid-curves-{number}", attribute, of_one, colours)
        for number, (attribute, of_one) in enumerate(trained.items())
    ]


def _attribute_curves(
    name: str, attribute: str, runs: Sequence[tuple[GridRun, Metrics]], colours: Mapping[str, str]
) -> Figure:
    figure = panels((f"{plain(attribute).capitalize()}: CCC of the validation split", "NMI with the epoch before"))
    legend: set[str] = set()
    for run, metrics in runs:
        setting = _setting(run.settings)
        cccs = [(epoch.get("validation_ccc") or {}).get(attribute) for epoch in metrics]
        for column, values in ((1, cccs), (2, [epoch.get("nmi_previous") for epoch in metrics])):
            if all(value is None for value in values):
                continue
            line = go.Scatter(
                x=[epoch["epoch"] for epoch in metrics],
                y=values,
                name=plain(setting),
                legendgroup=setting,
                showlegend=setting not in legend,
                mode="lines+markers" if len(metrics) < 3 else "lines",
                line={"color": colours[setting], "width": 1.5},
                opacity=0.8,
                text=[plain(run.title)] * len(metrics),
                hovertemplate="%{text}<br>epoch %{x}: %{y:.3f}<extra></extra>",
            )
            figure.add_trace(line, 1, column)
            legend.add(setting)
    number_epochs(figure, 1, max(metrics[-1]["epoch"] for _, metrics in runs))
    height = _HEIGHT + _LEGEND_ROW * (len(legend) // _NAMES_A_ROW)
    return Figure(name, styled(figure, height, hovermode="closest"), height)
