"""Reports as HTML; they need the extra `report`."""

from __future__ import annotations

from importlib.util import find_spec

from emocluster_jax.errors import InputError

for _name in ("jinja2", "markdown_it", "plotly"):
    if find_spec(_name) is None:
        raise InputError(f'the report needs {_name}, which is not installed: pip install "emocluster_jax[report]"')
