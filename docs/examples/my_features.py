"""A corpus of given features: frames that stand in for embeddings, one direction of which tells of arousal.

`python docs/examples/my_features.py FOLDER` writes a NumPy file a recording, and the manifest.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

FRAMES_PER_SECOND = 50
DIMENSIONS = 24


def write_corpus(folder: Path, speakers: int = 20, recordings: int = 4) -> None:
    """Writes so many recordings of each speaker, of two to four seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    direction = random.normal(size=DIMENSIONS)
    with (folder / "manifest.csv").open("w", newline="") as file:
        manifest = csv.writer(file)
        manifest.writerow(["file", "speaker", "arousal"])
        for speaker in range(speakers):
            voice = random.normal(size=DIMENSIONS)
            for i in range(recordings):
                arousal = random.uniform(1, 7)
                noise = random.normal(size=(random.integers(2, 4) * FRAMES_PER_SECOND, DIMENSIONS))
                embeddings = noise + voice + (arousal - 4) * direction
                np.save(folder / f"{speaker}-{i}.npy", embeddings.astype(np.float32))
                manifest.writerow([f"{speaker}-{i}.npy", f"speaker {speaker}", f"{arousal:.2f}"])


if __name__ == "__main__":
    write_corpus(Path(sys.argv[1]))
