"""What all tests share: the CPU as JAX's device, shapes checked at every call, and the data they compare with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

PROJECT = Path(__file__).resolve().parent.parent

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile the same small programs again and again, in this process and in those that they start.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(PROJECT / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

# Few examples and always the same, unless the command says `--hypothesis-profile fuzz` (see CONTRIBUTING.md).
settings.register_profile("few", max_examples=40, deadline=None, derandomize=True)
settings.register_profile("fuzz", max_examples=5_000, deadline=None, derandomize=False, print_blob=True)
settings.load_profile("few")

# Every annotated array of the project is checked while the tests run. The hook must stand before the first import.
install_import_hook("emocluster_jax", "type_checks.check")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, help="so many kills at drawn instants in each test of tests/reliability")


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
