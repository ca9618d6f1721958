from __future__ import annotations

import time

import pytest

from emocluster_jax.runtime.loops import in_segments


@pytest.mark.parametrize(("total", "together", "longest"), [(50, 1, None), (50, 4, None), (3, 4, None), (50, 4, 2)])
@pytest.mark.parametrize("seconds", [0.0, 0.02])
def test_ranges_follow_one_another_and_have_multiples_of_what_is_done_together(
    total: int, together: int, longest: int | None, seconds: float
) -> None:
    ranges: list[tuple[int, int]] = []

    def run(first: int, last: int) -> None:
        time.sleep(seconds)
        ranges.append((first, last))

    assert in_segments(total, run, longest=longest, together=together) == total
    assert [first for first, _ in ranges] == [0, *(last for _, last in ranges[:-1])]
    assert all((last - first) % together == 0 for first, last in ranges[:-1])
    assert ranges[0][1] == min(together, total) and ranges[-1][1] == total
    if longest is not None:
        assert all(last - first <= max(longest, together) for first, last in ranges)
