"""Numbers that people give: each has a finite range, and what is out of it is refused in one line."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import emocluster_jax
from emocluster_jax import config
from emocluster_jax.config import LADDER_LEVELS, TrainConfig
from emocluster_jax.corpora.demo import DemoCorpus
from emocluster_jax.errors import InputError, RecordingError
from emocluster_jax.inference.recordings import check_extent
from emocluster_jax.preprocessing.given_frames import checked_frames
from emocluster_jax.ranges import Range, alternatives, number_kind, within
from emocluster_jax.runtime.processes import Processes
from emocluster_jax.settings import Checked, Setting, from_dict, settings_of
from launch import COMMANDS, train
from launch.command import run

ABSURD = [math.nan, math.inf, -math.inf, 1 << 63, 1 << 64, -(1 << 63) - 1, 10**400]
REQUIRED = {
    "prepare": ["--corpus", "manifest", "--source", "s", "--data-dir", "d"],
    "train": ["--data-dir", "d", "--workdir", "w"],
    "evaluate": ["--checkpoint", "m", "--data-dir", "d"],
    "calibrate": ["--checkpoint", "m", "--data-dir", "d", "--output", "o"],
    "predict": ["--checkpoint", "m", "--input", "i", "--output", "o"],
    "report": ["--workdir", "w"],
    "experiment": ["--preset", "all", "--data-dir", "d", "--workdir", "w"],
    "export": ["--checkpoint", "m", "--output", "o"],
    "import_torch": ["--weights", "w", "--norm", "n", "--attribute", "arousal", "--output", "o"],
    "benchmark": ["train"],
}
SETTINGS = [cls for cls in vars(config).values() if isinstance(cls, type) and dataclasses.is_dataclass(cls)]
OPTIONS = {name: importlib.import_module(f"launch.{name}").Options for name in COMMANDS}


def option(f: dataclasses.Field[Any]) -> str | None:
    return f.metadata.get("option", f.name.replace("_", "-"))


def has_number(hint: Any) -> bool:
    return hint in (int, float) or any(map(has_number, typing.get_args(hint)))


def numbers_of(cls: type[Any]) -> Iterator[tuple[type[Any], dataclasses.Field[Any], Any]]:
    """The fields of a dataclass, and of those in it, whose annotation mentions a number anywhere."""
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        hint = hints[f.name]
        if dataclasses.is_dataclass(hint):
            yield from numbers_of(typing.cast("type[Any]", hint))
        elif has_number(hint):
            yield cls, f, hint


HOLDERS = [*SETTINGS, Processes, DemoCorpus, *OPTIONS.values()]
NUMBERS = list(dict.fromkeys(found for cls in HOLDERS for found in numbers_of(cls)))
NAMES = [f"{cls.__module__}.{cls.__name__}.{f.name}" for cls, f, _ in NUMBERS]


def test_numbers_are_found() -> None:
    assert {config.AudioConfig, config.GivenFeatures, TrainConfig, OPTIONS["report"]} <= {cls for cls, _, _ in NUMBERS}
    assert len(NUMBERS) > 50


@pytest.mark.parametrize(("cls", "f", "hint"), NUMBERS, ids=NAMES)
def test_every_number_has_a_finite_range(cls: type[Any], f: dataclasses.Field[Any], hint: Any) -> None:
    limits = f.metadata["range"]
    assert limits.kind is number_kind(hint)
    assert math.isfinite(limits.lowest) and math.isfinite(limits.highest) and limits.lowest < limits.highest < 1 << 63


def construct(cls: type[Any], values: dict[str, Any]) -> Any:
    """`cls(**values)` as it is outside of tests, which would check the types before."""
    instance = object.__new__(cls)
    for f in dataclasses.fields(cls):
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        object.__setattr__(instance, f.name, values.get(f.name, default))
    instance.__post_init__()
    return instance


def some_value(setting: Setting) -> Any:
    if setting.range is not None:
        return setting.range.lowest
    kind = alternatives(setting.type)[0]
    return kind("x") if kind in (Path, str) else next(iter(typing.get_args(kind)), 1)


@pytest.mark.parametrize(("cls", "f", "hint"), NUMBERS, ids=NAMES)
def test_absurd_numbers_are_refused(cls: type[Any], f: dataclasses.Field[Any], hint: Any) -> None:
    required = {setting.name: some_value(setting) for setting in settings_of(cls) if setting.required}
    for absurd in ABSURD:
        value = (absurd,) * LADDER_LEVELS if "tuple" in str(hint) else absurd
        values = required | {f.name: {"face": absurd} if "Mapping" in str(hint) else value}
        with pytest.raises(InputError, match=rf"({f.name}|`{f.name}`)( of face)? is .*; expected ") as refused:
            construct(cls, values)
        assert len(str(refused.value)) < 200
        if cls in SETTINGS:
            with pytest.raises(InputError, match=rf"here: .*({f.name}|`{f.name}`) is .*; expected "):
                from_dict(cls, json.loads(json.dumps(values)), "here")


@pytest.mark.parametrize("name", COMMANDS)
def test_absurd_numbers_on_the_command_line_are_status_2(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for _, f, _ in numbers_of(OPTIONS[name]):
        word = option(f)
        if word is None:
            continue
        kind = f.metadata["range"].kind
        for absurd in (math.nan, -math.inf, 10**400) if kind is float else (math.nan, 1 << 63, -(1 << 63) - 1):
            monkeypatch.setattr("sys.argv", [name, *REQUIRED[name], f"--{word}", str(absurd)])
            with pytest.raises(SystemExit) as end:
                run(importlib.import_module(f"launch.{name}").main)
            said = capsys.readouterr().err
            assert end.value.code == 2 and word in said and "Traceback" not in said
            # That "nan" is no integer, and "-inf" no value of one, is tyro's to say, in a box.
            if (kind is float and absurd != -math.inf) or (isinstance(absurd, int) and absurd > 0):
                assert said.startswith("error: --") and said.count("\n") == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ('{"seed": 9223372036854775808}', "`seed` is 9223372036854775808; expected 0 to 9223372036854775807"),
        ('{"optimizer": {"adam_learning_rate": NaN}}', r"run\.json cannot be read \(NaN is not a number of JSON\)"),
        ('{"ccc_weight": 1e999}', r"run\.json cannot be read \(the number 1e999 is too large\)"),
    ],
)
def test_absurd_numbers_in_a_file_of_settings(tmp_path: Path, values: str, message: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(f'{{"config": {values}}}')
    with pytest.raises(InputError, match=message):
        train.parse(["--data-dir", "data", "--workdir", "run", "--config", str(path)])


@pytest.mark.parametrize("digits", [20, 400, 5_000])  # more than Python makes a number of
@pytest.mark.parametrize(
    ("name", "option", "value"),
    [("prepare", "--channel", "{}"), ("predict", "--channel", "{}"), ("experiment", "--shard", "1/{}")]
    + [(name, "--coordinator", "host:{}") for name in ("train", "evaluate")],
)
def test_absurd_numbers_inside_words(
    name: str,
    option: str,
    value: str,
    digits: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", [name, *REQUIRED[name], option, value.format("9" * digits)])
    with pytest.raises(SystemExit) as end:
        run(importlib.import_module(f"launch.{name}").main)
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.startswith(f"error: {option} is ") and said.count("\n") == 1


@dataclass(frozen=True)
class Settings(Checked):
    """Not one of the project's, whose types are checked in tests before they check themselves."""

    steps: int = field(default=1, metadata=within(Range(int, 1, 9)))
    rate: float = field(default=0.5, metadata=within(Range(float, 0, 9)))
    weights: tuple[float, ...] = field(default=(1.0,), metadata=within(Range(float, 0, 9)))
    folds: int | Literal["speakers"] | None = field(default=None, metadata=within(Range(int, 3, 9)))


