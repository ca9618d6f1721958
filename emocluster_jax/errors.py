"""The exceptions for what a person is to put right: a request that cannot be carried out, or one recording."""

from __future__ import annotations


class InputError(Exception):
    """What is wrong with a request, in one line: what, where, and the remedy.

    Commands print the line and exit with status 2. Anything else that is raised is a defect of this project and keeps
    its traceback. Characters that would break the line or steer a terminal, as a file's name may have, are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(char if char.isprintable() else repr(char)[1:-1] for char in message))


class RecordingError(ValueError):
    """Why one recording cannot be used, in a few words, e.g. "silent"; it does not name the file."""
