"""Every setting of the system as frozen dataclasses; each run saves the ones that it used.

The defaults are those of Lin, Sridhar & Busso, "DeepEmoCluster: a semi-supervised framework for latent cluster
representation of speech emotions", ICASSP 2021. Each number has a finite range, in its field's metadata (`ranges`). The
module imports nothing but the standard library, so that commands can read their arguments before anything heavy is
loaded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, cast, get_args

from emocluster_jax.errors import InputError
from emocluster_jax.ranges import Range, within
from emocluster_jax.settings import Checked, all_settings, from_dict, replaced, values_of

TemporalName = Literal["emocluster_gru", "emocluster_cnn", "emocluster_transformer", "emocluster_triplet"]
"""The relatives of DeepEmoCluster that look across the chunks of a recording."""
EmoClusterName = Literal["emocluster", TemporalName]
FusingName = Literal[EmoClusterName, "cnn_regressor"]
"""Systems that read further inputs beside the audio, which `inputs` names."""
SystemName = Literal[FusingName, "cnn_ae", "cnn_vae", "ladder"]
"""What `--model` knows: each is a module in `models`, and one in `objectives` where it does not share another's."""
TrainedStages = Literal["both", "unsupervised"]
TrainLayers = Literal["all", "shared", "heads"]
SelectBy = Literal["ccc", "rmse", "loss"]
Engine = Literal["auto", "jax", "onnx"]
"""What computes a network in prediction and evaluation."""
SPLITS = ("train", "validation", "test", "unlabeled")

LADDER_LEVELS = 9
"""The input, the seven convolutions and the shared layer."""


def _only(*systems: SystemName) -> dict[str, Any]:
    return {"systems": systems}


_CLUSTERING: tuple[EmoClusterName, ...] = get_args(EmoClusterName)
_FUSING: tuple[FusingName, ...] = get_args(FusingName)


BATCH_SIZE = Range(int, 1, 65_536)
"""Recordings per batch, in training and prediction."""
CALIBRATION_RECORDINGS = Range(int, 5, 1_000_000_000)
"""Labelled recordings to calibrate a model on."""
CLUSTERS = Range(int, 1, 1_000_000)
FOLD = Range(int, 1, 1_000_000)
_FOLDS_WANTED = "speakers, or a number from 3 to 1000000: one fold tests, one validates, the others train"
FOLDS = Range(int, 3, 1_000_000, wanted=_FOLDS_WANTED)
FRAME_RATE = Range(float, 1, 4_096)
"""Frames per second of given features."""
_LABEL_WANTED = "a number from -1000000 to 1000000, or nothing where it is missing"
LABEL = Range(float, -1_000_000, 1_000_000, wanted=_LABEL_WANTED)
"""Attributes' values, in any corpus's units: beyond it lie typing errors, and squares that float32 does not hold."""
MEL_BANDS = Range(int, 1, 1_024)
WINDOW_MS = Range(float, 1, 1_000)
"""Windows of the spectrogram, and the hop between them, in milliseconds."""
RECORDINGS = Range(int, 0, 1_000_000_000)
"""Recordings to take of those that there are."""
SEED = Range(int, 0, (1 << 63) - 1)
WINDOW_S = Range(float, 1, 1_000_000, wanted="1 (a chunk's length) to 1000000")
"""Windows that recordings are predicted in, in seconds."""
WORKERS = Range(int, 1, 4_096)
"""Processes or threads that read recordings."""

_FACTOR = Range(float, 0, 1_000_000)
"""What a term of a loss is multiplied by."""
_LEARNING_RATE = Range(float, 0, 1e18)
"""The highest makes any training diverge, which is found and said; float32 holds its products with gradients."""
_CHUNKS = Range(int, 1, 1_024)
_DROPPED = Range(float, 0, 1, excludes="highest")
_EPOCHS = Range(float, 0, 1_000_000)
_CLIP = Range(float, 0, 65_504, excludes="lowest")
"""Records hold half-precision numbers, which go no further."""
MOST_CHUNK_VALUES = 1 << 24
"""Numbers that the chunks of one recording may have: 64 MiB of float32, 192 times as many as by default."""