def test_numbers_of_numpy_become_pythons_own() -> None:
    given: Any = {"steps": np.int16(3), "rate": np.float32(0.5), "weights": [np.float64(1), 2], "folds": np.uint64(7)}
    assert repr(Settings(**given)) == "Settings(steps=3, rate=0.5, weights=(1.0, 2), folds=7)"


def test_an_integer_stays_one_where_a_float_may_be() -> None:
    features = config.GivenFeatures(dimensions=4, frames_per_second=50)
    assert json.dumps(dataclasses.asdict(features)).startswith('{"dimensions": 4, "frames_per_second": 50,')


@pytest.mark.parametrize(
    "value", [True, 3.0, "3", None, np.bool_(True), np.array([3]), (3,), 3 + 0j, np.float32(3), np.int8(-1)]
)
def test_what_is_no_integer(value: Any) -> None:
    with pytest.raises(InputError, match=r"`steps` is .*; expected 1 to 9"):
        Settings(steps=value)


@pytest.mark.parametrize("value", [True, "0.5", None, Fraction(10**400), np.float64("nan"), np.float16("inf"), [0.5]])
def test_what_is_no_finite_number(value: Any) -> None:
    for values in ({"rate": value}, {"weights": (0.5, value)}):
        with pytest.raises(InputError, match=r"`(rate|weights)` is .*; expected 0 to 9"):
            Settings(**values)


