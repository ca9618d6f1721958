"""Speech by eSpeak NG, from the package `espeakng-loader`, which has the library and its voices.

The library is under the GPL: it is an optional extra and runs in processes of its own (`espeak_process`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int16

from emocluster_jax.errors import InputError

SAMPLE_RATE_HZ = 22_050


@dataclass(frozen=True)
class Speech:
    """What to say, and how."""

    text: str  # English words
    voice: str  # language and variant as eSpeak NG names them, such as "en-us+f3"
    rate_wpm: int  # words per minute, 80 to 450
    pitch: int  # 0 to 99; 50 is the voice's own
    pitch_range: int  # 0 (monotonous) to 99; 50 is the voice's own
    word_gap: int  # extra silence between words, in tens of milliseconds at a rate of 175


def say(speeches: Sequence[Speech]) -> list[Int16[np.ndarray, " samples"]]:
    """Renders speech as mono signals at `SAMPLE_RATE_HZ`, in one process: the same list gives the same samples.

    Raises:
      InputError: the package `espeakng-loader` is not installed.
      RuntimeError: eSpeak NG failed.
    """
    library, data = installed_paths()
    # With -P and -S, as the standard library is all it needs, the process starts in 20 ms.
    command = [sys.executable, "-P", "-S", str(Path(__file__).with_name("espeak_process.py")), library, data]
    requests = "".join(json.dumps(asdict(speech)) + "\n" for speech in speeches)
    process = subprocess.run(command, input=requests, capture_output=True, encoding="utf-8", errors="replace")
    if process.returncode:
        message = process.stderr.strip() or f"exit status {process.returncode}"
        raise RuntimeError(f"eSpeak NG failed: {message}")
    return [np.frombuffer(bytes.fromhex(line), np.int16) for line in process.stdout.splitlines()]


def installed_paths() -> tuple[str, str]:
    """The paths of eSpeak NG's library and of its data; InputError if it is not installed."""
    try:
        import espeakng_loader  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            'the demo corpus is spoken by eSpeak NG, which is not installed; pip install "emocluster_jax[demo]"'
        ) from None
    return str(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())
