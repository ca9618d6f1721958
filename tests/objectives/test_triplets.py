"""Which chunks of a recording the triplet loss compares."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from emocluster_jax.objectives.emocluster_triplet import DRAWS, draw_triplets


def shares_by_definition(chunks: int) -> np.ndarray:
    """How likely each (anchor, positive, negative) is: anchors that have a negative alike, and their partners alike."""
    shares = np.zeros((chunks, chunks, chunks))
    anchors = [a for a in range(chunks) if any(abs(a - n) > 2 for n in range(chunks))]
    for a in anchors:
        near = [p for p in range(chunks) if 1 <= abs(a - p) <= 2]
        far = [n for n in range(chunks) if abs(a - n) > 2]
        for p in near:
            for n in far:
                shares[a, p, n] = 1 / (len(anchors) * len(near) * len(far))
    return shares


@pytest.mark.parametrize("chunks", [4, 5, 11])
def test_triplets_are_drawn_as_defined(chunks: int) -> None:
    keys = jax.random.split(jax.random.key(0), 5_000)
    drawn = np.asarray(jax.vmap(lambda key: draw_triplets(key, chunks))(keys)).reshape(-1, 3)
    assert len(drawn) == 5_000 * DRAWS
    found = np.zeros((chunks,) * 3)
    np.add.at(found, tuple(drawn.T), 1 / len(drawn))
    expected = shares_by_definition(chunks)
    assert expected.sum() == pytest.approx(1) and not found[expected == 0].any()
    # Of hundreds of shares, none is five standard deviations off.
    assert (np.abs(found - expected) <= 5 * np.sqrt(expected / len(drawn))).all()
