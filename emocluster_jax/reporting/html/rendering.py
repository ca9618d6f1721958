"""Renders templates into one page that needs no network and no server."""

from __future__ import annotations

import base64
import hashlib
import math
from functools import partial
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markdown_it import MarkdownIt
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from emocluster_jax import __version__

_TEMPLATES = "templates"


def render(template: str, **context: Any) -> str:
    """A page from one of the package's templates.

    Every text is escaped. The browser may load nothing, and run only Plotly's scripts and the page's own, by hash.
    """
    environment = Environment(
        loader=PackageLoader(__package__ or "", _TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    # JSON that cannot end the script element around it.
    script_json = partial(htmlsafe_json_dumps, dumps=str)
    environment.filters |= {"number": number, "script_json": script_json, "markdown": markdown}
    scripts = [get_plotlyjs(), _asset("page.js")]
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    page = environment.get_template(template).render(
        **context,
        version=__version__,
        style=Markup(_asset("page.css")),
        scripts=[Markup(script) for script in scripts],
        security_policy=f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "media-src data:; base-uri 'none'; form-action 'none'",
    )
    # File names and JSON may contain lone surrogates, which UTF-8 cannot encode.
    return page.encode("utf-8", "backslashreplace").decode()


def number(value: str | float | None, decimals: int = 3) -> str:
    """E.g. "0.123"; a dash for an unknown value; text and whole numbers as they are."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "\N{EN DASH}"
    return f"{value:z.{decimals}f}".replace("-", "\N{MINUS SIGN}") if isinstance(value, float) else str(value)


def markdown(text: str) -> Markup:
    """Markdown with tables as HTML. Tags are shown as text; links and images are not recognised."""
    rules = ["link", "image", "autolink", "reference"]
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").disable(rules).render(text))


def data_uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def _asset(name: str) -> str:
    return files(__package__ or "").joinpath(_TEMPLATES, name).read_text("utf-8")