_LABEL_NAME = re.compile("[A-Za-z][A-Za-z0-9_]{0,63}")
_TAKEN_NAMES = {"file", "start", "end", "id", "split", "speaker", "gender", "chunk", "cluster", "duration_s", "mean"}
"""Other columns of the tables that labels stand in."""
_INPUT_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
AUDIO = "audio"
"""The input that every recording has: its chunks of a mel spectrogram or of given features."""
_NOT_INPUTS = (AUDIO, "mel")
"""Names of the sound, which no further input can have."""

CHANNEL = Range(int, 1, 65_535, wanted="mix, first, or a channel's number from 1 to 65535")


def is_label_name(name: object) -> bool:
    """Whether a label can have this name, which becomes a column of tables and a part of file names."""
    return isinstance(name, str) and bool(_LABEL_NAME.fullmatch(name)) and name.casefold() not in _TAKEN_NAMES


def check_label_names(names: Sequence[str], where: str) -> None:
    """Raises InputError if `where` gives no names of labels, one that a label cannot have, or one twice."""
    if isinstance(names, str) or not names:
        raise InputError(f"{where} is {names!r}; give the names of one or more labels")
    seen = set()
    for name in names:
        if not is_label_name(name):
            raise InputError(
                f"{where}: {name!r} cannot be the name of a label; use letters, digits and underscores, at most 64, "
                f"the first a letter, and none of {', '.join(sorted(_TAKEN_NAMES))}"
            )
        if name.casefold() in seen:
            raise InputError(f"{where} names {name} twice; name each label once")
        seen.add(name.casefold())


def check_input_names(names: Iterable[object], where: str) -> None:
    """Raises InputError, with `where` in front, for a name that a further input cannot have, or one given twice."""
    seen = set()
    for name in names:
        if (
            not isinstance(name, str)
            or not _INPUT_NAME.fullmatch(name)
            or name in _NOT_INPUTS
            or name.endswith("_present")
        ):
            raise InputError(
                f"{where}: {name!r} cannot be the name of an input; use small letters, digits and underscores, at most "
                "64, the first a letter, and neither audio, mel nor an ending _present"
            )
        if name in seen:
            raise InputError(f"{where} names the input {name} twice; name each once")
        seen.add(name)


@dataclass(frozen=True)
class AudioConfig(Checked):
    """How an audio file becomes one signal; models and data made with different ones fit together."""

    channel: int | None = field(default=None, metadata=within(CHANNEL))
    """The channel to use, from 1; None takes the mean of all."""
    remove_dc: bool = False
    """Subtract the signal's mean before its peak is taken."""
    strict: bool = False
    """Leave out a recording whose file was cut short, instead of using what is there."""


DEFAULT_AUDIO = AudioConfig()


def channel_number(channel: int | str) -> int | None:
    """What `--channel` gives, "mix", "first" or a number, as `AudioConfig.channel`; raises InputError otherwise."""
    words, text = {"mix": None, "first": 1}, str(channel)
    if text in words:
        return words[text]
    if not re.fullmatch("[0-9]{1,9}", text):
        raise InputError(f"`channel` is {text}; expected {CHANNEL}")
    return CHANNEL.check("`channel`", int(text))


