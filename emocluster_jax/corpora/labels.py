"""Labels by name: an array of many recordings' labels, with a name for each column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError

VAD = ("arousal", "dominance", "valence")
"""The labels of the published corpora, and those that a manifest is searched for by default."""


@dataclass(frozen=True, eq=False)
class LabelColumns:
    """Labels of recordings in the corpus's own units, NaN where missing.

    Attributes:
      names: of the columns, each once.
      values: one row per recording.
    """

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
        """Each name with its column."""
        return zip(self.names, self.values.T, strict=True)

    def rows(self, positions: Int[np.ndarray, " n"]) -> LabelColumns:
        """The labels of the recordings at these positions."""
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
