"""What all tests share: the CPU as JAX's device, shapes checked at every call, and the data they compare with."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

from compile_flags import COMPILE_SOONER

PROJECT = Path(__file__).resolve().parent.parent

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# What XLA spends on fast code would be most of the tests' time, and small arrays have no use for it; see `optimized`.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("XLA_FLAGS", COMPILE_SOONER)
# Tests compile the same small programs again and again, in this process and in those that they start.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(PROJECT / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Scores of processes import JAX: where they may not leave bytecode beside the sources, each would compile these again,
# which takes longer than the rest of the import.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    os.environ["PYTHONPYCACHEPREFIX"] = str(PROJECT / ".pytest_cache" / "bytecode")

# Few examples and always the same, unless the command says `--hypothesis-profile fuzz` (see CONTRIBUTING.md).
settings.register_profile("few", max_examples=40, deadline=None, derandomize=True)
settings.register_profile("fuzz", max_examples=5_000, deadline=None, derandomize=False, print_blob=True)
settings.load_profile("few")

# Every annotated array of the project is checked while the tests run. The hook must stand before the first import.
install_import_hook("emocluster_jax", "type_checks.check")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, help="so many kills at drawn instants in each test of tests/reliability")
    parser.addoption("--all-recordings", action="store_true", help="compare all of EmoTale with the published models")


FIRST = (
    "reliability/test_killed.py",
    "launch/test_several_processes.py",
    "training/test_devices.py",
    "objectives/test_systems.py",
    "training/test_degenerate.py",
    "interop/test_published.py",
    "training/test_loop.py",
    "launch/test_experiment.py",
    "feed/test_streamed.py",
    "training/test_reference_steps.py",
    "benchmark/test_suites.py",
    "reliability/test_disks.py",
    "training/test_lowering.py",
    "launch/test_train.py",
    "launch/test_own_features.py",
    "launch/test_front_ends.py",
    "preprocessing/test_front_ends.py",
    "api/test_python_page.py",
    "api/test_notebook.py",
    "test_documentation.py",
    "reporting/html/test_run_page.py",
    "test_corruption.py",
    "launch/test_folds.py",
    "launch/test_further_inputs.py",
)
"""The modules that take longest: begun last, one of them would keep one worker busy long after all others."""


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # pytest-xdist would begin with the modules of most tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {PROJECT / "tests" / name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(FIRST)))


def _data_folder(variable: str, default: str) -> Path:
    folder = Path(os.environ.get(variable) or PROJECT / default)
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}; set {variable} to where it is")
    return folder


@pytest.fixture(scope="module")
def optimized() -> Iterator[None]:
    """XLA's optimisations, for modules that compute much, or compare different programs to the bit."""
    import jax

    jax.clear_caches()  # of programs without them
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
    jax.clear_caches()


@pytest.fixture(scope="module", autouse=True)
def freed_programs() -> Iterator[None]:
    """Modules use what others compiled, up to a third of the memory maps that a process may have."""
    yield
    maps = Path("/proc/self/maps")
    if (jax := sys.modules.get("jax")) and maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


@pytest.fixture(scope="session")
def reference() -> Path:
    """The published models and the numbers computed with their authors' implementation."""
    return _data_folder("EMOCLUSTER_REFERENCE", "../shared/reference/deepemocluster")


@pytest.fixture(scope="session")
def emotale() -> Path:
    """EmoTale: real Danish and English speech with ratings of arousal, dominance and valence."""
    return _data_folder("EMOCLUSTER_EMOTALE", "../shared/data/emotale")


@pytest.fixture(scope="session")
def field() -> Path:
    """Small recordings in the forms that people have them in: piped, chained, of phones, inside other containers."""
    return _data_folder("EMOCLUSTER_FIELD", "../shared/data/field")
