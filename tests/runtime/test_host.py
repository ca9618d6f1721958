"""How much memory there is to have, on a machine and in a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from emocluster_jax.runtime.host import available_bytes


@pytest.mark.parametrize(
    ("limit", "used", "expected"), [("9000", "4000", 6500), ("3000", "9000", 0), ("max", "4000", None)]
)
def test_a_container_leaves_what_its_limit_says(tmp_path: Path, limit: str, used: str, expected: int | None) -> None:
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    (tmp_path / "memory.stat").write_text("anon 2000\nfile 1500\n")
    found = available_bytes(tmp_path)
    # Without a limit it is the machine's memory, of which a test machine has more than these few bytes.
    assert found == expected if expected is not None else found > 1e6


def test_no_container(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) > 1e6
