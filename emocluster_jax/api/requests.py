"""What `prepare`, `fit`, `evaluate`, `calibrate` and `predict` are asked: settings of functions and commands alike.

The functions take the fields of these dataclasses as arguments; commands have the same fields as options, and others,
such as where to write. The module imports nothing heavy, so that commands read their options at once.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from emocluster_jax import config
from emocluster_jax.config import (
    DEFAULT_AUDIO,
    AudioConfig,
    Engine,
    FeatureConfig,
    Preset,
    TrainConfig,
    channel_number,
    front_end_named,
)
from emocluster_jax.corpora.registry import CorpusName
from emocluster_jax.errors import InputError
from emocluster_jax.ranges import within
from emocluster_jax.settings import Checked

if TYPE_CHECKING:
    from emocluster_jax.console import Console
else:  # is not an option, and commands read their options before they load it
    Console = Any

Asked = ParamSpec("Asked")
Request = TypeVar("Request")
Result = TypeVar("Result")
FeedChoice = Literal["auto", "resident", "streamed"]

_NO_OPTION = {"option": None}


def asked_by(request: Callable[Asked, Request]) -> Callable[[Callable[[Request], Result]], Callable[Asked, Result]]:
    """Turns a function of a request into one that takes the request's fields as its arguments."""

    def of(carry_out: Callable[[Request], Result]) -> Callable[Asked, Result]:
        @functools.wraps(carry_out)
        def function(*args: Asked.args, **kwargs: Asked.kwargs) -> Result:
            try:
                inspect.signature(request).bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{carry_out.__name__}(): {error}") from None
            return carry_out(request(*args, **kwargs))

        hints, signature = typing.get_type_hints(request), inspect.signature(request)
        parameters = [p.replace(annotation=hints[name]) for name, p in signature.parameters.items()]
        result = inspect.signature(carry_out).return_annotation
        function.__signature__ = inspect.Signature(parameters, return_annotation=result)  # type: ignore[attr-defined]
        return function

    return of


@dataclass(frozen=True, kw_only=True)
class AnyRequest(Checked):
    """What all requests have in common."""

    console: Console | None = field(default=None, metadata=_NO_OPTION)
    """Shows progress and warnings; None for one that prints them."""


