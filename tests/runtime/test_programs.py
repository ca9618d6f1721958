"""Which folder keeps compiled programs, in processes of their own: JAX reads its settings once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

VARIABLES = ("XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR")
COMPILE = """
import jax, jax.numpy as jnp
jnp.ones(3).sum()  # as in a notebook that used JAX before
from emocluster_jax.runtime.programs import keep_programs
keep_programs()
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
print(jax.jit(lambda x: jnp.sin(x) @ x.T)(jnp.ones((8, 8)))[0, 0])
print("hit" if "/jax/compilation_cache/cache_hits" in hits else "miss")
"""
CONFIGURED = """
import sys, jax
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
from emocluster_jax import InputError, load_model
try:
    load_model("none")
except InputError:
    print(jax.config.jax_compilation_cache_dir)
"""


def python(code: str, *arguments: str, **variables: str) -> list[str]:
    """The words that a process prints in which of `VARIABLES` only these are set."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | variables
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.mark.parametrize("variable", VARIABLES)
def test_compiled_programs_are_found_again_by_the_next_process(tmp_path: Path, variable: str) -> None:
    variables = {variable: str(tmp_path)}
    if variable == "JAX_COMPILATION_CACHE_DIR":  # the user's own, where JAX keeps what took a second by default
        variables["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    (value, first), second = (python(COMPILE, **variables) for _ in range(2))
    assert first == "miss" and second == [value, "hit"]
    folder = tmp_path / "emocluster_jax" / "xla" if variable == "XDG_CACHE_HOME" else tmp_path
    assert any(folder.iterdir())


def test_a_cache_that_jax_was_given_stays(tmp_path: Path) -> None:
    given = str(tmp_path / "own")
    assert python(CONFIGURED, given, XDG_CACHE_HOME=str(tmp_path)) == [given]
