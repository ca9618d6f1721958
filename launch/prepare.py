"""`python -m launch.prepare`: recordings and labels become a data directory of TFDS records, ready for training."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emocluster_jax.api.requests import PrepareRequest
from emocluster_jax.corpora.registry import options_classes
from emocluster_jax.errors import InputError, one_line
from launch import command
from launch.options import invocation, named_values, parse

if TYPE_CHECKING:
    from emocluster_jax.console import Console
    from emocluster_jax.records.preparation import Preparation

DESCRIPTION = """Prepare recordings and their labels: a data directory of TFDS records, ready for training. What is
there already is used again, and what cannot be decoded is skipped and listed."""

_NAMES_SHOWN = 3
if TYPE_CHECKING:
    _OfCorpora = Any
else:
    # A field for each corpus that has options of its own.
    _OfCorpora = make_dataclass(
        "_OfCorpora", [(name, cls, field(default_factory=cls)) for name, cls in options_classes().items()], frozen=True
    )


@dataclass(frozen=True)
class Options:
    preparation: PrepareRequest
    of_corpora: _OfCorpora = field(default_factory=_OfCorpora)
    input_rates: tuple[str, ...] = field(default=(), metadata={"option": "input-rate"})
    """Which of the further inputs are frames, (frames, numbers), that run along the sound, as NAME=HZ: `face=25` for 25
    frames per second. All others are one vector for each recording."""
    quiet: bool = False
    """Print nothing but warnings and errors."""


def _summarize(preparation: Preparation, data_dir: Path | str, console: Console) -> None:
    from emocluster_jax.preprocessing.quality import told

    rows = [(split, count, preparation.hours[split]) for split, count in preparation.counts.items()]
    console.table("prepared", ["split", "recordings", "hours"], rows)
    if folds := preparation.folds:
        sizes = sorted(set(Counter(folds.of_recordings).values()))
        size = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"{sizes[0]}"
        console.line(
            f"The split train is in {folds.count} folds of {size} recordings, no speaker in two of them; "
            f"train with --fold 1 to {folds.count}"
        )
    if preparation.padded:
        console.line(f"{preparation.padded} recordings are shorter than one chunk and were padded")
    for line in told(preparation.noticed):
        console.line(line)
    names = defaultdict(list)
    for skipped in preparation.skipped:
        # Names of files may break a line or steer a terminal.
        names[skipped.reason].append(skipped.id if skipped.id.isprintable() else repr(skipped.id))
    for reason, ids in sorted(names.items(), key=lambda item: -len(item[1])):
        more = ", ..." if len(ids) > _NAMES_SHOWN else ""
        console.line(f"skipped {len(ids)}, {reason}: {', '.join(ids[:_NAMES_SHOWN])}{more}")
    console.line(one_line(f"data directory: {data_dir}"))


def _rate(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(
            f"--input-rate {name}={text} has no number of frames per second; give one: {name}=25"
        ) from None


def main() -> None:
    options = parse(Options, "prepare", DESCRIPTION, "--corpus manifest --source speech --data-dir data")
    from emocluster_jax.api.preparation import prepare

    console = command.console(options.quiet)
    rates = {
        name: _rate(name, hertz)
        for name, hertz in named_values("--input-rate", options.input_rates, "NAME=HZ", "face=25")
    }
    # Those that are given, of whatever corpus: `prepare` refuses other corpora's.
    given = {
        f.name: value
        for own in vars(options.of_corpora).values()
        for f in fields(own)
        if (value := getattr(own, f.name)) != f.default
    }
    try:
        own = {"corpus_options": given, "input_rates": rates, "console": console}
        preparation = prepare(**dict(vars(options.preparation), **own))
    except KeyboardInterrupt as signal:
        raise type(signal)(f"go on with: {invocation('prepare', *sys.argv[1:])}") from None
    _summarize(preparation, options.preparation.data_dir, console)


if __name__ == "__main__":
    command.run(main)
