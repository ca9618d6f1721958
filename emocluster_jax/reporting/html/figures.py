"""Common parts of a page's figures. The page sets their text and line colours for its light or dark theme."""

from __future__ import annotations

import re
from itertools import cycle, islice
from typing import Any, NamedTuple

import plotly.graph_objects as go
from markupsafe import escape
from plotly.colors import qualitative
from plotly.io import to_json

# Okabe & Ito (2008), neighbours distinct, without black and yellow, which vanish on one of the backgrounds.
_TEN = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8B6F47", "#7F7F7F", "#8A63D2", "#A3A500")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")
GREY = "#8a8f98"
_TOP, _LEGEND_BELOW = 28, 56
"""In pixels: the space above a panel, for buttons, and between it and the legend, for ticks and the axis's title."""


class Figure(NamedTuple):
    """A figure to be drawn by Plotly; sizes are in pixels.

    Attributes:
      name: letters and hyphens, unique in the page.
      title: above it; text, not HTML.
      note: beside the title, e.g. what a line means.
      widest: the greatest width, for figures that should not be stretched.
      choices: groups of traces by title, of which one is shown at a time, at first the first.
    """

    name: str
    figure: go.Figure
    height: int
    title: str = ""
    note: str = ""
    widest: int | None = None
    choices: dict[str, tuple[int, ...]] | None = None

    @property
    def json(self) -> str:
        return to_json(self.figure, validate=False, engine="json") or ""


def plain(text: str) -> str:
    """Text from outside for a figure; tags are escaped, since Plotly takes them for formatting."""
    return str(escape(_CONTROL.sub(" ", text)))


def palette(count: int) -> list[str]:
    """Colours of categories, repeated if there are more than can be told apart."""
    return list(islice(cycle((*_TEN, *qualitative.Light24)), count))


def cluster_colour(cluster: int) -> str:
    """The colour of a cluster, the same everywhere in a page."""
    return palette(cluster + 1)[cluster]


def number_epochs(figure: go.Figure, first: int, last: int) -> None:
    """Labels the horizontal axis with whole epochs."""
    ticks: dict[str, Any] = {"dtick": 1} if last - first < 8 else {"nticks": 8, "tickformat": "d"}
    figure.update_xaxes(title_text="epoch", range=[first - 0.5, last + 0.5], **ticks)


def styled(figure: go.Figure, height: int, *, legend: bool = True, **layout: Any) -> go.Figure:
    """Gives a figure the page's style; `height` is in pixels, and `legend` leaves space for one below the axis."""
    bottom = _LEGEND_BELOW + 28 if legend else _LEGEND_BELOW
    below = -_LEGEND_BELOW / (height - _TOP - bottom)
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": GREY},
        margin={"l": 56, "r": 16, "t": _TOP, "b": bottom},
        hoverlabel={"align": "left"},
        legend={"orientation": "h", "traceorder": "normal", "x": 0, "y": below, "yanchor": "top"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": GREY},
        **layout,
    )
    line = {"gridcolor": GREY, "zeroline": False, "exponentformat": "power", "title_standoff": 6, "title_font_size": 13}
    figure.update_xaxes(showline=True, linecolor=GREY, ticks="outside", tickcolor=GREY, **line)
    figure.update_yaxes(automargin=True, **line)
    return figure
