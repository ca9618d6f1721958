"""What all commands share: reading options, and how they end.

Exit status: 0 done, 1 a defect of this project (with its traceback), 2 a request that cannot be carried out, 3 done,
with all files written, but not all of what was printed (stdout or stderr is full, or its reader has gone), 130 Ctrl-C,
143 SIGTERM
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar, Union, get_args, get_origin

from emocluster_jax.errors import InputError
from emocluster_jax.ranges import option_name
from emocluster_jax.runtime.child_processes import end_with_parent
from emocluster_jax.storage.caches import compiled_programs, place_caches
from emocluster_jax.storage.disk import check_path
from launch.signals import PATIENCE_S, Terminated, heeded, interruption
from launch.streams import independent
from launch.unknown_options import check_known

if TYPE_CHECKING:
    from tyro.constructors import ConstructorRegistry, StructFieldSpec

Options = TypeVar("Options")

_NOT_ALL_PRINTED = 3
_TOGETHER_S = 5.0
_NO_NUMBER = "none"
_FEWEST_COLUMNS = 40


def invocation(name: str) -> str:
    """What the person types to start a command: by the console script, if that is what started this process."""
    return f"emocluster {name}" if Path(sys.argv[0]).name == "emocluster" else f"python -m launch.{name}"


def run(main: Callable[[], None], patience_s: float = PATIENCE_S) -> None:
    """Runs a command and exits: with one line and no traceback where the person, not the program, is to act.

    A KeyboardInterrupt's text, if it has one, says how to go on.

    Args:
      main: the command.
      patience_s: seconds that it has to end by itself after a signal interrupted it.
    """
    end_with_parent()
    with independent() as outputs, heeded(patience_s):
        try:
            _run(main)
        except SystemExit as end:
            if end.code or not outputs.lost():
                raise
        if lost := outputs.lost():
            _end_with_losses(lost)


def _run(main: Callable[[], None]) -> None:
    try:
        main()
    except InputError as error:
        _end(f"error: {error}", 2)
    except KeyboardInterrupt as signal:
        _end_by(signal)
    except Exception:
        # A signal may leave a lock in a state of which Python then complains: "cannot release un-acquired lock".
        if signal := interruption():
            _end_by(signal)
        if not _is_one_of_several():
            raise
        traceback.print_exc()
        _leave(1)


def parse(
    options: type[Options],
    *,
    prog: str,
    description: str,
    example: str = "",
    default: Options | None = None,
    args: list[str],
) -> Options:
    """The command line as an instance of a dataclass; `--help` and wrong values end the process (status 0 and 2).

    Fields of nested dataclasses are flat options: `model.clusters` is `--clusters`. A field whose metadata name an
    "option" goes by that name.

    Args:
      options: a dataclass, maybe with dataclasses inside; its field docstrings are the help texts.
      prog: what the person types, e.g. "python -m launch.train".
      description: what the command does, for `--help`.
      example: arguments that work, shown in `--help`.
      default: the values of options that are not given, where they are not the dataclass's own.
      args: the arguments.

    Raises:
      InputError: there is no such option, or a path that the system will not even look for, as its name is too long.
    """
    check_known(args, [options], prog)
    import tyro

    kwargs: dict[str, Any] = {} if default is None else {"default": default}
    with _legible_width():
        parsed = tyro.cli(options, **_presentation(prog, description, example), args=args, **kwargs)
    _check_paths(parsed)
    place_caches()
    return parsed


def parse_known(
    options: type[Options], *, others: type[Any], prog: str, description: str, example: str, args: list[str]
) -> tuple[Options, list[str]]:
    """As `parse`, for a command that hands options of another one (`others`) on to it, as they stand."""
    check_known(args, [options, others], prog)
    import tyro

    with _legible_width():
        parsed, unknown = tyro.cli(
            options, **_presentation(prog, description, example), args=args, return_unknown_args=True
        )
    _check_paths(parsed)
    place_caches()
    return parsed, unknown


def _presentation(prog: str, description: str, example: str) -> dict[str, Any]:
    """How tyro shows and reads the options of all commands."""
    import tyro

    return {
        "prog": prog,
        "description": f"{description}\n\nExample:\n{prog} {example}" if example else description,
        "config": (tyro.conf.OmitArgPrefixes,),
        "registry": _house_rules(),
    }


def _check_paths(options: Any) -> None:
    """Raises InputError, naming the option, where a path is one that the system will not even look for."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            _check_paths(value)
        for path in value if isinstance(value, tuple) else (value,):
            if isinstance(path, Path):
                check_path(f"--{option_name(field)}", path)


