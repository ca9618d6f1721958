"""Harm that comes to files and folders, as from failing disks, cut transfers and mistaken copies."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

_SPARSE_BYTES = 3 << 30
_SPARE_BYTES = 1 << 30
_LONGEST_S = 60


@dataclass(frozen=True)
class Harm:
    """One kind of harm.

    Attributes:
      name: what happens, with all that it takes to repeat it.
      kind: "flip", "cut", "grow", "swap" (with another file of the same tree), "foreign" (with another tree's), "gone",
        "folder", "pipe" or "giant".
      do: does it to a path.
    """

    name: str
    kind: str
    do: Callable[[Path], None]


class WaitedError(BaseException):
    """A read went on for too long; nothing that is read by takes it for a damaged file."""


def harms_of_file(
    path: Path, places: int, random: np.random.Generator, beside: Sequence[Path], foreign: Sequence[Path], giant: bool
) -> Iterator[Harm]:
    """All kinds of harm to a file.

    Args:
      path: the file, which is whole.
      places: so many bits are flipped, one at a time, and half as many lengths kept.
      random: draws them.
      beside: files of the same tree that may be put in its place.
      foreign: files of another tree.
      giant: whether it also grows beyond what memory holds, which takes no room on the disk.
    """
    content = path.read_bytes()
    # Half of the bits are anywhere, half where the file is not zero: ArrayRecord fills its files up.
    in_use = np.flatnonzero(np.frombuffer(content, np.uint8))
    if len(in_use):
        anywhere = random.integers(8 * len(content), size=places // 2)
        others = 8 * random.choice(in_use, places - len(anywhere)) + random.integers(8, size=places - len(anywhere))
        for bit in map(int, [*anywhere, *others]):
            yield Harm(f"bit {bit} flipped", "flip", partial(_flip, bit=bit))
        lengths = {0, *map(int, random.integers(len(content), size=places // 2))}
        for length in sorted(lengths):
            yield Harm(f"cut to {length} bytes", "cut", partial(_write, content=content[:length]))
        yield Harm("followed by itself", "grow", partial(_write, content=2 * content))
    more = random.bytes(int(random.integers(1, 100)))
    yield Harm(f"followed by {more!r}", "grow", partial(_write, content=content + more))
    for kind, sources in (("swap", beside), ("foreign", foreign)):
        for source in sources:
            if (other := source.read_bytes()) != content:
                yield Harm(f"replaced by {source}", kind, partial(_write, content=other))
    yield Harm("removed", "gone", Path.unlink)
    yield Harm("a folder in its place", "folder", _make_folder)
    yield Harm("a pipe in its place", "pipe", _make_pipe)
    if giant:
        yield Harm(f"grown to {_SPARSE_BYTES} bytes", "giant", _grow)


def harms_of_folder(beside: Sequence[Path], foreign: Sequence[Path]) -> Iterator[Harm]:
    """Other folders, or a file, in the place of a folder, and a file more in it."""
    for kind, sources in (("swap", beside), ("foreign", foreign)):
        for source in sources:
            yield Harm(f"replaced by {source}", kind, partial(_replace_folder, source=source))
    yield Harm("a file in its place", "file", _replace_by_file)
    yield Harm("a file more in it", "more", _put_more)


@contextmanager
def harmed(path: Path, harm: Harm, elsewhere: Path) -> Iterator[None]:
    """Does harm to a file or folder, and puts it back.

    A read that waits for something is ended after minutes, and one of a giant file has a gibibyte of memory.
    """
    shutil.copytree(path, elsewhere) if path.is_dir() else shutil.copy(path, elsewhere)
    was = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, _give_up)
    try:
        harm.do(path)
        signal.alarm(_LONGEST_S)
        if harm.kind == "giant":
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + _SPARE_BYTES, was[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, was)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        _remove(path)
        elsewhere.rename(path)


def _give_up(number: int, frame: Any) -> NoReturn:
    raise WaitedError(f"waited for {_LONGEST_S} s")


def _flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _grow(path: Path) -> None:
    os.truncate(path, _SPARSE_BYTES)


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _replace_folder(path: Path, source: Path) -> None:
    shutil.rmtree(path)
    shutil.copytree(source, path)


def _replace_by_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_bytes(b"file")


def _put_more(folder: Path) -> None:
    (folder / "more").write_bytes(b"more")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
