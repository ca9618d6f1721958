"""JSON files with a checksum of themselves, against failing disks and transfers; they may be damaged or untrusted."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from emocluster_jax.errors import InputError
from emocluster_jax.settings import from_dict
from emocluster_jax.storage.atomic_files import write_json
from emocluster_jax.storage.checksums import read_text

MOST_BYTES = 16 << 20
"""The largest file that is read: a thousand times the usual size."""
RUN_ENTRY = "run"
"""The entry in which a file of a work directory names its run (`training.workdir.SavedRun.id`). Earlier versions did
not write it."""
_SEAL = "sha256"
_LARGEST_INTEGER = (1 << 64) - 1
_LONGEST_REASON = 300
"""Characters."""

Record = TypeVar("Record")


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The entries with their SHA-256 as one more entry, replacing an earlier one."""
    entries = {name: value for name, value in values.items() if name != _SEAL}
    return {**entries, _SEAL: hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()}


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a JSON object with its checksum, atomically."""
    write_json(path, sealed(values))


def read_sealed(
    path: Path,
    remedy: str,
    *,
    versions: Collection[int] = (),
    renewal: str = "",
    missing: str = "",
    may_lack_seal: bool = False,
    most_bytes: int = MOST_BYTES,
) -> dict[str, Any]:
    """Reads what `write_sealed` wrote, without the checksum; the caller checks types and names.

    Args:
      remedy: what to do if it is damaged, for the message.
      versions: allowed values of `format_version`; none leaves it unchecked.
      renewal: what to do about another version; by default the same as `remedy`.
      missing: the message if there is no such file; by default FileNotFoundError is raised.
      may_lack_seal: whether to read files of earlier versions, without a checksum.
      most_bytes: larger files are refused.

    Raises:
      FileNotFoundError: there is no such file, and `missing` is empty.
      InputError: there is none, it cannot be read, is not a JSON object, of another version, or damaged.
    """
    try:
        values = read_json(path, remedy, most_bytes)
    except FileNotFoundError:
        if not missing:
            raise
        raise InputError(missing) from None
    if not isinstance(values, dict):
        raise InputError(f"{path} is not a JSON object; {remedy}")
    if versions and values.get("format_version") not in versions:
        found = shortened(repr(values.get("format_version")))
        raise InputError(
            f"{path} is of format version {found}, and this program reads version {max(versions)}; {renewal or remedy}"
        )
    entries = {name: value for name, value in values.items() if name != _SEAL}
    if _SEAL not in values:
        if may_lack_seal:
            return entries
        raise InputError(f"{path} has no checksum of itself, as an earlier version wrote it; {remedy}")
    try:
        whole = values[_SEAL] == sealed(entries)[_SEAL]
    except RecursionError:
        whole = False
    if not whole:
        raise InputError(f"{path} is damaged or was changed (its SHA-256 differs); {remedy}")
    return entries


def check_run(path: Path, found: object, run_id: str) -> None:
    """Raises InputError unless `found`, the run that a file names ("" for none), is its work directory's run."""
    if found != run_id:
        names = (found[:40] or "none") if isinstance(found, str) else "something else"
        raise InputError(
            f"{path} is not of the run beside it, which is {run_id or 'of an earlier version'}: it names {names}; put "
            "back the run's own file, or move this one away"
        )


def read_json(path: Path, remedy: str, most_bytes: int = MOST_BYTES) -> Any:
    """The value in a JSON file; the caller checks types and names.

    Raises:
      FileNotFoundError: there is no such file.
      InputError: it is not a plain file, too large, not JSON (or has infinite numbers), or cannot be read.
    """
    try:
        return parse_json(read_text(path, remedy, most_bytes))
    except ValueError as error:
        raise InputError(f"{path} cannot be read ({error}); {remedy}") from None


def parse_json(text: str) -> Any:
    """The value of a JSON text; ValueError if it is not JSON, too deep, or has numbers beyond doubles or 64 bits."""
    try:
        return json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def as_record(cls: type[Record], values: Any, where: str, remedy: str) -> Record:
    """A JSON value as a dataclass of numbers, text, None, tuples and dataclasses, with every type checked.

    Missing entries get their defaults; for unknown or missing ones, or one of another type, there is an InputError with
    `where`, the file and the place in it, and `remedy`.
    """
    try:
        return from_dict(cls, values, where)
    except InputError as error:
        raise InputError(f"{shortened(str(error))}; {remedy}") from None


def shortened(reason: str) -> str:
    """A message, cut if it is very long, as it may quote the file."""
    return reason if len(reason) <= _LONGEST_REASON else reason[: _LONGEST_REASON - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _whole(text: str) -> int:
    # Digits are counted first, as converting very many takes long.
    if len(text) > 20 or abs(int(text)) > _LARGEST_INTEGER:
        raise ValueError(f"the number {text[:20]}... is too large")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number of JSON")
