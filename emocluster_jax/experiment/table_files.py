"""Tables as files: Markdown and LaTeX to read, CSV to compute with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from emocluster_jax.experiment.tables import Record, ResultTable
from emocluster_jax.storage.atomic_files import replacing, replacing_csv


def write_table(folder: Path, table: ResultTable) -> None:
    """Writes `NAME.md`, `NAME.csv` and `NAME.tex` into an existing folder.

    The LaTeX file is a `tabular` that needs the package booktabs, without a float around it.
    """
    _write(folder / f"{table.name}.md", markdown(table))
    _write(folder / f"{table.name}.tex", latex(table))
    write_records(folder / f"{table.name}.csv", table.records)


def markdown(table: ResultTable) -> str:
    """The table with its title and notes, in Markdown with pipe tables."""
    from tabulate import tabulate

    body = tabulate(table.rows, table.header, "pipe", disable_numparse=True, colalign=_alignment(table))
    return "\n".join([f"### {table.title}", "", body, "", *table.notes, ""])


def latex(table: ResultTable) -> str:
    """The table, its title and notes as comments, with LaTeX's special characters escaped."""
    from tabulate import tabulate

    body = tabulate(table.rows, table.header, "latex_booktabs", disable_numparse=True, colalign=_alignment(table))
    return "\n".join([f"% {line}" for line in (table.title, *table.notes)] + [body, ""])


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Writes numbers as CSV, unrounded, with an empty cell for None; an empty file where there are none."""
    with replacing_csv(path) as rows:
        if records:
            rows.writerow(records[0])
            rows.writerows([record.get(name) for name in records[0]] for record in records)


def _alignment(table: ResultTable) -> list[str] | None:
    """Names to the left, numbers to the right."""
    if not table.rows:
        return None
    columns = zip(*table.rows, strict=True)
    return ["left" if any(cell[:1].isalpha() for cell in column) else "right" for column in columns]


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")
