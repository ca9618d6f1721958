"""The corpora by name: each is the module of that name in this package, imported when it is needed."""

from __future__ import annotations

import functools
import importlib
import inspect
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from emocluster_jax.corpora.unlabeled_pool import read_pool
from emocluster_jax.corpora.utterance import Utterance, sorted_rows
from emocluster_jax.errors import InputError
from emocluster_jax.settings import from_dict

CorpusName = Literal["demo", "manifest", "msp_podcast", "emotale", "iemocap", "crema_d"]


@functools.cache
def options_classes() -> dict[str, type[Any]]:
    """The dataclass that `read` takes as `options`, by corpus, for corpora that have options of their own."""
    hints = {name: typing.get_type_hints(_module(name).read) for name in typing.get_args(CorpusName)}
    return {name: found["options"] for name, found in hints.items() if "options" in found}


def options_of(corpus: CorpusName, given: Mapping[str, Any]) -> Any | None:
    """The corpus's own options from values by name, with defaults for the rest; None for a corpus without options.

    Raises:
      InputError: there is no such corpus, it has no such option, or a value is wrong.
    """
    names = typing.get_args(CorpusName)
    if corpus not in names:
        raise InputError(f"there is no corpus {corpus!r}; there are {', '.join(names)}")
    classes = options_classes()
    for name in given:
        users = [user for user, cls in classes.items() if name in cls.__dataclass_fields__]
        if corpus not in users:
            belongs = f"belongs to `corpus={' and '.join(users)}`, not to" if users else "is not an option of"
            raise InputError(f"`{name}` {belongs} {corpus}")
    return from_dict(classes[corpus], dict(given), corpus) if corpus in classes else None


def read_corpus(
    corpus: CorpusName,
    source: Path,
    options: Any | None,
    suffixes: frozenset[str],
    unlabeled: Path | None = None,
    unlabeled_limit: int | None = None,
) -> list[Utterance]:
    """The rows of a corpus, read with `options` (from `options_of`), and of a folder `unlabeled` of recordings.

    A reader gets the arguments that its parameters name; without one for `unlabeled`, that folder is read here.
    `suffixes` are the file name endings that count as recordings.
    """
    read = _module(corpus).read
    takes = inspect.signature(read).parameters
    pool = {"unlabeled": unlabeled, "unlabeled_limit": unlabeled_limit}
    given = {"options": options, "suffixes": suffixes, **pool}
    utterances = read(source, **{name: value for name, value in given.items() if name in takes})
    if unlabeled is None or "unlabeled" in takes:
        return utterances
    root = source if source.is_dir() else source.parent
    return sorted_rows([*utterances, *read_pool(unlabeled, root, utterances, unlabeled_limit, suffixes=suffixes)])


def _module(corpus: str) -> Any:
    return importlib.import_module(f"emocluster_jax.corpora.{corpus}")
