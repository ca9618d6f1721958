"""Who may import whom, as CONTRIBUTING.md lists it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
LAYERS = (
    "errors",
    "ranges",
    "settings",
    "config",
    "console",
    "storage",
    "runtime",
    "corpora",
    "preprocessing",
    "records",
    "feed",
    "models",
    "clustering",
    "objectives",
    "inference",
    "evaluation",
    "training",
    "reporting",
    "experiment",
    "interop",
    "benchmark",
    "api",
    "launch",
)
"""Modules and packages, each of which may import those before it and itself."""


def layer(module: str) -> str | None:
    """The layer of a module of the project; None for `emocluster_jax` itself, which imports when it is asked."""
    parts = module.split(".")
    return "launch" if parts[0] == "launch" else parts[1] if len(parts) > 1 else None


def imports(path: Path) -> list[str]:
    """The project's modules that a file imports, wherever in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = [f"{node.module}.{alias.name}" for alias in node.names if node.module == "emocluster_jax"]
            found += inside or [node.module]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return [name for name in found if name.split(".")[0] in ("emocluster_jax", "launch")]


def test_imports_run_down_the_list() -> None:
    upwards = []
    for path in sorted([*PROJECT.glob("emocluster_jax/**/*.py"), *PROJECT.glob("launch/**/*.py")]):
        own = layer(".".join(path.relative_to(PROJECT).with_suffix("").parts))
        for module in imports(path):
            other = layer(module)
            known = own != "__init__" and other not in (None, "__version__")
            if known and LAYERS.index(other) > LAYERS.index(own):
                upwards.append(f"{path.relative_to(PROJECT)} imports {module}")
    assert not upwards


def test_every_package_has_its_place() -> None:
    packages = {path.stem for path in (PROJECT / "emocluster_jax").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert packages - {"__init__", "__pycache__", "py.typed"} | {"launch"} >= set(LAYERS)
    assert {name for name in packages if not name.startswith("__") and name != "py"} == set(LAYERS) - {"launch"}


def test_the_page_lists_the_same() -> None:
    page = (PROJECT / "CONTRIBUTING.md").read_text("utf-8")
    section = page.split("## Who may import whom\n")[1].split("\n## ")[0]
    assert tuple(re.findall(r"^\d+\. `(\w+)`", section, re.MULTILINE)) == LAYERS