class Chunked(Checked):
    """Base of what says how recordings become chunks; limits how much memory a file of settings can allocate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        features = cast("Features", self)
        values = features.chunks_per_utterance * features.chunk_frames * features.dimensions
        if values > MOST_CHUNK_VALUES:
            raise InputError(f"the chunks of a recording have {values} values; expected {MOST_CHUNK_VALUES} at most")


@dataclass(frozen=True)
class FeatureConfig(Chunked):
    """How a recording becomes chunks of a mel spectrogram (paper, section 3.1)."""

    sample_rate_hz: int = field(default=16_000, metadata=within(Range(int, 1, 768_000)))
    fft_size: int = field(default=512, metadata=within(Range(int, 1, 16_384)))
    hop_size: int = field(default=256, metadata=within(Range(int, 1, 16_384)))
    mel_bands: int = field(default=128, metadata=within(MEL_BANDS))
    chunk_frames: int = field(default=62, metadata=within(Range(int, 1, 4_096)))
    """Frames per chunk: about one second."""
    chunks_per_utterance: int = field(default=11, metadata=within(_CHUNKS))
    """Chunks that every recording is cut into, whatever its duration."""
    clip: float = field(default=3.0, metadata=within(_CLIP))
    """Normalised features are clipped to plus and minus this many standard deviations."""

    @classmethod
    def of_windows(cls, window_ms: float, hop_ms: float, mel_bands: int) -> FeatureConfig:
        """Chunks of as many frames as begin within a second: 32 ms, 16 ms and 128 bands are the defaults; InputError if
        a value is out of its range, the hop is longer than the window, or a chunk would be too large."""
        window_ms, hop_ms = WINDOW_MS.check("`window_ms`", window_ms), WINDOW_MS.check("`hop_ms`", hop_ms)
        if hop_ms > window_ms:
            raise InputError(f"`hop_ms={hop_ms:g}` leaves out what is between windows; give `window_ms` at most")
        mel_bands = MEL_BANDS.check("`mel_bands`", mel_bands)
        window, hop = (round(cls.sample_rate_hz * length / 1_000) for length in (window_ms, hop_ms))
        return cls(fft_size=window, hop_size=hop, mel_bands=mel_bands, chunk_frames=cls.sample_rate_hz // hop)

    @property
    def dimensions(self) -> int:
        """Numbers per frame."""
        return self.mel_bands

    @property
    def frames_per_second(self) -> float:
        return self.sample_rate_hz / self.hop_size

    @property
    def source_rate(self) -> float:
        """Rows per second of what is read from a recording's file: samples."""
        return self.sample_rate_hz

    @property
    def summary(self) -> str:
        """What the frames are, for people."""
        return "a mel spectrogram"


@dataclass(frozen=True)
class GivenFeatures(Chunked):
    """How a corpus's own frames, one file of them per recording, become chunks of one second."""

    dimensions: int = field(metadata=within(Range(int, 1, 16_384)))
    """Numbers per frame."""
    frames_per_second: float = field(metadata=within(FRAME_RATE))
    chunks_per_utterance: int = field(default=11, metadata=within(_CHUNKS))
    """Chunks that every recording is cut into, whatever its duration."""
    clip: float = field(default=3.0, metadata=within(_CLIP))
    """Normalised features are clipped to plus and minus this many standard deviations."""

    @property
    def chunk_frames(self) -> int:
        """Frames per chunk: as many as begin within a second."""
        return math.floor(self.frames_per_second)

    @property
    def source_rate(self) -> float:
        return self.frames_per_second

    @property
    def summary(self) -> str:
        return f"given features ({self.dimensions} numbers per frame, {self.frames_per_second:g} frames per second)"


FrontEndName = Literal["opensmile", "transformers"]
"""Libraries that make frames of audio: each is a module in `preprocessing.front_ends`."""
FRONT_ENDS_WANTED = "mel, opensmile:eGeMAPSv02, opensmile:ComParE_2016, or transformers:NAME_OR_FOLDER[@LAYER]"


@dataclass(frozen=True)
class FrontEndFeatures(Chunked):
    """How recordings become frames by another library, and these become chunks of one second.

    Frame i is of the samples from i * `hop_size` on. Two are equal if they make the same frames: where an encoder lies,
    or what it is called, does not matter.
    """

    sample_rate_hz: ClassVar[int] = 16_000

    library: FrontEndName
    name: str = field(compare=False)
    """A feature set of openSMILE, or an encoder's folder or its name on the Hugging Face Hub."""
    dimensions: int = field(metadata=within(Range(int, 1, 16_384)))
    """Numbers per frame."""
    hop_size: int = field(metadata=within(Range(int, 4, 16_000)))
    """Samples from the start of one frame to that of the next."""
    window_size: int = field(metadata=within(Range(int, 1, 480_000)))
    """Samples that a recording needs for its first frame."""
    checksum: str
    """Of openSMILE the package's version and the feature set, of an encoder SHA-256 of its settings and weights."""
    layer: int | None = field(default=None, metadata=within(Range(int, 0, 1_024)))
    """The encoder's layer; None for its last hidden state."""
    revision: str = field(default="", compare=False)
    """The commit on the Hub, where the encoder is from there."""
    chunks_per_utterance: int = field(default=11, metadata=within(_CHUNKS))
    """Chunks that every recording is cut into, whatever its duration."""
    clip: float = field(default=3.0, metadata=within(_CLIP))
    """Normalised features are clipped to plus and minus this many standard deviations."""

    @property
    def chunk_frames(self) -> int:
        """Frames per chunk: as many as begin within a second."""
        return self.sample_rate_hz // self.hop_size

    @property
    def frames_per_second(self) -> float:
        return self.sample_rate_hz / self.hop_size

    @property
    def source_rate(self) -> float:
        return self.sample_rate_hz

    @property
    def summary(self) -> str:
        layer = "" if self.layer is None else f", layer {self.layer}"
        return (
            f"{self.library} features of {self.name}{layer} ({self.dimensions} numbers per frame, "
            f"{self.frames_per_second:g} frames per second)"
        )


