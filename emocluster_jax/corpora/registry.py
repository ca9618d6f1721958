"""The corpora by the names that `--corpus` knows: each is the module of that name in this package."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from emocluster_jax.corpora.utterance import Utterance

CorpusName = Literal["demo", "manifest", "msp_podcast", "emotale", "iemocap", "crema_d"]


def reader_of(corpus: CorpusName) -> Callable[[Path], list[Utterance]]:
    """The corpus's `read`: from its folder to its rows. Its module is loaded only now."""
    return importlib.import_module(f"emocluster_jax.corpora.{corpus}").read