@dataclass(frozen=True)
class PrepareRequest(AnyRequest):
    """Which recordings are prepared, and how."""

    corpus: CorpusName
    """What lies in the source folder."""
    source: Path | str
    """The corpus's folder; for corpus manifest, also the CSV file in it. `demo` makes its recordings there if they are
    missing."""
    data_dir: Path | str
    """Where the records go. A run that was killed goes on where it stopped, with the same command."""
    _: KW_ONLY
    unlabeled: Path | str | None = None
    """A folder of recordings without labels, which join the unlabelled split."""
    unlabeled_limit: int | None = field(default=None, metadata=within(config.RECORDINGS))
    """Take this many of that folder: the same ones each time, and smaller samples are subsets of larger ones."""
    features: str = "mel"
    """What the recordings become: `mel`, a spectrogram; `opensmile:eGeMAPSv02` or `opensmile:ComParE_2016`, low-level
    descriptors (extra `opensmile`; for research and other non-commercial use); `transformers:NAME_OR_FOLDER[@LAYER]`,
    hidden states of a speech encoder (extra `transformers`), by default of its last layer. Models make the same of
    recordings that they predict; see docs/front-ends.md."""
    window_ms: float = field(default=32.0, metadata=within(config.WINDOW_MS))
    """Length of the spectrogram's windows, and of their Fourier transform, in milliseconds."""
    hop_ms: float = field(default=16.0, metadata=within(config.WINDOW_MS))
    """From the beginning of one window to that of the next, in milliseconds."""
    mel_bands: int = field(default=128, metadata=within(config.MEL_BANDS))
    """Bands of the mel spectrogram. Models only take data that were prepared like their training data; recordings to
    predict they prepare themselves."""
    frame_rate: float | None = field(default=None, metadata=within(config.FRAME_RATE))
    """The recordings are files of features (.npy, frames by dimensions), with this many frames per second: embeddings
    of WavLM or wav2vec 2.0 have 50."""
    inputs: tuple[str, ...] | None = None
    """The inputs to prepare: the sound, which is always one, called `audio` or as in `features` (`mel`), and further
    ones that columns `input:NAME` of the manifest give, by their names; by default all of them."""
    input_rates: Mapping[str, float] = field(default_factory=dict, metadata=_NO_OPTION | within(config.FRAME_RATE))
    """Which of the further inputs are frames, (frames, numbers), that run along the sound: by name how many there are
    per second. All others are one vector for each recording."""
    statistics_from: Path | str | None = None
    """Normalise by the feature statistics of this data directory, or of this model directory to evaluate the model,
    instead of those of this corpus's training split."""
    folds: int | Literal["speakers"] | None = field(default=None, metadata=within(config.FOLDS))
    """Distribute all labelled recordings, whatever their split, over this many folds by speaker, or one fold per
    speaker; training's `fold` says which one to test on."""
    channel: str | int = field(default="mix", metadata=within(config.CHANNEL))
    """The channel of a recording to use: `first`, its number from 1, or `mix` for the mean of all. A model that is
    trained on the records predicts alike."""
    remove_dc: bool = False
    """Subtract a recording's constant offset before its peak is taken. The published models had none subtracted."""
    strict_audio: bool = False
    """Leave out recordings that were cut short, instead of using what is there."""
    workers: int | None = field(default=None, metadata=within(config.WORKERS))
    """Processes that decode and write; by default one per core, or a single one for an encoder on a GPU. The records
    are the same for any number. With more than one, a Python script calls the function below
    `if __name__ == "__main__":`; a notebook need not."""
    beam: str | None = field(default=None, metadata={"option": "beam-runner"})
    """An Apache Beam runner decodes and writes in place of local processes: DirectRunner, FlinkRunner, DataflowRunner,
    ...; see docs/preparation-at-scale.md. The records are the same."""
    beam_options: tuple[str, ...] = ()
    """Its pipeline options without their dashes, e.g. `flink_master=host:8081 parallelism=64`."""
    corpus_options: Mapping[str, Any] = field(default_factory=dict, metadata=_NO_OPTION)
    """Options of the corpus's own by name, such as `{"english": "unlabeled"}` of emotale."""

    def __post_init__(self) -> None:
        super().__post_init__()
        audio, spectrogram = self.audio, self.spectrogram  # checks channel, windows and bands
        if front_end_named(self.features) is not None and spectrogram != FeatureConfig():
            raise InputError(
                f"`features={self.features}` are no spectrogram; leave out `window_ms`, `hop_ms` and `mel_bands`"
            )
        if self.unlabeled_limit is not None and self.unlabeled is None:
            raise InputError("`unlabeled_limit` needs `unlabeled`, the folder that it limits")
        for given, settings in (
            (self.features != "mel", "`features`, which are made of audio"),
            (spectrogram != FeatureConfig(), "`window_ms`, `hop_ms` and `mel_bands`, which make a spectrogram"),
            (audio != DEFAULT_AUDIO, "`channel`, `remove_dc` and `strict_audio`, which are about audio"),
        ):
            if self.frame_rate is not None and given:
                raise InputError(f"`frame_rate` says that the recordings are features; leave out {settings}")
        if self.beam is None and self.beam_options:
            raise InputError("`beam_options` needs `beam`, the runner that has them")
        if self.beam is not None and self.workers is not None:
            raise InputError("`workers` counts local processes; with `beam` say how many in `beam_options`")

    @property
    def audio(self) -> AudioConfig:
        """How files become signals."""
        return AudioConfig(channel_number(self.channel), self.remove_dc, self.strict_audio)

    @property
    def spectrogram(self) -> FeatureConfig:
        """How signals become chunks."""
        return FeatureConfig.of_windows(self.window_ms, self.hop_ms, self.mel_bands)


@dataclass(frozen=True)
class EvaluateRequest(AnyRequest):
    """Which model is evaluated, on what."""

    model: Path | str = field(metadata={"option": "checkpoint"})
    """A model directory, or a work directory of training."""
    data_dir: Path | str
    """Records that were prepared as the model's training data were, and normalised by the same statistics."""
    split: Literal["train", "validation", "test"] = "test"
    """The recordings to evaluate on."""
    _: KW_ONLY
    fold: int | None = field(default=None, metadata=within(config.FOLD))
    """For records that were prepared with `folds`: evaluate on the split of the run that tests on this fold. By default
    that of the model's run, if the model is in its work directory and these are its records."""
    feed: FeedChoice = "auto"
    """Hold all chunks in the devices' memory, or read them from the records as they are needed; results are the same.
    `auto` holds them where they fit."""
    engine: Engine = "auto"
    """What computes the network: `jax`, on all devices; `onnx`, ONNX Runtime on the CPU (extra `onnx`), which is faster
    there; or `auto`, ONNX Runtime where it is installed, can run the model, and JAX has one device, a CPU. Scores
    differ by rounding."""