Features = FeatureConfig | GivenFeatures | FrontEndFeatures
"""How recordings become chunks: frames of a mel spectrogram, frames that were given, or another library's frames."""


def front_end_named(features: str) -> tuple[FrontEndName, str, int | None] | None:
    """The library, its feature set or encoder, and the layer that `features` names; None for "mel".

    Raises InputError for anything but `FRONT_ENDS_WANTED`.
    """
    if features == "mel":
        return None
    if features in ("opensmile:eGeMAPSv02", "opensmile:ComParE_2016"):
        return "opensmile", features.partition(":")[2], None
    if match := re.fullmatch(r"transformers:(.+?)(?:@([0-9]{1,4}))?", features):
        return "transformers", match[1], None if match[2] is None else int(match[2])
    raise InputError(f"`features` is {features!r}; expected {FRONT_ENDS_WANTED}")


@dataclass(frozen=True)
class ModelConfig(Checked):
    """The shape of the network (paper, section 3.2)."""

    RETIRED: ClassVar[dict[str, Any]] = {"temporal": "none"}
    """Networks over the chunks are systems now."""

    system: SystemName = field(default="emocluster", metadata={"option": "model"})
    """What is trained: DeepEmoCluster, or one of the systems that it is compared with, on the same encoder."""
    attributes: tuple[str, ...] = ("arousal",)
    """Labels of the data that the regressor predicts, one output each, such as arousal, dominance and valence."""
    inputs: tuple[str, ...] = field(default=(), metadata=_only(*_FUSING))
    """Further inputs of the data to read beside the audio: vectors and frames, which columns such as `input:text` of a
    manifest name."""
    clusters: int = field(default=10, metadata=_only(*_CLUSTERING) | within(CLUSTERS))
    """Number of clusters K, which is also the number of pseudo-labels."""
    width_multiplier: float = field(default=1.0, metadata=within(Range(float, 0, 64, excludes="lowest")))
    """Scales every layer's width; 1 is the published network."""
    dropout_rate: float = field(
        default=0.5,
        metadata=_only(*(name for name in get_args(SystemName) if name != "emocluster_triplet")) | within(_DROPPED),
    )
    """Fraction of the shared layer's outputs that training drops."""
    temporal_dropout_rate: float = field(
        default=0.3, metadata=_only("emocluster_cnn", "emocluster_transformer") | within(_DROPPED)
    )
    """Fraction that training drops in the network over a recording's chunks."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the encoder's arithmetic in training; parameters, statistics and losses, scores and predictions stay
    float32."""
    convolutions: Literal["library", "fused"] = "library"
    """How training convolves in bfloat16 on NVIDIA GPUs: by the library, or in the first three layers by this project's
    kernels, which also normalise, rectify and sum up."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_label_names(self.attributes, "`attributes`")
        check_input_names(self.inputs, "`inputs`")
        object.__setattr__(self, "inputs", tuple(sorted(self.inputs)))  # their order means nothing
        if self.convolutions == "fused" and self.compute_dtype != "bfloat16":
            raise InputError(
                f"`convolutions=fused` computes in bfloat16, and `compute_dtype` is {self.compute_dtype}; give "
                "`compute_dtype=bfloat16` as well, or leave `convolutions` out"
            )

    @property
    def width(self) -> str:
        """In words, e.g. "0.25 times the published width"."""
        return f"{self.width_multiplier:g} times the published width".removeprefix("1 times ")


@dataclass(frozen=True)
class ClusteringConfig(Checked):
    """How the embeddings are clustered at the start of each stage (paper, section 2.2)."""

    iterations: int = field(default=20, metadata=within(Range(int, 1, 1_000_000)))
    """Iterations of Lloyd's algorithm."""
    initialization: Literal["random", "kmeans++"] = "random"
    """Initial centroids: random data points, or k-means++ (Arthur & Vassilvitskii 2007)."""
    pca_components: int | None = field(default=None, metadata=within(Range(int, 1, 16_384)))
    """Project the embeddings on this many principal components before clustering; by default they are not projected."""
    whiten: bool = False
    """Scale the principal components to unit variance (needs `pca_components`)."""
    l2_normalize: bool = False
    """Scale every embedding to unit length before clustering."""
    cosine: bool = False
    """Cluster by the cosine instead of the Euclidean distance (spherical K-means, Dhillon & Modha 2001): embeddings and
    centroids are scaled to unit length."""
    head: Literal["redrawn", "matched"] = "redrawn"
    """The cluster classifier's last layer after each clustering: drawn anew, since cluster numbers mean nothing from
    one clustering to the next, or kept, and the clusters numbered as it predicts them, as far as they agree."""
    balanced_batches: bool = True
    """Draw equally many chunks of each cluster; otherwise the chunks are plainly shuffled."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.whiten and self.pca_components is None:
            raise InputError("`whiten` scales principal components; give their number by `pca_components` as well")

    @property
    def unit_length(self) -> bool:
        """Whether embeddings are scaled to unit length before they are clustered, or compared with the centroids."""
        return self.l2_normalize or self.cosine


@dataclass(frozen=True)
class OptimizerConfig(Checked):
    """How gradients become updates; `objectives.optimizers` explains the published way."""

    algorithm: Literal["published", "adamw"] = field(default="published", metadata={"option": "optimizer"})
    """`published` is Adam, beside SGD in emocluster; `adamw` (Loshchilov & Hutter 2019) replaces both, in both stages,
    for all layers but emocluster's cluster head."""
    adam_learning_rate: float = field(default=5e-4, metadata=within(_LEARNING_RATE))
    """For stage II of emocluster, beside SGD; for both stages of the other systems, which use Adam alone, and of
    AdamW."""
    weight_decay: float = field(default=0.0, metadata=within(_FACTOR))
    """AdamW's, on kernels: each step shrinks them by this times the learning rate."""
    sgd_learning_rate: float = field(default=1e-3, metadata=_only(*_CLUSTERING) | within(_LEARNING_RATE))
    """For all layers but the cluster head, in both stages; `optimizer=adamw` does without."""
    cluster_head_learning_rate: float = field(default=0.05, metadata=_only(*_CLUSTERING) | within(_LEARNING_RATE))
    """SGD, for the cluster classifier's last layer."""
    freeze_regressor: bool = field(default=False, metadata=_only(*_CLUSTERING))
    """Never train the attribute regressor, as the published code does; the paper trains it."""
    warmup_epochs: float = field(default=0.0, metadata=within(_EPOCHS))
    """Epochs, possibly fractional, over which all learning rates grow from 0."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rates after the warm-up: constant, or along half a cosine to 0 at the end of `epochs`."""
    encoder_rate_factor: float = field(default=1.0, metadata=within(_FACTOR))
    """What learning rates are multiplied by for the convolutions, the shared layer and the network over the chunks."""
    train_layers: TrainLayers = "all"
    """`shared` keeps the convolutions and their running statistics as they are, `heads` the shared layer as well."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight_decay and self.algorithm != "adamw":
            raise InputError("`weight_decay` is given, which is part of AdamW; give `algorithm=adamw` as well")


@dataclass(frozen=True)
class AutoencoderConfig(Checked):
    """Weights of what the autoencoders minimise beside the CCC loss; `objectives.cnn_ae` and `cnn_vae` explain them."""

    reconstruction_weight: float = field(default=1.0, metadata=_only("cnn_ae", "cnn_vae") | within(_FACTOR))
    """Weight of the mean squared error of a reconstructed chunk's pixels."""
    kl_weight: float = field(default=1.0, metadata=_only("cnn_vae") | within(_FACTOR))
    """Weight, per pixel, of the Kullback-Leibler divergence between a chunk's code and a standard normal one."""
    kl_warmup_epochs: float = field(default=5.0, metadata=_only("cnn_vae") | within(_EPOCHS))
    """Epochs, possibly fractional, over which that weight grows from 0."""


