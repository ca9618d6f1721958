"""Tables of labels as JSON: an object of objects, one for each recording, keyed by its file name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from emocluster_jax.corpora.table import Row, Table
from emocluster_jax.corpora.text_files import read_text
from emocluster_jax.errors import InputError


def read_json_table(path: Path, key: str) -> Table:
    """Reads a JSON file such as `{"a.wav": {"EmoAct": 4.2, "Split_Set": "Train"}, ...}`.

    Args:
      path: the file.
      key: the name of the column that gets the outer object's keys.

    Returns:
      The table, with at least one row. A row's field is empty where its object has no such entry, or null.

    Raises:
      InputError: the file is missing, not JSON, empty, of another form, or an object has two entries of one name.
    """
    try:
        # Objects as tuples of their entries: a dictionary would keep the last of two entries of one name.
        entries = json.loads(read_text(path), object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable as JSON ({error}); mend it or get it again") from None
    if not isinstance(entries, tuple) or not all(isinstance(entry, tuple) for _, entry in entries):
        raise InputError(f"{path}: expected a JSON object that has an object for each recording, by its file name")
    if not entries:
        raise InputError(f"{path} is empty; expected a JSON object that has an object for each recording")
    columns = {key.casefold(): key}
    for _, entry in entries:
        for name, _ in entry:
            columns.setdefault(name.casefold(), name)
    table = Table(path, "", tuple(columns.values()), {name: i for i, name in enumerate(columns)}, [])
    for number, (recording, entry) in enumerate(entries, start=1):
        place = f"entry {number} ({recording})"
        fields = {key.casefold(): recording.strip()}
        for name, value in entry:
            if name.casefold() in fields:
                raise InputError(f"{path}, {place} has {name!r} twice; remove one")
            fields[name.casefold()] = _text(value)
        table.rows.append(Row(table, place, [fields.get(name, "") for name in columns]))
    return table


def _text(value: Any) -> str:
    """A JSON value as a CSV file would have it."""
    if isinstance(value, str):
        return value.strip()
    return "" if value is None else json.dumps(value)
