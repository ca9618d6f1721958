"""The one exception for requests that cannot be carried out as given."""

from __future__ import annotations


class InputError(Exception):
    """What is wrong with a request, in one line: what, where, and the remedy.

    Commands print the line and exit with status 2. Anything else that is raised is a defect of this project and keeps
    its traceback. Characters that would break the line or steer a terminal, as a file's name may have, are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(char if char.isprintable() else repr(char)[1:-1] for char in message))