@contextmanager
def _legible_width() -> Iterator[None]:
    """In the block the terminal passes for 40 columns wide if it has fewer.

    tyro takes forever to break help texts into a column or two, and writes a thousand lines for twenty; a terminal
    breaks lines that are too long for it by itself.
    """
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(max(shutil.get_terminal_size().columns, _FEWEST_COLUMNS))
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def _house_rules() -> ConstructorRegistry:
    """tyro's rules, but for three things.

    A field whose metadata name an "option" goes by that name. `X | None` takes an X, and of numbers also the word none,
    which takes back what a preset says; `bool | None` takes yes, no, or nothing, which is yes. A default of None or
    nothing is not shown: the help text says what happens then. Help texts are not broken where the source is.
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

    def ruled(spec: StructFieldSpec, field: dataclasses.Field[Any]) -> StructFieldSpec:
        settings: dict[str, Any] = {}
        if "option" in field.metadata:
            settings["name"] = field.metadata["option"]
        if spec.default in (None, ()):
            settings["help_behavior_hint"] = ""
        kind = Annotated[spec.type, tyro.conf.arg(**settings)] if settings else spec.type
        if get_origin(spec.type) in (UnionType, Union) and NoneType in get_args(spec.type):
            kind = Annotated[kind, given(Union[*(of for of in get_args(spec.type) if of is not NoneType)])]
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
        fields = {f.name: f for f in dataclasses.fields(info.type)}
        return dataclasses.replace(plain, fields=tuple(ruled(spec, fields[spec.name]) for spec in plain.fields))

    return registry


def _unbroken(text: str | Callable[[], str | None] | None) -> str | None:
    """A help text with its paragraphs on a line each."""
    text = text() if callable(text) else text
    return text and "\n\n".join(" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text))


def enable_compilation_cache() -> None:
    """Keeps compiled programs for the next run, under `~/.cache/emocluster_jax/xla` or `JAX_COMPILATION_CACHE_DIR`.

    Call it before anything is compiled. Programs that compile in less than a second are not kept (JAX's default). Where
    the folder cannot be written, `emocluster_jax.storage.caches` has named another.
    """
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR") and (folder := compiled_programs()):
        jax.config.update("jax_compilation_cache_dir", str(folder))


def choose_deterministic_algorithms() -> None:
    """Has XLA take only algorithms that give the same bits each time on GPUs; elsewhere it changes nothing.

    Call it before JAX compiles anything, which is when XLA reads its options. With this one, which the XLA of JAX 0.10
    and 0.11 knows, it also no longer measures which algorithm is the fastest, and so chooses alike in every process.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".lstrip()


def _end_by(signal: KeyboardInterrupt) -> NoReturn:
    word, status = ("terminated", 143) if isinstance(signal, Terminated) else ("interrupted", 130)
    _end("; ".join(filter(None, (word, str(signal)))), status)


def _end_with_losses(lost: Mapping[str, OSError]) -> NoReturn:
    """Ends with the status for work that is done without all of it having been told."""
    # A reader that has gone (`| head`) has read what it wanted.
    reasons = [f"{name}: {error.strerror}" for name, error in lost.items() if not isinstance(error, BrokenPipeError)]
    if not reasons:
        _leave(_NOT_ALL_PRINTED)
    _end(f"error: not all output could be printed ({', '.join(reasons)}); all else is done", _NOT_ALL_PRINTED)


def _end(line: str, status: int) -> NoReturn:
    print(line, file=sys.stderr, flush=True)
    _leave(status)


def _leave(status: int) -> NoReturn:
    """Ends this process. If it is one of several, it waits only seconds for the others, which may know of no error.

    At exit JAX would wait for them much longer, and they for what this process has to give, until all are aborted.
    A short wait there has to be: where all end by the same error, the end of the first would abort the others before
    they have said it.
    """
    if not _is_one_of_several():
        sys.exit(status)
    import jax

    from emocluster_jax.runtime import parallel

    # Those who have not met know of nothing to end together, and JAX would only print what it thinks of that.
    if parallel.have_met():
        together = Thread(target=jax.distributed.shutdown, daemon=True)
        together.start()
        together.join(_TOGETHER_S)
    os._exit(status)


def _is_one_of_several() -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()