def test_words_beside_numbers() -> None:
    for value in (3, "speakers", None):
        assert Settings(folds=value).folds == value
    for value in (2, "3", "files"):
        with pytest.raises(InputError, match=f"`folds` is '?{value}'?; expected 3 to 9"):
            Settings(folds=value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (config.ModelConfig, {"system": "cnn"}, "`system` is 'cnn'; expected one of emocluster, emocluster_gru"),
        (config.ModelConfig, {"attributes": "arousal"}, "`attributes` is 'arousal'; expected a list or tuple"),
        (config.ModelConfig, {"attributes": 5}, "`attributes` is 5; expected a list or tuple"),
        (config.ClusteringConfig, {"whiten": "yes"}, "`whiten` is 'yes'; expected bool"),
        (config.ClusteringConfig, {"initialization": ["random"]}, r"`initialization` is \['random'\]; expected one of"),
        (TrainConfig, {"model": "paper"}, "`model` is 'paper'; expected ModelConfig"),
        (TrainConfig, {"init_from": 5}, "`init_from` is 5; expected str"),
    ],
)
def test_values_of_another_type(cls: type[Any], values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        construct(cls, values)


def test_sequences_become_tuples() -> None:
    for given in (["arousal", "valence"], np.array(["arousal", "valence"]), iter(["arousal", "valence"])):
        assert construct(config.ModelConfig, {"attributes": given}) == config.ModelConfig(
            attributes=("arousal", "valence")
        )
    assert construct(config.LadderConfig, {"denoising_weights": np.ones(LADDER_LEVELS)}) == config.LadderConfig()


def test_absurd_numbers_for_functions(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    for absurd in (1 << 63, -(1 << 63) - 1, 10**400):
        for name in ("unlabeled_limit", "folds", "workers", "channel", "frame_rate"):
            values = {"corpus": "crema_d", "unlabeled": tmp_path / "pool", name: absurd}
            with pytest.raises(InputError, match=f"^`{name}` is .*; expected "):
                emocluster_jax.prepare(source=pool_alone(tmp_path), data_dir=tmp_path / "data", **values)
        for place, name in enumerate(("window_s", "batch_size", "workers")):
            values = [None, None, None]
            values[place] = absurd
            with pytest.raises(InputError, match=f"^`{name}` is .*; expected "):
                check_extent(*values)
    for rate in (math.nan, math.inf, 1 << 63, 10**400):
        with pytest.raises(RecordingError, match=r"the number of frames per second is .*; expected 1 to 4096"):
            checked_frames(np.ones((60, 4)), rate, config.GivenFeatures(4, 50.0))


def pool_alone(folder: Path) -> Path:
    """A corpus of one recording without a label, as far as its tables are concerned."""
    (folder / "corpus" / "AudioWAV").mkdir(parents=True, exist_ok=True)
    (folder / "corpus" / "AudioWAV" / "1001_DFA_ANG_XX.wav").touch()
    return folder / "corpus"


def test_bounds_that_are_excluded_and_those_that_are_not() -> None:
    for limits, inside, outside, said in (
        (Range(float, 0, 1), (0, 1, 0.5), (-1e-9, 1.1), "0 to 1"),
        (Range(float, 0, 1, excludes="lowest"), (1e-300, 1), (0, 0.0, 1.1), "more than 0, and 1 at most"),
        (Range(float, 0, 1, excludes="highest"), (0, 0.999), (1, 1.0), "from 0 up to, but not including, 1"),
        (Range(int, 1, 3, wanted="a few"), (1, 3), (0, 4), "a few"),
    ):
        assert [limits.check("--x", value) for value in inside] == list(inside)
        for value in outside:
            with pytest.raises(InputError, match=rf"^--x is {value}; expected {said}$"):
                limits.check("--x", value)


@dataclass(frozen=True)
class WithoutRange(Checked):
    speed: float = 1.0


@dataclass(frozen=True)
class OfAnotherKind(Checked):
    speed: float = field(default=1.0, metadata=within(Range(int, 0, 9)))


@pytest.mark.parametrize("cls", [WithoutRange, OfAnotherKind])
def test_a_number_without_a_range_is_a_defect(cls: type[Any]) -> None:
    with pytest.raises(TypeError, match=rf"{cls.__name__}\.speed is .*float.*, but its metadata have the range"):
        cls()
