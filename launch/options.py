"""The options of commands: the settings of a dataclass, and how the library's texts name them.

In messages and help texts the library names a setting as `` `clusters` ``, with a value as `` `fold=2` ``, and a
function as `` `prepare()` ``; a command prints `--clusters`, `--fold 2` and `python -m launch.prepare`.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, get_args, get_origin

from emocluster_jax.config import check_input_names
from emocluster_jax.errors import InputError
from emocluster_jax.settings import Setting, all_settings, settings_of, values_of
from emocluster_jax.storage.caches import place_caches
from emocluster_jax.storage.disk import check_path
from launch import COMMANDS

if TYPE_CHECKING:
    from tyro.constructors import ConstructorRegistry, StructFieldSpec

Options = TypeVar("Options")

_NO_NUMBER = "none"
_FEWEST_COLUMNS = 40
_FUNCTIONS = {"fit": "train"} | {name: name for name in ("prepare", "evaluate", "calibrate", "predict")}
_NAMED = re.compile(r"`([a-z][a-z0-9_]*)(?:\(\)|=([^`]*))?`")
_read: list[type[Any]] = []
"""The dataclasses of the command that runs."""


def parse(
    options: type[Options],
    command: str,
    description: str,
    example: str,
    *,
    default: Options | None = None,
    args: Sequence[str] | None = None,
    others: type[Any] | None = None,
) -> Options:
    """The command line as an instance of a dataclass; `--help` and wrong values end the process (status 0 and 2).

    Settings of nested dataclasses are flat options (`model.clusters` is `--clusters`), and field docstrings are help.

    Args:
      example: arguments that work, shown in `--help`.
      default: the values of options that are not given, where they are not the dataclass's own.
      args: the arguments; None for those of this process.
      others: the options of another command; the field `passed_on` takes those that are given, unread.

    Raises:
      InputError: there is no such option, or a path's name is too long for the system to look for it.
    """
    args, prog = sys.argv[1:] if args is None else list(args), invocation(command)
    _read[:] = [options] if others is None else [options, others]
    _check_known(args, prog)
    import tyro

    kwargs: dict[str, Any] = {} if default is None else {"default": default}
    with _legible_width():
        parsed: Any = tyro.cli(
            options,
            prog=prog,
            # tyro wraps no description, and joins lines that are not indented.
            description=f"{_block(description)}\n\nExample:\n  {prog} {example}",
            config=(tyro.conf.OmitArgPrefixes,),
            registry=_house_rules(),
            args=args,
            return_unknown_args=others is not None,
            **kwargs,
        )
    if others is not None:
        parsed = dataclasses.replace(parsed[0], passed_on=tuple(parsed[1]))
    for setting, value in values_of(parsed):
        for path in value if isinstance(value, tuple) else (value,):
            if isinstance(path, Path):
                check_path(f"`{setting.name}`", path)
    place_caches()
    return parsed


def arguments_for(options: Any, default: Any) -> list[str]:
    """The command line that `parse` makes `options` of, where `default` holds what is not given."""
    arguments = []
    for (setting, value), (_, before) in zip(values_of(options), values_of(default), strict=True):
        if value == before:
            continue
        if isinstance(value, bool):
            arguments.append(f"--{'' if value else 'no-'}{setting.option}")
        else:
            words = value if isinstance(value, tuple) else (_NO_NUMBER if value is None else value,)
            arguments += [f"--{setting.option}", *map(str, words)]
    return arguments


def named_values(option: str, words: Sequence[str], wanted: str, example: str) -> list[tuple[str, str]]:
    """The names of inputs, and what is given for each, of an option's words as `wanted`: NAME=..., each name once.

    Raises InputError for anything else.
    """
    pairs = [word.partition("=") for word in words]
    for word, (_, _, value) in zip(words, pairs, strict=True):
        if not value:
            raise InputError(f"{option} {word} is not {wanted}; give one for each input: {example}")
    check_input_names([name for name, _, _ in pairs], option)
    return [(name, value) for name, _, value in pairs]


def option_names(options: type[Any]) -> Iterator[str]:
    """Names, without their dashes, of the options that `parse` makes of a dataclass."""
    for setting in all_settings(options):
        if setting.option is not None:
            yield setting.option
            if setting.type is bool:
                yield f"no-{setting.option}"


def words_of_options(arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The options of a command line: each one's name, without dashes, and its words."""
    found: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if argument.startswith("--") or not found:
            found.append((argument.split("=")[0].replace("_", "-").removeprefix("--"), []))
        found[-1][1].append(argument)
    return found


def invocation(command: str, *arguments: object) -> str:
    """What to type to run a command: by the console script, if that is what started this process."""
    by_script = Path(sys.argv[0]).name == "emocluster"
    start = ["emocluster", command] if by_script else ["python", "-m", f"launch.{command}"]
    return shlex.join([*start, *map(str, arguments)])


def prediction(model: Path, source: Path | str, inputs: Iterable[str] = ()) -> str:
    """What to type to predict with a model, whose further inputs lie in folders of that name."""
    folders = [f"{name}=FOLDER" for name in inputs]
    given = ["--inputs", *folders] if folders else []
    return invocation("predict", "--checkpoint", model, "--input", source, *given, "--output", "predictions.csv")


