"""Small corpora on disk, written by the tests themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture
def write_wavs() -> Callable[..., None]:
    """Writes a tenth of a second of a tone under each name below a folder."""

    def write(folder: Path, *names: str) -> None:
        tone = np.sin(2 * np.pi * 440 * np.arange(800) / 8_000)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / name, tone, 8_000)

    return write


@pytest.fixture
def write_text() -> Callable[[Path, str], Path]:
    """Writes a text file, with its folders, and returns its path."""

    def write(path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write