@dataclass(frozen=True)
class CalibrateRequest(AnyRequest):
    """Which model is calibrated, and on which recordings."""

    model: Path | str = field(metadata={"option": "checkpoint"})
    """A model directory, or a work directory of training."""
    data_dir: Path | str
    """Records of labelled recordings of the kind to be predicted, prepared as the model's training data were, and
    normalised by the same statistics (`statistics_from`). Their labels may be in other units than the model's."""
    output: Path | str
    """The model directory to write, a new folder; the model itself stays as it is."""
    split: Literal["train", "validation", "test"] = "train"
    """The recordings to calibrate on. For a model that was trained on these records, `validation` is better: it
    predicts its training recordings too well."""
    _: KW_ONLY
    recordings: int | None = field(default=None, metadata=within(config.CALIBRATION_RECORDINGS))
    """Draw so many of the split's labelled recordings; by default all are used. Fewer ones are part of more."""
    seed: int = field(default=0, metadata=within(config.SEED))
    """Which ones are drawn follows from it."""
    allow_test: bool = False
    """Allow `split=test`. Scores of the calibrated model on that split are then not those of unheard recordings."""
    fold: int | None = field(default=None, metadata=within(config.FOLD))
    """For records that were prepared with `folds`: calibrate on the split of the run that tests on this fold. By
    default that of the model's run, if the model is in its work directory and these are its records."""
    feed: FeedChoice = "auto"
    """Hold all chunks in the devices' memory, or read them from the records as they are needed; results are the same.
    `auto` holds them where they fit."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split == "test" and not self.allow_test:
            raise InputError(
                "`split=test` would calibrate the model on the labels that its scores are to be compared with; choose "
                "another `split`, or add `allow_test` if no score is to be reported on it"
            )


@dataclass(frozen=True, kw_only=True)
class FitSettings(AnyRequest):
    """How a training run is carried out; its results do not depend on it."""

    resume: bool = False
    """Go on with the run in the work directory, with its settings, or begin it. Of these only `epochs` (unless its
    `schedule` follows them), `patience`, `on_nan` and `checkpoint_minutes` may change."""
    feed: FeedChoice = "auto"
    """Hold all chunks in the devices' memory, or read them from the records as they are needed; results are the same.
    `auto` holds them where they fit."""


@dataclass(frozen=True)
class FitRequest(FitSettings):
    """What is trained on which records."""

    data_dir: Path | str
    """Records that `prepare()` wrote."""
    workdir: Path | str
    """Takes checkpoints, the best model, metrics, plots and test scores."""
    config: TrainConfig | Preset | None = None
    """The run's settings, or the name of a preset; None for those of the run that is resumed, else of the paper."""
    stopping: AbstractContextManager[Callable[[], bool]] | None = field(default=None, kw_only=True)
    """Entered while epochs run; what it gives is asked every second or two whether to stop, with a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class PredictionSettings(AnyRequest):
    """How recordings are predicted."""

    source: Path | str | None = None
    """The folder that the paths in tables are relative to; by default the table's own."""
    window_s: float | None = field(default=None, metadata=within(config.WINDOW_S) | {"option": "window-seconds"})
    """One row per window of this length, in seconds: for recordings that are too long for one average over 11 chunks of
    a second. A remainder of at least 1 s gets a row, too."""
    batch_size: int | None = field(default=None, metadata=within(config.BATCH_SIZE))
    """Recordings or windows that go through a network at a time; by default 1 on a CPU and 32 elsewhere."""
    workers: int | None = field(default=None, metadata=within(config.WORKERS))
    """Threads that decode; by default one per core."""
    engine: Engine = "auto"
    """What computes the networks: `jax`, on its default device; `onnx`, ONNX Runtime on the CPU (extra `onnx`); `auto`,
    which is ONNX Runtime for a model that it can run, where it is installed and JAX has one device, a CPU."""
    channel: str | int | None = field(default=None, metadata=within(config.CHANNEL))
    """The channel of a recording to use: `first`, its number from 1, or `mix` for the mean of all. By default what the
    model was trained on, as for the next two."""
    remove_dc: bool | None = None
    """Subtract a recording's constant offset before its peak is taken."""
    strict_audio: bool | None = None
    """Leave out recordings that were cut short, instead of using what is there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channel is not None:
            channel_number(self.channel)
