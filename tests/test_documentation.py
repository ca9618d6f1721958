"""What the documentation says: its examples run, its links lead somewhere, its commands have the options given."""

from __future__ import annotations

import ast
import csv
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from emocluster_jax.config import SPLITS, FeatureConfig, ModelConfig
from emocluster_jax.models.network import example_inputs
from emocluster_jax.models.registry import network_of
from emocluster_jax.records.preparation import read_preparation
from launch import train
from launch.options import as_options, option_names
from small_models import noise, write_recording

PROJECT = Path(__file__).resolve().parents[1]
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")])
EXAMPLES = PROJECT / "docs" / "examples"


def code_blocks(page: str, language: str) -> list[str]:
    """Those of a page in docs/ that name this language."""
    text = (PROJECT / "docs" / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", ["my_corpus", "pi_network", "pi_objective", "past_mean", "late_fusion"])
def test_the_page_shows_the_example_which_has_less_than_50_lines(name: str) -> None:
    example = (EXAMPLES / f"{name}.py").read_text("utf-8")
    assert example in code_blocks("extending.md", "python")
    assert len(example.splitlines()) < 50


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with both examples: a file and a line for each, as docs/extending.md says."""
    folder = tmp_path_factory.mktemp("extended")
    for package in ("emocluster_jax", "launch"):
        shutil.copytree(PROJECT / package, folder / package)
    page = (PROJECT / "docs" / "extending.md").read_text("utf-8")
    for example, new in (
        ("my_corpus", "corpora/my_corpus"),
        ("pi_network", "models/pi_model"),
        ("pi_objective", "objectives/pi_model"),
        ("past_mean", "models/past_mean"),
        ("late_fusion", "models/late_fusion"),
    ):
        shutil.copy(EXAMPLES / f"{example}.py", folder / "emocluster_jax" / f"{new}.py")
    for file, name in (
        ("emocluster_jax/corpora/registry.py", "my_corpus"),
        ("emocluster_jax/config.py", "pi_model"),
        ("emocluster_jax/config.py", "past_mean"),
        ("emocluster_jax/config.py", "late_fusion"),
    ):
        (new,) = re.findall(rf'^\w+ = Literal\[.*"{name}"\]$', page, re.MULTILINE)
        old = new.removesuffix(f', "{name}"]')
        assert (PROJECT / file).read_text("utf-8").count(f"{old}]\n") == 1
        text = (folder / file).read_text("utf-8")
        (folder / file).write_text(text.replace(old, f'{old}, "{name}"'), "utf-8")  # others may follow
    (metrics,) = re.findall(r"^ +return .*weight_norm.*$", page, re.MULTILINE)
    steps = folder / "emocluster_jax" / "training" / "steps.py"
    text, count = re.subn(r"^ +return .*gradient_norm.*$", metrics, steps.read_text("utf-8"), flags=re.MULTILINE)
    assert count == 1
    steps.write_text(text, "utf-8")
    return folder


def write_my_corpus(folder: Path) -> None:
    """Clips of four persons, of a second and a half each."""
    (folder / "wav").mkdir(parents=True)
    with (folder / "experts.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["clip", "person", "activation", "valence"])
        for i in range(12):
            write_recording(folder / "wav" / f"{i}.wav", noise(1.5, seed=i))
            rows.writerow([i, f"p{i % 4}", 1 + i % 9, 9 - i % 9])


@pytest.fixture(scope="module")
def ended(extended: Path) -> dict[str, int]:
    """How what is done with the examples ended: exit statuses by name."""
    write_my_corpus(extended / "corpus")
    tests = PROJECT / "tests"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (extended, tests, tests / "models")))}
    command = [sys.executable, str(tests / "launch" / "extended_worker.py"), str(extended)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_examples_run_where_they_were_registered(extended: Path, ended: dict[str, int]) -> None:
    assert ended["commands"] == 0, (extended / "commands.out.err").read_text()
    preparation = read_preparation(extended / "data")
    assert preparation.corpus == "my_corpus" and sum(preparation.counts.values()) == 12
    assert set(preparation.counts) == set(SPLITS) - {"unlabeled"}
    assert preparation.labels == ("arousal", "valence") and np.isfinite(preparation.label_statistics.mean).all()

    (epoch,) = map(json.loads, (extended / "run" / "metrics.jsonl").read_text().splitlines())
    # Dropout of one half: without it, or with one mask for both passes, they would agree.
    assert epoch["stage2_disagreement"] > 0 and epoch["steps"]["stage2"]["weight_norm"] > 0
    assert (extended / "run" / "model" / "model.json").exists()


def test_a_temporal_network_sees_whole_recordings_with_their_chunks_in_order(
    extended: Path, ended: dict[str, int]
) -> None:
    assert ended["temporal"] == 0, (extended / "temporal.out.err").read_text()


def test_a_system_reads_a_second_input(extended: Path, ended: dict[str, int]) -> None:
    assert ended["late_fusion"] == 0, (extended / "late_fusion.out.err").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def anchors(page: Path) -> set[str]:
    """Of the page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_options_that_are_given(page: Path) -> None:
    for command, arguments in commands(page):
        known = {"help", *option_names(importlib.import_module(f"launch.{command}").Options)}
        if command == "experiment":  # hands the others on
            known |= set(option_names(train.Options))
        unknown = set(re.findall(r"(?<!\S)--([a-z][a-z0-9-]*)", arguments)) - known
        assert not unknown, f"launch.{command} {arguments}"


def commands(page: Path) -> Iterator[tuple[str, str]]:
    """Every `python -m launch.COMMAND` of the page, in blocks and in lines, with what follows it."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    yield from re.findall(r"python -m launch\.(\w+)([^`\n|#;&]*)", text)


def test_the_network_has_the_parameters_that_the_method_says() -> None:
    inputs = example_inputs(FeatureConfig())
    shapes = jax.eval_shape(network_of(ModelConfig()).init, jax.random.key(0), inputs)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    page = (PROJECT / "docs" / "method.md").read_text("utf-8")
    assert f"these are {count:,} parameters" in " ".join(page.split())


def messages() -> list[str]:
    """Of docs/troubleshooting.md, with `...` for what varies."""
    return [line for block in code_blocks("troubleshooting.md", "text") for line in block.splitlines()]


def texts() -> Iterator[str]:
    """Every string of the program as commands print it, with `...` for what is put into it."""
    for path in (path for package in ("emocluster_jax", "launch") for path in (PROJECT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                whole = "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
                whole = re.sub(r"\.{4,}", "...", whole).replace("`...=...`", "--... ...")  # a setting that varies
                yield as_options(whole)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield as_options(node.value)


def test_the_messages_to_look_for_are_those_that_the_program_has() -> None:
    everything = "\n".join(texts())
    missing = [message for message in messages() if message not in everything]
    assert messages() and not missing
