"""Which recordings of the unlabelled pool a run uses."""

from __future__ import annotations

import numpy as np

from emocluster_jax.feed.from_records import pool_prefix


def test_a_smaller_choice_is_part_of_a_larger() -> None:
    small, large = pool_prefix(1_000, 150), pool_prefix(1_000, 400)
    assert len(small) == 150 and len(large) == 400
    assert set(small) < set(large)
    assert (np.diff(large) > 0).all()
    # Spread over the pool, not its beginning: 400 of 1,000 at random hold some 200 of the second half, give or take 50.
    assert 150 < (large >= 500).sum() < 250


def test_all_none_and_more_than_there_are() -> None:
    np.testing.assert_array_equal(pool_prefix(7, None), np.arange(7))
    np.testing.assert_array_equal(pool_prefix(7, 9), np.arange(7))
    assert len(pool_prefix(7, 0)) == 0
