"""Files that may be damaged or untrusted: read after a look at their type and size, and checked by their SHA-256.

Checksums guard against failing disks and transfers, not against people, who can change a checksum with its file.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from emocluster_jax.errors import InputError
from emocluster_jax.storage.atomic_files import replacing

CHECKSUMS = "SHA256SUMS"
"""The file in a folder that lists the checksums of all others, as `sha256sum --check` reads it."""
_LINE = re.compile(r"([0-9a-f]{64})  ([^/\\]+(?:/[^/\\]+)*)")
_MOST_LIST_BYTES = 16 << 20


def read_bytes(path: Path, remedy: str, most_bytes: int) -> bytes:
    """A file's content.

    Raises:
      FileNotFoundError: there is no such file.
      InputError: it is not a plain file, larger than `most_bytes`, or cannot be read; the message ends with `remedy`.
    """
    try:
        found = path.stat()
        # Opening a pipe would wait for its writer.
        if not stat.S_ISREG(found.st_mode):
            reason = "not a plain file"
        elif found.st_size > most_bytes:
            reason = f"{found.st_size} bytes, expected {most_bytes} at most"
        else:
            return path.read_bytes()
    except FileNotFoundError:
        if not path.is_symlink():
            raise
        reason = "a link to a missing file"
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:  # a name that no file can have
        reason = str(error)
    raise InputError(f"{path} cannot be read ({reason}); {remedy}")


def read_text(path: Path, remedy: str, most_bytes: int) -> str:
    """The text of a UTF-8 file, with its line ends unchanged; errors as in `read_bytes`, also if it is not UTF-8."""
    content = read_bytes(path, remedy, most_bytes)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read (not UTF-8 at byte {error.start}); {remedy}") from None


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal; about one second per gigabyte."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(directory: Path, expected: Mapping[str, str], remedy: str) -> None:
    """Checks files against their SHA-256, by path relative to the directory; InputError for the first that is missing,
    damaged or cannot be read, with the remedy."""
    for name, sha256 in expected.items():
        path = directory / name
        try:
            # Opening a pipe would wait for its writer.
            found = "" if path.exists() and not path.is_file() else file_sha256(path)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}; {remedy}") from None
        if found != sha256:
            raise InputError(f"{path} is damaged (its SHA-256 differs); {remedy}")


def write_checksums(directory: Path) -> None:
    """Writes `CHECKSUMS` for all files in a folder and below."""
    paths = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    lines = [f"{file_sha256(directory / path)}  {path}\n" for path in paths if path != CHECKSUMS]
    with replacing(directory / CHECKSUMS) as temporary:
        temporary.write_text("".join(lines), "utf-8")


def check_checksums(directory: Path, remedy: str, sha256: str | None = None) -> None:
    """Checks that a folder has the files that `write_checksums` listed, unchanged, and no others.

    Raises:
      InputError: `CHECKSUMS` is missing, or not the one with this SHA-256, or a file is damaged or not listed.
    """
    path = directory / CHECKSUMS
    try:
        content = read_bytes(path, remedy, _MOST_LIST_BYTES)
        *lines, end = content.decode("utf-8").split("\n")
    except FileNotFoundError:
        raise InputError(f"{directory} is damaged or of another kind: it has no {CHECKSUMS}; {remedy}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read ({error}); {remedy}") from None
    found = [_LINE.fullmatch(line) for line in lines]
    expected = {match[2]: match[1] for match in found if match}
    if end or not found or len(expected) != len(found) or any(".." in name.split("/") for name in expected):
        raise InputError(f"{path} is damaged; {remedy}")
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{path} is damaged, or lists the files of another folder; {remedy}")
    there = {found.relative_to(directory).as_posix() for found in directory.rglob("*") if not found.is_dir()}
    if unlisted := sorted(there - expected.keys() - {CHECKSUMS}):
        raise InputError(f"{directory / unlisted[0]} is not listed in {path}; remove it, or {remedy}")
    check_files(directory, expected, f"either it or {path} is not what was written; {remedy}")
