"""Labels by name: many recordings' as columns, and warnings about columns not used and values far from all others."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from emocluster_jax.corpora.table import Table, is_missing
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError

VAD = ("arousal", "dominance", "valence")
"""The labels of the published corpora, and those that a manifest is searched for by default."""
_OTHER_NAMES = {
    "arousal": re.compile(r"arousal|activation|(^|[^a-z])(emo)?(act|aro)([^a-z]|$)|^a$"),
    "dominance": re.compile(r"dominance|potency|(^|[^a-z])((emo)?dom|control|power)([^a-z]|$)|^d$"),
    "valence": re.compile(r"valence|pleasure|pleasantness|(^|[^a-z])(emo)?val([^a-z]|$)|^v$"),
}
"""Names of columns, in lower case, that probably hold an attribute."""
_SHOWN = 8
_FAR = 10
"""Times the median absolute deviation."""
_FEW = 5
_ROUNDING = 1e-6
"""Of their magnitude; values that differ by less are equal."""


@dataclass(frozen=True, eq=False)
class LabelColumns:
    """Labels of recordings in the corpus's own units, NaN where missing: one row per recording, a name per column."""

    names: tuple[str, ...]
    values: Float[np.ndarray, "recordings labels"]

    def __len__(self) -> int:
        return len(self.values)

    def of(self, names: Sequence[str]) -> Float[np.ndarray, "recordings A"]:
        """The columns with these names, in this order; NaN throughout for a name that is absent."""
        missing = np.full((len(self), 1), np.nan, self.values.dtype)
        positions = [self.names.index(name) if name in self.names else -1 for name in names]
        return np.concatenate([self.values, missing], axis=1)[:, positions]

    def columns(self) -> Iterator[tuple[str, Float[np.ndarray, " recordings"]]]:
        return zip(self.names, self.values.T, strict=True)

    def rows(self, positions: Int[np.ndarray, " n"]) -> LabelColumns:
        return LabelColumns(self.names, self.values[positions])


def check_known(names: Iterable[str], known: Sequence[str]) -> None:
    """Raises InputError for the first label that the data do not have."""
    for name in names:
        if name not in known:
            raise InputError(
                f"the data have no label {name!r}; they have {', '.join(known) or 'none'}; choose other `attributes`, "
                "or prepare data with this label"
            )


def label_names(utterances: Iterable[Utterance]) -> tuple[str, ...]:
    """The names of all labels of these rows, in order of appearance."""
    return tuple(dict.fromkeys(name for utterance in utterances for name in utterance.labels))


def label_columns(utterances: Sequence[Utterance], names: Sequence[str]) -> LabelColumns:
    """The rows' labels with these names, in float64."""
    values = [[utterance.labels.get(name, np.nan) for name in names] for utterance in utterances]
    return LabelColumns(tuple(names), np.array(values, np.float64).reshape(len(utterances), len(names)))


def unused_columns(table: Table, used: Collection[str], labels: Sequence[str]) -> str | None:
    """A warning that names columns of numbers that are not used, and those to rename; None if there are none.

    `labels` are the columns that labels are read from, `used` others that are read, in lower case.
    """
    read = {*used, *map(str.casefold, labels)}
    unused = [name for name in table.columns if name.casefold() not in read and _holds_numbers(table, name)]
    if not unused:
        return None
    renames = [
        f"{' or '.join(candidates)} to {attribute}"
        for attribute, pattern in _OTHER_NAMES.items()
        if not table.has(attribute) and (candidates := [name for name in unused if pattern.search(name.casefold())])
    ]
    more = f" and {len(unused) - _SHOWN} more" if len(unused) > _SHOWN else ""
    advice = f", or rename {', '.join(renames)}" if renames else ""
    return (
        f"{table.path}: columns of numbers that are not used: {', '.join(unused[:_SHOWN])}{more} "
        f"(labels are read from {', '.join(labels) or 'none'}); to use them as labels, name them by `labels`{advice}"
    )


def _holds_numbers(table: Table, column: str) -> bool:
    """Whether all fields that are not missing, at least one, are numbers, with a decimal point or comma."""
    fields = [field for row in table if not is_missing(field := row.text(column))]
    try:
        return bool([float(field.replace(",", ".")) for field in fields])
    except ValueError:
        return False


def outlying_labels(utterances: Sequence[Utterance]) -> list[str]:
    """A warning for each label with values more than ten times the median absolute deviation away from the median.

    If that deviation is 0, as more than half of the values are equal, the median deviation of the others takes its
    place, or the median itself if hardly any differ. The warning names the recording with the most extreme value.
    """
    warnings = []
    for attribute, values in label_columns(utterances, label_names(utterances)).columns():
        labeled = np.flatnonzero(np.isfinite(values))
        if not len(labeled):
            continue
        with np.errstate(over="ignore"):  # what becomes infinite is far from anything
            median = float(np.median(values[labeled]))
            deviations = np.abs(values[labeled] - median)
        count = int((deviations > _FAR * _spread(deviations, median)).sum())
        if count:
            worst = labeled[deviations.argmax()]
            warnings.append(
                f"{attribute}: {count} of {len(labeled)} values lie more than {_FAR} times the median absolute "
                f"deviation from the median, {median:g}; the most extreme is {values[worst]:g}, of "
                f"{utterances[worst].id}; check them, and leave empty what is missing"
            )
    return warnings


def _spread(deviations: Float[np.ndarray, " n"], median: float) -> float:
    """How far most values are from the median, in their unit."""
    magnitude = abs(median) or 1.0
    spread = float(np.median(deviations))
    if spread > _ROUNDING * magnitude:
        return spread
    others = deviations[deviations > _ROUNDING * magnitude]
    return magnitude if len(others) < max(_FEW, len(deviations) / 20) else float(np.median(others))
