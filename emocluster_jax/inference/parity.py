"""Whether another program computes what a model computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Shaped

TOLERANCE = 1e-4
"""Relative to an output's largest number, or absolute if that is below 1. Other programs add the same float32 products
in another order, which makes about 1e-6 on CPUs, and ten times more with GPUs' fast convolutions. A wrong layer makes
far more."""


class ParityError(Exception):
    """Another program computes something else than the model: a defect. Its results must not be used."""


def check_parity(
    what: str, outputs: Mapping[str, Any], expected: Mapping[str, Shaped[np.ndarray, "n ..."]]
) -> dict[str, float]:
    """The largest difference of each output of a program, which `what` names, from the model's.

    Numbers that are NaN in both are equal.

    Raises:
      ParityError: an output is missing, of another shape, or differs by more than `TOLERANCE`; integers must be equal.
    """
    found, wanted = ({name: value.shape for name, value in values.items()} for values in (outputs, expected))
    if found != wanted:
        raise ParityError(f"{what}: the outputs are {found}, the model's {wanted}")
    differences = {}
    for name, own in expected.items():
        apart = np.abs(np.asarray(outputs[name], np.float64) - own)
        difference = float(np.where(np.isnan(own) & np.isnan(outputs[name]), 0, apart).max())
        exact = np.issubdtype(own.dtype, np.integer)
        allowed = 0.0 if exact else TOLERANCE * max(1.0, float(np.nanmax(np.abs(own), initial=0)))
        if not difference <= allowed:
            raise ParityError(f"{what}: {name} differ from the model's by {difference:.3g}, allowed are {allowed:.3g}")
        differences[name] = difference
    return differences
