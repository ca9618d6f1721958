"""`python -m launch.prepare`: recordings and labels become a data directory of TFDS records, ready for training."""

from __future__ import annotations

import shlex
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from emocluster_jax.config import FOLDS, FRAME_RATE, MEL_BANDS, RECORDINGS, WINDOW_MS, WORKERS
from emocluster_jax.corpora.registry import CorpusName, options_classes
from emocluster_jax.errors import one_line
from emocluster_jax.ranges import within
from emocluster_jax.settings import check_numbers
from launch import command
from launch.options import parse
from launch.wording import invocation

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
        "_OfCorpora",
        [(name, cls, field(default_factory=cls)) for name, cls in options_classes().items()],
        frozen=True,
    )


@dataclass(frozen=True)
class Options:
    corpus: CorpusName
    """What lies in the source folder."""
    source: Path
    """The corpus's folder; for corpus manifest, the CSV file in it will do. `demo` makes its recordings there
    if they are missing."""
    data_dir: Path
    """Where the records go. A run that was killed goes on where it stopped, with the same command."""
    unlabeled: Path | None = None
    """A folder of recordings without labels, which join the unlabelled split."""
    unlabeled_limit: int | None = field(default=None, metadata=within(RECORDINGS))
    """Take this many of that folder: the same ones each time, and a smaller number is part of a larger."""
    window_ms: float = field(default=32, metadata=within(WINDOW_MS))
    """Length of the mel spectrogram's windows, in milliseconds."""
    hop_ms: float = field(default=16, metadata=within(WINDOW_MS))
    """From the beginning of one window to that of the next, in milliseconds. Models only take records that were
    prepared like their training data; what they predict they prepare alike by themselves."""
    mel_bands: int = field(default=128, metadata=within(MEL_BANDS))
    """Bands of the mel spectrogram."""
    frame_rate: float | None = field(default=None, metadata=within(FRAME_RATE))
    """The recordings are files of features (.npy, frames by dimensions), with this many frames a second: embeddings of
    WavLM or wav2vec 2.0 have 50."""
    statistics_from: Path | None = None
    """Normalise by the feature statistics of this data directory, or of this model directory to evaluate the model,
    instead of those of this corpus's training split."""
    folds: int | Literal["speakers"] | None = field(default=None, metadata=within(FOLDS))
    """Deal all labelled recordings, whatever their split, out to this many folds by speaker, or to a fold for each
    speaker; launch.train --fold says which one to test on."""
    channel: str = "mix"
    """The channel of a recording to use: `first`, its number from 1, or `mix` for the mean of all. A model that is
    trained on the records predicts alike."""
    remove_dc: bool = False
    """Subtract a recording's constant offset before its peak is taken. The published models had none subtracted."""
    strict_audio: bool = False
    """Leave out recordings whose file ends before its data do, instead of using what is there."""
    workers: int | None = field(default=None, metadata=within(WORKERS))
    """Processes that decode and write; all cores by default. The records are the same for any number."""
    beam: str | None = field(default=None, metadata={"option": "beam-runner"})
    """An Apache Beam runner decodes and writes in place of local processes: DirectRunner, FlinkRunner, DataflowRunner,
    ...; see docs/preparation-at-scale.md. The records are the same."""
    beam_options: tuple[str, ...] = ()
    """Its pipeline options without their dashes, e.g. `flink_master=host:8081 parallelism=64`."""
    of_corpora: _OfCorpora = field(default_factory=_OfCorpora)
    quiet: bool = False
    """Print nothing but warnings and errors."""

    def __post_init__(self) -> None:
        check_numbers(self)


def _given(of_corpora: Any) -> dict[str, Any]:
    """The corpora's own options that differ from their defaults, whatever the corpus: `prepare` refuses others'."""
    given = {}
    for corpus in fields(of_corpora):
        own = getattr(of_corpora, corpus.name)
        given |= {f.name: value for f in fields(own) if (value := getattr(own, f.name)) != f.default}
    return given


def summarize(preparation: Preparation, data_dir: Path, console: Console) -> None:
    """Prints what a data directory holds, what was noticed of it, and what was left out and why."""
    from emocluster_jax.preprocessing.quality import told

    rows = [(split, count, preparation.hours[split]) for split, count in preparation.counts.items()]
    console.table("prepared", ["split", "recordings", "hours"], rows)
    if preparation.folds is not None:
        sizes = sorted(set(Counter(preparation.folds.of_recordings).values()))
        size = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"{sizes[0]}"
        console.line(
            f"The split train is in {preparation.folds.count} folds of {size} recordings, no "
            f"speaker in two of them; train with --fold 1 to {preparation.folds.count}"
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


def main() -> None:
    options = parse(Options, "prepare", DESCRIPTION, "--corpus manifest --source speech --data-dir data")
    from emocluster_jax.api.preparation import prepare

    console = command.console(quiet=options.quiet)
    try:
        preparation = prepare(
            options.corpus,
            options.source,
            options.data_dir,
            unlabeled=options.unlabeled,
            unlabeled_limit=options.unlabeled_limit,
            window_ms=options.window_ms,
            hop_ms=options.hop_ms,
            mel_bands=options.mel_bands,
            frame_rate=options.frame_rate,
            statistics_from=options.statistics_from,
            folds=options.folds,
            channel=options.channel,
            remove_dc=options.remove_dc,
            strict_audio=options.strict_audio,
            workers=options.workers,
            beam=options.beam,
            beam_options=options.beam_options,
            corpus_options=_given(options.of_corpora),
            console=console,
        )
    except KeyboardInterrupt as signal:
        raise type(signal)(f"go on with: {invocation('prepare')} {shlex.join(sys.argv[1:])}") from None
    summarize(preparation, options.data_dir, console)


if __name__ == "__main__":
    command.run(main)
