"""What all tests share: the CPU as JAX's device, shapes checked at every call, and the data they compare with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Every annotated array of the project is checked while the tests run. The hook must stand before the first import.
install_import_hook("emocluster_jax", "type_checks.check")

PROJECT = Path(__file__).resolve().parent.parent


def _data_folder(variable: str, default: str) -> Path:
    folder = Path(os.environ.get(variable) or PROJECT / default)
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}; set {variable} to where it is")
    return folder


@pytest.fixture(scope="session")
def reference() -> Path:
    """The published models and the numbers computed with their authors' implementation."""
    return _data_folder("EMOCLUSTER_REFERENCE", "../shared/reference/deepemocluster")


@pytest.fixture(scope="session")
def emotale() -> Path:
    """EmoTale: real Danish and English speech with ratings of arousal, dominance and valence."""
    return _data_folder("EMOCLUSTER_EMOTALE", "../shared/data/emotale")
