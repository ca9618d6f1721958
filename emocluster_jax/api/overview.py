"""How results show themselves: a line or two and a small table, which notebooks draw."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tabulate import tabulate

from emocluster_jax.errors import one_line

ROWS = 10
"""The most of a table that is shown."""


class Overview(NamedTuple):
    """What a person wants to see of a result at once.

    Attributes:
      lines: of text.
      columns: headers of the table, which has numbers in all columns but the first.
      rows: at least the first `ROWS` of the table.
      total: how many rows there are.
    """

    lines: Sequence[str]
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    total: int = 0


class Shown:
    """A result that Python prints, and notebooks draw, as its overview."""

    def _overview(self) -> Overview:
        raise NotImplementedError

    def __repr__(self) -> str:
        return "\n".join(self._parts("simple", str))

    def _repr_html_(self) -> str:
        return "\n".join(self._parts("html", lambda line: f"<div>{html.escape(line)}</div>"))

    def _parts(self, style: str, line: Callable[[str], str]) -> list[str]:
        lines, columns, rows, total = self._overview()
        parts = [line(one_line(text)) for text in lines]
        if rows:
            cells = [[one_line(cell) for cell in row] for row in rows[:ROWS]]
            alignment = ("left", *["right"] * (len(columns) - 1))
            parts.append(tabulate(cells, columns, style, colalign=alignment, disable_numparse=True))
        if total > ROWS:
            parts.append(line(f"and {total - ROWS} more"))
        return parts
