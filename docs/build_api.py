"""Writes the API pages as HTML: `python -m docs.build_api FOLDER`. A warning about the pages is an error."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import typing
import warnings
from pathlib import Path
from types import ModuleType

import pdoc

import emocluster_jax
from emocluster_jax.config import ModelConfig
from emocluster_jax.models.network import Network

LEFT_OUT = "emocluster_jax.benchmark"  # nothing to call; parts of it need the libraries that it compares with


def main() -> None:
    (folder,) = sys.argv[1:]
    warnings.filterwarnings("error", module=r"pdoc\b")
    # optax's own type of an optimiser's state names one that it does not import.
    warnings.filterwarnings("ignore", "Error parsing type annotation .*optax.OptState", module=r"pdoc\b")
    # The package imports its names on first use; pdoc looks for those that are there.
    for name in emocluster_jax.__all__:
        setattr(emocluster_jax, name, getattr(emocluster_jax, name))
    # By name: of a package that says what its names are, pdoc takes no other module. It finds the parts' parts itself.
    found = [module.name for module in pkgutil.walk_packages(emocluster_jax.__path__, "emocluster_jax.")]
    names = [name for name in found if not name.startswith(LEFT_OUT)]
    for name in names:
        resolve_types(importlib.import_module(name))
    pdoc.render.configure(docformat="google", footer_text=f"emocluster_jax {emocluster_jax.__version__}")
    pdoc.pdoc("emocluster_jax", *(name for name in names if name.count(".") == 1), output_directory=Path(folder))


def resolve_types(module: ModuleType) -> None:
    """Replaces names of types by the types where pdoc cannot look them up: in named tuples, which keep the names, and
    in networks, which have the fields of a class in another module."""
    for value in vars(module).values():
        if not isinstance(value, type) or value.__module__ != module.__name__:
            continue
        if issubclass(value, tuple):
            value.__new__.__annotations__ = typing.get_type_hints(value)
        elif issubclass(value, Network):
            value.__init__.__annotations__ |= {"config": ModelConfig, "axis_name": str | None}


if __name__ == "__main__":
    main()
