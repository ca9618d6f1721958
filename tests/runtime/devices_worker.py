"""Prints which arrays a program of `parallel` shared out and which it copied to every device, by numbers of arrays.

Started by test_parallel.py.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import jax
import numpy as np
from jax import Array

from emocluster_jax.runtime import parallel

NUMBERS = 3


def found(donated: int, sharded: int, replicated: int) -> dict[str, bool]:
    """Whether the arrays come back as they should, from a call and from what is compiled ahead."""
    devices, shapes = jax.local_device_count(), []

    def run(*arguments: Any) -> list[Array]:
        leaves = jax.tree.leaves(arguments)
        shapes.append([leaf.shape for leaf in leaves])
        return [2 * leaf for leaf in leaves]

    def arrays(count: int, *shape: int) -> dict[str, np.ndarray]:
        whole = np.arange(count * np.prod(shape, dtype=int), dtype=np.float32).reshape(count, *shape)
        return {f"array {i}": whole[i] for i in range(count)}

    shared = [arrays(count, devices, NUMBERS) for count in (donated, sharded)]
    whole = arrays(replicated, NUMBERS)
    expected = [rows for of in shared for rows in of.values()]
    expected += [np.broadcast_to(row, (devices, NUMBERS)) for row in whole.values()]
    program = parallel.parallel(run)
    lowered = program.lower(*shared, whole)
    results = program(*jax.tree.map(parallel.deal, shared), whole)
    return {
        "shapes": all(shape == [(NUMBERS,)] * len(expected) for shape in shapes),
        "values": all(map(np.array_equal, results, (2 * rows for rows in expected))),
        "lowered": [info.shape for info in lowered.out_info] == [(devices, NUMBERS)] * len(expected),
    }


def main() -> None:
    # Without an array that is shared out there would be nothing to map over.
    counts = [counts for counts in itertools.product(range(4), repeat=3) if sum(counts[:2]) and 2 <= sum(counts) <= 4]
    results = {" ".join(map(str, of_each)): found(*of_each) for of_each in counts}
    print(json.dumps({"devices": jax.local_device_count(), "results": results}))


if __name__ == "__main__":
    main()