@dataclass(frozen=True)
class LadderConfig(Checked):
    """The ladder network's noise, and what it minimises beside the CCC loss (see `models.ladder`)."""

    noise_std: float = field(default=0.3, metadata=within(Range(float, 0, 1_000)))
    """Standard deviation of the noise on the input and on every layer's normalised activations."""
    denoising_weights: tuple[float, ...] = field(default=(1.0,) * LADDER_LEVELS, metadata=within(_FACTOR))
    """Weights of the denoising costs of the input, the seven convolutions and the shared layer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.denoising_weights) != LADDER_LEVELS:
            raise InputError(
                f"`denoising_weights` is {self.denoising_weights}; expected {LADDER_LEVELS} numbers: of the input, the "
                "seven convolutions and the shared layer"
            )


@dataclass(frozen=True)
class AugmentationConfig(Checked):
    """How what training steps read is changed at random, all off by default; see `training.augmentation`.
    Clustering, validation and predictions see them as they are."""

    chunk_offset: float = field(default=0.0, metadata=within(Range(float, 0, 1)))
    """Move each chunk to a random place in its recording, at most this share of the distance between chunks to either
    side; 0.5 lets the chunks of a recording cover all of it. Recordings with gaps between chunks (longer than 11 s by
    default) and those shorter than a chunk are not moved."""
    mixup_alpha: float = field(default=0.0, metadata=within(Range(float, 0, 1_000)))
    """Mix each chunk and its labels with another one's of the batch, in shares drawn from Beta(alpha, alpha) (mix-up,
    Zhang et al. 2018); 0 mixes none."""
    time_masks: int = field(default=0, metadata=within(Range(int, 0, 100)))
    """Spans of time per chunk that are set to 0, the mean (SpecAugment, Park et al. 2019)."""
    time_mask_frames: int = field(default=12, metadata=within(Range(int, 1, 4_096)))
    """Most frames of such a span; each has from 0 to this many."""
    frequency_masks: int = field(default=0, metadata=within(Range(int, 0, 100)))
    """Ranges of mel bands per chunk that are set to 0, the mean."""
    frequency_mask_bands: int = field(default=16, metadata=within(Range(int, 1, 16_384)))
    """Most bands of such a range; each has from 0 to this many."""
    input_dropout: float = field(default=0.0, metadata=_only(*_FUSING) | within(Range(float, 0, 1)))
    """Hide each of a recording's inputs, the audio among them, with this probability, as if it were missing, but never
    all that it has: so that the model predicts from any of them."""


@dataclass(frozen=True)
class TrainConfig(Checked):
    """One training run, apart from where its data and results lie."""

    model: ModelConfig = field(default_factory=ModelConfig)
    clustering: ClusteringConfig = field(default_factory=ClusteringConfig, metadata=_only(*_CLUSTERING))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    ladder: LadderConfig = field(default_factory=LadderConfig, metadata=_only("ladder"))
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    stages: TrainedStages = field(default="both", metadata=_only(*_CLUSTERING))
    """`unsupervised` trains by stage I alone, on the pool, if there is one, and then on the labelled recordings without
    their labels: to see what the clusters find by themselves. The regressor is not trained; the last epoch is kept."""
    epochs: int = field(default=50, metadata=within(Range(int, 1, 1_000_000)))
    """Each trains on the unlabelled pool, if there is one, and then on the labelled recordings."""
    batch_size: int = field(default=64, metadata=within(BATCH_SIZE))
    """Recordings per batch; a batch has 11 chunks for each, distributed over the devices."""
    init_from: str | None = None
    """Fine-tune: start from the weights of this model directory, of the same system and width. The regressor's last
    layer is initialised again for other attributes, the cluster classifier's for another number of clusters."""
    unlabeled_size: int | None = field(default=None, metadata=within(RECORDINGS))
    """Recordings of the unlabelled pool that training uses; by default all. Smaller samples are subsets of larger
    ones."""
    fold: int | None = field(default=None, metadata=within(FOLD))
    """Of records that were prepared with `folds`: test on this fold, counted from 1, validate on the next one, and
    train on the others."""
    ccc_weight: float = field(
        default=1.0, metadata=_only(*_CLUSTERING, "cnn_ae", "cnn_vae", "ladder") | within(_FACTOR)
    )
    """Weight of the CCC loss beside what the labelled stage minimises without labels."""
    cluster_weight: float = field(default=1.0, metadata=_only(*_CLUSTERING) | within(_FACTOR))
    """Weight of the cross-entropy on the clusters in what all layers before the cluster classifier learn, in both
    stages; the classifier always learns all of it."""
    cluster_warmup_epochs: float = field(default=0.0, metadata=_only(*_CLUSTERING) | within(_EPOCHS))
    """Epochs, possibly fractional, over which that weight grows from 0."""
    information_weight: float = field(default=0.0, metadata=_only(*_CLUSTERING) | within(_FACTOR))
    """Reward stage II by this times the mutual information of the soft clusters with the labels, in bins, as a share of
    the bins' entropy, averaged over the attributes."""
    information_bins: int = field(default=5, metadata=_only(*_CLUSTERING) | within(Range(int, 2, 1_000)))
    """Bins of the training labels for `information_weight`, each of about as many recordings."""
    speaker_information_weight: float = field(default=0.0, metadata=_only(*_CLUSTERING) | within(_FACTOR))
    """Charge stage II for the same information with the speaker, so that clusters tell less of who speaks."""
    triplet_weight: float = field(default=1.0, metadata=_only("emocluster_triplet") | within(_FACTOR))
    """Weight of the triplet loss in what both stages minimise."""
    average_decay: float = field(default=0.0, metadata=within(Range(float, 0, 1, excludes="highest")))
    """Evaluate, cluster and save an exponential moving average of the weights, which keeps this fraction of itself per
    step (Polyak & Juditsky 1992; fewer in the first steps); 0 uses the weights themselves."""
    select_by: SelectBy = "ccc"
    """What chooses the best epoch, on the validation split: the highest CCC of recordings; the lowest RMSE of
    recordings, in standard deviations of the training labels; or the lowest loss, 1 - CCC of chunks. Each is a mean
    over the attributes."""
    patience: int | None = field(default=None, metadata=within(Range(int, 1, 1_000_000)))
    """Stop after this many epochs without a better one by `select_by`; by default, never."""
    checkpoint_minutes: float | None = field(
        default=None, metadata=within(Range(float, 0, 1_000_000, excludes="lowest"))
    )
    """Also write a checkpoint within an epoch, after the first step that ends this many minutes after the last one; by
    default only at the end of each epoch, and when the run is stopped."""
    on_nan: Literal["stop", "skip"] = "stop"
    """When a loss or gradient is infinite or NaN, stop the run, or skip that batch and go on. Either way the batch's
    recordings are listed in the work directory."""
    seed: int = field(default=0, metadata=within(SEED))
    """Everything random in the run follows from it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patience is not None and self.stages == "unsupervised":
            raise InputError("`patience` waits for a better epoch, and `stages=unsupervised` trains no regressor")
        if self.select_by != "ccc" and self.stages == "unsupervised":
            raise InputError("`select_by` chooses by predictions, and `stages=unsupervised` trains no regressor")
        if self.model.system == "cnn_regressor" and self.unlabeled_size:
            raise InputError(
                "`unlabeled_size` is given, but `system=cnn_regressor` learns from labels alone; leave it out or give 0"
            )
        for name in ("information_weight", "speaker_information_weight"):
            if self.stages == "unsupervised" and getattr(self, name):
                raise InputError(f"`{name}` is for stage II with labels; leave it out with `stages=unsupervised`")
        if self.stages == "unsupervised" and not self.cluster_weight:
            raise InputError("`cluster_weight=0` leaves `stages=unsupervised` nothing to minimise; give a higher one")
        if self.augmentation.input_dropout and not self.model.inputs:
            raise InputError("`input_dropout` hides inputs, and there is the audio alone; name others by `inputs`")
        if self.optimizer.train_layers != "all" and self.init_from is None:
            raise InputError(
                f"`train_layers={self.optimizer.train_layers}` keeps the other layers as they are, and without "
                "`init_from` these are random; give the model to start from as well"
            )
        for setting, value in values_of(self):
            users = setting.systems
            if users is not None and self.model.system not in users and value != setting.default:
                raise InputError(
                    f"`{setting.name}` is given, but `system={self.model.system}` does not use it; it belongs to "
                    f"{', '.join(users)}"
                )

    def replace(self, **settings: Any) -> TrainConfig:
        """The same run with other values of these settings, wherever they are: `replace(epochs=9, clusters=20)`.

        Raises InputError if there is no such setting.
        """
        return replaced(self, settings)

    def for_system(self, system: SystemName) -> TrainConfig:
        """The same run of another system; what that does not use has its default."""
        unused = {
            setting.name: setting.default
            for setting in all_settings(TrainConfig)
            if setting.systems is not None and system not in setting.systems
        }
        return self.replace(system=system, **unused)


Preset = Literal[
    "demo", "small", "modern", "fine-tune", "paper", "paper-fsl", "paper-ssl-15k", "paper-ssl-40k", "paper-as-published"
]

_MODERN = TrainConfig(
    clustering=ClusteringConfig(l2_normalize=True),
    optimizer=OptimizerConfig(
        algorithm="adamw", adam_learning_rate=1e-3, weight_decay=0.05, warmup_epochs=1.0, schedule="cosine"
    ),
    augmentation=AugmentationConfig(chunk_offset=0.5, mixup_alpha=0.2, time_masks=1, frequency_masks=1),
    epochs=20,
    batch_size=16,
    cluster_weight=0.1,
    cluster_warmup_epochs=5.0,
    average_decay=0.98,
)

presets: dict[Preset, TrainConfig] = {
    "demo": TrainConfig(model=ModelConfig(width_multiplier=0.25), epochs=5, batch_size=16),
    "small": replace(_MODERN, model=ModelConfig(width_multiplier=0.25)),
    "modern": _MODERN,
    "fine-tune": TrainConfig(
        optimizer=OptimizerConfig(
            algorithm="adamw",
            adam_learning_rate=1e-4,
            weight_decay=0.01,
            warmup_epochs=1.0,
            schedule="cosine",
            encoder_rate_factor=0.1,
        ),
        epochs=6,
        batch_size=16,
        patience=3,
    ),
    "paper": TrainConfig(),
    "paper-fsl": TrainConfig(unlabeled_size=0),
    "paper-ssl-15k": TrainConfig(unlabeled_size=15_000),
    "paper-ssl-40k": TrainConfig(unlabeled_size=40_000),
    "paper-as-published": TrainConfig(unlabeled_size=40_000, optimizer=OptimizerConfig(freeze_regressor=True)),
}
"""Named starting points of a training, which options override.

`modern` is the method with what later practice added, for hundreds of recordings; `small` is the same at a quarter of
the width, for a laptop. `fine-tune` is for a model that `init_from` names, whose encoder it changes little; its network
is that of the model. `paper` takes the
whole unlabelled pool, fsl none of it (fully supervised), ssl as many recordings as its name says; `paper-as-published`
is the training of the published weights, whose regressor was never trained.
"""


def features_from_dict(values: Any, where: str) -> Features:
    """Feature settings of any kind from what `dataclasses.asdict` made of them; raises as `from_dict`."""
    names = set(values) if isinstance(values, dict) else set()
    kind = FrontEndFeatures if "library" in names else GivenFeatures if "frames_per_second" in names else FeatureConfig
    return from_dict(kind, values, where)
