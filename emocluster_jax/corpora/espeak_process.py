"""The process that eSpeak NG runs in: `python espeak_process.py LIBRARY DATA` reads requests, writes samples.

The library keeps hidden state (pitch flutter, the C library's random numbers), so its output depends on what it said
before. In a fresh process a list of requests always gives the same samples, and a crash does not take the caller down.
The caller is `demo_voices.say`; this file needs only the standard library and is run by its path.

Input, one JSON object per line: {"text", "voice", "rate_wpm", "pitch", "pitch_range", "word_gap"}. Output, one line for
each: mono 16-bit samples in the machine's byte order, as hexadecimal digits.
"""

from __future__ import annotations

import ctypes
import json
import sys

# Values of eSpeak NG's speak_lib.h.
_SYNCHRONOUS = 2
_CHARACTER_POSITION = 1
_UTF8 = 1
_VOLUME = 2
_PARAMETERS = {"rate_wpm": 1, "pitch": 3, "pitch_range": 4, "word_gap": 7}

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def main(library_path: str, data_path: str) -> None:
    """Answers every request on standard input on standard output."""
    library = ctypes.CDLL(library_path)
    pieces: list[bytes] = []

    @_Callback
    def keep(samples: int | None, count: int, events: int | None) -> int:
        if samples and count > 0:
            pieces.append(ctypes.string_at(samples, 2 * count))
        return 0

    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data_path.encode(), 0)
    if rate != 22_050:
        sys.exit(f"eSpeak NG did not start with its data in {data_path} (sample rate {rate}, expected 22050)")
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # for the noise of breathy voices, else seeded with the clock
    library.espeak_SetSynthCallback(keep)
    for line in sys.stdin:
        request = json.loads(line)
        if library.espeak_SetVoiceByName(request["voice"].encode()):
            sys.exit(f"eSpeak NG has no voice {request['voice']}")
        # After the voice, which resets them.
        library.espeak_SetParameter(_VOLUME, 100, 0)
        for name, parameter in _PARAMETERS.items():
            library.espeak_SetParameter(parameter, request[name], 0)
        text = request["text"].encode()
        pieces.clear()
        size = ctypes.c_size_t(len(text) + 1)
        if library.espeak_Synth(text, size, 0, _CHARACTER_POSITION, 0, _UTF8, None, None):
            sys.exit(f"eSpeak NG could not say {request['text']!r}")
        print(b"".join(pieces).hex())


if __name__ == "__main__":
    main(*sys.argv[1:])
