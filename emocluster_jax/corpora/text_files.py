"""Text files as people save them, whatever encoding and line ends their programs chose."""

from __future__ import annotations

import codecs
from pathlib import Path

from emocluster_jax.errors import InputError

_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_text(path: Path) -> str:
    """Reads a text file: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Raises:
      InputError: the file is missing, cannot be read or is not text.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check its name and folder") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; give the path of a file") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check its permissions") from None
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not {encoding} text (byte {error.start}); save it in UTF-8") from None
    if "\0" in text:
        # UTF-16 without a byte order mark looks like this, and no file name may hold one.
        raise InputError(f"{path} is not {encoding} text (it holds null characters); save it in UTF-8")
    return text
