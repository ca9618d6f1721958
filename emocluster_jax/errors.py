"""The exceptions for what a person is to put right: a request that cannot be carried out, or one recording."""

from __future__ import annotations


def one_line(text: str) -> str:
    """The text with those characters escaped that would break a line or steer a terminal, as a file's name may have."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class InputError(Exception):
    """What is wrong with a request, in one line: what, where, and the remedy.

    Commands print the line and exit with status 2. Anything else that is raised is a defect of this project and keeps
    its traceback. The line is escaped by `one_line`.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class RecordingError(ValueError):
    """Why one recording cannot be used, in a few words, e.g. "silent"; it does not name the file."""
