"""The names that people give to splits, brought to those of `config.SPLITS`."""

from __future__ import annotations

from emocluster_jax.errors import InputError

_SPELLINGS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "devel": "validation",
    "development": "validation",
    "test": "test",
    "testing": "test",
    "unlabeled": "unlabeled",
    "unlabelled": "unlabeled",
}


def parse_split(text: str, where: str) -> str:
    """One of `config.SPLITS` from any usual spelling.

    Args:
      text: what the table says.
      where: file and line, for the message.

    Raises:
      InputError: no spelling that is known.
    """
    try:
        return _SPELLINGS[text.strip().casefold()]
    except KeyError:
        raise InputError(f"{where}: unknown split {text!r}; known are {', '.join(_SPELLINGS)}") from None