def as_options(text: str) -> str:
    """The text with options and commands in place of the settings and functions that it names.

    A setting that several commands have under different names is that of the command that runs.
    """

    def spelt(match: re.Match[str]) -> str:
        name, value = match.groups()
        if match[0].endswith("()`"):
            return invocation(_FUNCTIONS[name]) if name in _FUNCTIONS else match[0]
        commands = (importlib.import_module(f"launch.{command}").Options for command in COMMANDS)
        settings = (setting for cls in chain(_read, commands) for setting in all_settings(cls))
        settings = [setting for setting in settings if setting.option]
        # Where a name belongs to no setting it may be an option's that is called so: `config`.
        option = next((s.option for key in ("name", "option") for s in settings if getattr(s, key) == name), None)
        return match[0] if option is None else f"--{option}" if value is None else f"--{option} {value}"

    return _NAMED.sub(spelt, text)


def _check_known(arguments: Sequence[str], prog: str) -> None:
    """Raises InputError for the first option that the command does not have, unless help is asked for.

    tyro suggests an option only where nothing else is wrong; a misspelt required option is missing as well.
    """
    if {"-h", "--help"} & set(arguments):
        return
    known = ["help", *(name for cls in _read for name in option_names(cls))]
    for name, words in words_of_options(arguments):
        # tyro has options of its own, for shells that complete commands.
        if words[0].startswith("--") and name not in known and not name.startswith("tyro-"):
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean --{nearest[0]}?" if nearest else f"{prog} --help lists them"
            raise InputError(f"there is no option --{name}; {hint}")


def _block(text: str) -> str:
    """The text in indented lines of the terminal's width."""
    width = shutil.get_terminal_size().columns
    indent = "  "
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


@contextmanager
def _legible_width() -> Iterator[None]:
    """In the block the terminal passes for 40 columns wide if it has fewer: tyro takes forever to fill one or two."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(max(shutil.get_terminal_size().columns, _FEWEST_COLUMNS))
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def _house_rules() -> ConstructorRegistry:
    """tyro's rules, with these exceptions.

    A setting goes by the name of its option, and one without an option is left out. `X | None` takes an X, and for
    numbers also the word none, which takes back what a preset says; `bool | None` takes yes, no, or nothing, which
    means yes. A default of None or () is not shown: the help text says what happens then. Help texts name options, and
    are wrapped by the terminal's width alone.
    """
    import tyro
    from tyro.constructors import (
        ConstructorRegistry,
        PrimitiveConstructorSpec,
        PrimitiveTypeInfo,
        StructConstructorSpec,
        StructTypeInfo,
    )

    registry = ConstructorRegistry()
    inside = False

    def answer(words: list[str]) -> bool:
        if words not in ([], ["yes"], ["no"]):
            raise ValueError(f"{words[0]!r} is neither yes nor no")
        return words != ["no"]

    def given(kind: Any) -> PrimitiveConstructorSpec[Any]:
        """How a value of this type is read, which may also be left out, and, if it is a number, taken back."""
        plain = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kind, set()))
        assert not isinstance(plain, Exception)
        optional = dataclasses.replace(
            plain,
            is_instance=lambda value: value is None or plain.is_instance(value),
            str_from_instance=lambda value: [_NO_NUMBER] if value is None else plain.str_from_instance(value),
        )
        if kind is bool:
            return dataclasses.replace(
                optional, nargs=(0, 1), metavar="[yes|no]", instance_from_str=answer, choices=None
            )
        if kind not in (int, float):
            return optional
        return dataclasses.replace(
            optional,
            metavar=f"{plain.metavar}|{_NO_NUMBER}",
            instance_from_str=lambda words: None if words == [_NO_NUMBER] else plain.instance_from_str(words),
        )

    def ruled(spec: StructFieldSpec, setting: Setting) -> StructFieldSpec:
        shown: dict[str, Any] = {} if setting.parts else {"name": setting.option}
        if spec.default in (None, ()):
            shown["help_behavior_hint"] = ""
        kinds = set(get_args(spec.type)) if get_origin(spec.type) in (UnionType, Union) else {spec.type}
        if str in kinds:  # Python users may also give a path, or a number
            kinds -= {str} if Path in kinds else {int}
        kind = Annotated[Union[*kinds], tyro.conf.arg(**shown)]
        if NoneType in kinds:
            kind = Annotated[kind, given(Union[*(kinds - {NoneType})])]
        return dataclasses.replace(spec, type=kind, helptext=partial(_unbroken, spec.helptext))

    @registry.struct_rule
    def rule(info: StructTypeInfo) -> StructConstructorSpec | None:
        nonlocal inside
        if inside or not dataclasses.is_dataclass(info.type):
            return None
        inside = True  # tyro's own rule is to answer
        try:
            plain = ConstructorRegistry.get_struct_spec(info)
        finally:
            inside = False
        assert isinstance(plain, StructConstructorSpec)
        settings = {setting.name: setting for setting in settings_of(info.type)}
        shown = [spec for spec in plain.fields if settings[spec.name].option is not None]
        return dataclasses.replace(plain, fields=tuple(ruled(spec, settings[spec.name]) for spec in shown))

    return registry


def _unbroken(text: str | Callable[[], str | None] | None) -> str | None:
    """A help text with options in place of settings, each paragraph on one line."""
    text = text() if callable(text) else text
    return text and "\n\n".join(" ".join(as_options(paragraph).split()) for paragraph in re.split(r"\n\s*\n", text))
