"""The checker that the tests put around every function of the project (see conftest.py)."""

from __future__ import annotations

from functools import partial

from beartype import BeartypeConf, beartype

# An int is a float here as it is for every static checker (PEP 484).
check = partial(beartype, conf=BeartypeConf(is_pep484_tower=True))
