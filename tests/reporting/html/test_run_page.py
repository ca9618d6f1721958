"""The page of a run: what it holds and leaves out, that nothing gets out of its place, and how a browser takes it."""

from __future__ import annotations

import configparser
import itertools
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from emocluster_jax.config import AudioConfig, FeatureConfig, ModelConfig, TrainConfig
from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.run_results import write_clusters
from emocluster_jax.inference.model_directory import read_model, save_model
from emocluster_jax.records.preparation import read_preparation
from emocluster_jax.records.writer import prepare
from emocluster_jax.reporting.html.run_files import read_run_files
from emocluster_jax.storage.json_files import sealed
from emocluster_jax.training.workdir import claim, read_run
from hostile_corpus import HOSTILE_ID, HOSTILE_SPEAKER, SIZES, write_hostile_corpus
from launch import report
from launch.command import run as run_command
from running import call
from small_models import small_model

DEADLINE_S = 30
MAP = "document.querySelector('[data-figure=embedding-map-data]')"
PROJECT = Path(__file__).resolve().parents[3]


class Elements(HTMLParser):
    """The elements of a page in the order of their start tags, each with its attributes and the text directly in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.found:
            tag, attributes, text = self.found[-1]
            self.found[-1] = (tag, attributes, text + data)

    def with_tag(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, text) for name, attributes, text in self.found if name == tag]


@pytest.fixture(scope="module")
def elements(page: Path) -> Elements:
    return Elements(page)


def test_recordings_are_decoded_as_they_were_prepared(run: Path, page: Path, elements: Elements) -> None:
    """With other settings their channels cancel, and there is neither a picture nor a sound."""
    assert read_model(run / "model").audio == AudioConfig(channel=1)
    text = page.read_text("utf-8")
    assert "channels cancel" not in text and "cannot be drawn" not in text
    assert len(elements.with_tag("audio")) == sum(SIZES.values())
    assert re.search(r"channel</t[hd]>\s*<td[^>]*>1</td>", text)


def figures(elements: Elements) -> dict[str, dict]:
    """The figures' JSON by the id of its element."""
    scripts = elements.with_tag("script")
    return {a["id"] or "": json.loads(text) for a, text in scripts if a.get("type") == "application/json"}


def test_the_page_needs_nothing_from_elsewhere(page: Path, elements: Elements) -> None:
    assert page.stat().st_size < 15e6
    for _, attributes, _ in elements.found:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    policy = next(a["content"] for a, _ in elements.with_tag("meta") if a.get("http-equiv"))
    assert policy is not None and policy.startswith("default-src 'none'; script-src 'sha256-")


def test_no_name_leaves_its_place(elements: Elements) -> None:
    scripts = elements.with_tag("script")
    # Plotly and the page's own; the others are figures, which the browser does not run.
    assert len([1 for attributes, _ in scripts if "type" not in attributes]) == 2
    assert not any(name.startswith("on") for _, attributes, _ in elements.found for name in attributes)
    players = [attributes["aria-label"] for attributes, _ in elements.with_tag("audio")]
    names = [text.strip() for attributes, text in elements.with_tag("div") if attributes.get("class") == "id"]
    assert HOSTILE_ID in players and HOSTILE_ID in names
    points = [trace for trace in figures(elements)["embedding-map-data"]["data"] if "text" in trace]
    hovers = [text for trace in points for text in trace["text"]]
    # Plotly reads tags: those of names are entities by now.
    assert any("a&lt;script&gt;window.hacked" in text for text in hovers)
    assert not any("<script" in text or "<img" in text or "\n" in text for text in hovers)
    assert any("speaker &lt;/script&gt;&lt;img" in text for text in hovers)
    assert HOSTILE_SPEAKER not in {trace["name"] for trace in points}


def test_the_page_shows_what_the_run_wrote(run: Path, page: Path, elements: Elements) -> None:
    drawn = figures(elements)
    assert set(drawn) == {
        f"{name}-data"
        for name in (
            *("predictions-arousal", "predictions-valence", "losses", "validation", "steps"),
            *("cluster-changes", "cluster-sizes-0"),
            *("clusters-arousal", "extremes-arousal", "clusters-valence", "extremes-valence", "embedding-map"),
        )
    }
    sections = [attributes["id"] for attributes, _ in elements.with_tag("section")]
    assert sections == ["scores", "run", "training", "information", "distributions", "map", "listening", "cutting"]
    text = page.read_text("utf-8")
    known = json.loads((run / "clusters.json").read_text())
    assert f"{known['attributes']['arousal']['ami_of_sentences']:.3f}".lstrip("-") in text
    by_cluster = [trace for trace in drawn["embedding-map-data"]["data"] if trace["name"].startswith("cluster ")]
    assert sum(len(trace["text"]) for trace in by_cluster) == sum(SIZES.values())
    # A training recording of 0.35 s, two of fourteen being shorter, and the longest, of 2.15 s; four chunks each.
    pictures = [a for a, _ in elements.with_tag("img") if (a["src"] or "").startswith("data:image/png")]
    assert len(pictures) == 2 * 4 and len(elements.with_tag("image")) == 2


def test_what_another_run_knows_stands_beside(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy of the run, whose clusters know something else of arousal and nothing of valence."""
    other = tmp_path / "without"
    shutil.copytree(run, other, ignore=shutil.ignore_patterns("checkpoints", "model", "report.html"))
    output = tmp_path / "page.html"
    beside = "--workdir", str(run), "--beside", str(other), "--output", str(output)
    with pytest.raises(InputError, match=r"--beside .*without is the run itself; give another one"):
        call(report, *beside)
    own = read_run(run).id
    metrics = other / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace(own, "another"))
    values = json.loads((other / "run.json").read_text()) | {"id": "another", "data": "other data"}
    (other / "run.json").write_text(json.dumps(sealed({name: values[name] for name in values if name != "sha256"})))
    information = read_run_files(run).information
    assert information is not None
    arousal = replace(information.attributes["arousal"], ami_of_sentences=0.4321)
    saved = read_run(other)
    epoch = json.loads((run / "clusters.json").read_text())["epoch"]
    known = replace(information, attributes={"arousal": arousal})
    write_clusters(other / "clusters.json", saved.id, epoch, known)
    call(report, *beside)
    text = output.read_text()
    assert "without, which was trained on other data" in text and text.count("0.432") == 1
    assert "was trained on other data: what its clusters know is of other recordings" in capsys.readouterr().err
    (other / "clusters.json").unlink()
    with pytest.raises(
        InputError, match=r"--beside .*without has nothing on clusters \(clusters.json\); give a run that"
    ):
        call(report, *beside)


def test_a_cluster_has_one_colour_and_clusters_are_heard_from_the_lowest_mean(elements: Elements) -> None:
    drawn = figures(elements)
    on_map = {
        trace["name"]: trace["marker"]["color"]
        for trace in drawn["embedding-map-data"]["data"]
        if trace["name"].startswith("cluster ")
    }
    boxes = [(f"cluster {trace['x'][0]}", trace["line"]["color"]) for trace in drawn["clusters-arousal-data"]["data"]]
    assert len(boxes) > 1 and all(on_map.get(name, colour) == colour for name, colour in boxes)
    parts = [(name, attributes, text) for name, attributes, text in elements.found if name in ("h3", "span", "p")]
    heard = [
        (colour["style"], float(told.group(1)))
        for (_, colour, _), (_, _, text) in itertools.pairwise(parts)
        if colour.get("class") == "colour" and (told := re.search(r"mean arousal ([\d.]+)", text))
    ]
    assert len(heard) > 1 and [mean for _, mean in heard] == sorted(mean for _, mean in heard)
    assert {colour for colour, _ in heard} <= {f"background: {colour}" for colour in on_map.values()}


def test_no_legend_has_a_colour_twice_and_no_figure_is_empty(elements: Elements) -> None:
    for name, figure in figures(elements).items():
        shown = [trace for trace in figure["data"] if trace.get("visible", True)]
        in_legend = [trace for trace in shown if trace.get("showlegend")]
        colours = [str((trace.get("line") or trace["marker"])["color"]) for trace in in_legend]
        assert shown and len(set(colours)) == len(colours), name


def test_the_same_run_gives_the_same_page(run: Path, page: Path, data_dir: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.html"
    options = ["--workdir", run, "--data-dir", data_dir, "--clips", sum(SIZES.values()), "--output", again]
    call(report, *map(str, options), "--quiet")
    assert again.read_bytes() == page.read_bytes()


def test_recordings_that_have_gone(
    run: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "page.html"
    options = ["--workdir", run, "--data-dir", data_dir, "--audio", tmp_path, "--output", output, "--recordings", "9"]
    call(report, *map(str, options), "--quiet")
    text = output.read_text("utf-8")
    assert "None of these recordings can be played: no such file (looked for " in text and "<audio" not in text
    assert f" in {tmp_path}; give the report the folder that they are in)." in text
    assert capsys.readouterr().err.startswith("warning: none of these recordings can be played: no such file")
    assert "no longer there" in text and f"9 of the {sum(SIZES.values())} labelled recordings" in text


def test_ids_that_lead_out_of_the_recordings_folder(tmp_path: Path) -> None:
    """Records come from strangers, too; their files' places are ids."""
    for name in ("mine", "theirs", "run"):
        (tmp_path / name).mkdir()
    utterances = [replace(u, id=f"../mine/{u.id}") for u in write_hostile_corpus(tmp_path / "mine")]
    features = FeatureConfig(mel_bands=32, chunk_frames=16, chunks_per_utterance=4)
    console = Console(quiet=True)
    preparation = prepare(utterances, tmp_path / "data", features, "theirs", str(tmp_path / "theirs"), 1, console)
    model = small_model(features=features)
    config = TrainConfig(model=model.config)
    claim(tmp_path / "run", config, preparation.fingerprint, resume=False)
    save_model(tmp_path / "run" / "model", replace(model, origin={"run": read_run(tmp_path / "run").id}))
    call(report, "--workdir", str(tmp_path / "run"), "--data-dir", str(tmp_path / "data"), "--quiet")
    text = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "can be played: its id leads out of the folder of the recordings" in text and "<audio" not in text
    assert "no longer there" in text and "<image" not in text


def test_a_system_without_clusters(data_dir: Path, tmp_path: Path) -> None:
    preparation = read_preparation(data_dir)
    model = small_model(system="cnn_regressor", features=preparation.features)
    config = TrainConfig(model=ModelConfig(system="cnn_regressor", attributes=model.config.attributes))
    claim(tmp_path, config, preparation.fingerprint, resume=False)
    save_model(tmp_path / "model", replace(model, origin={"run": read_run(tmp_path).id}))
    call(report, "--workdir", str(tmp_path), "--data-dir", str(data_dir), "--quiet")
    elements = Elements(tmp_path / "report.html")
    assert {attributes["id"] for attributes, _ in elements.with_tag("section")} == {"run", "map", "cutting"}
    drawn = figures(elements)["embedding-map-data"]["data"]
    assert sum(len(trace["text"]) for trace in drawn if trace["visible"]) == sum(SIZES.values())
    settings = {text for _, text in elements.with_tag("th")}
    assert "model" in settings and "clusters" not in settings


def test_a_run_without_clusters_and_data(run: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(run, bare, ignore=shutil.ignore_patterns("model", "clusters.json", "assignments", "test*"))
    metrics = [json.loads(line) for line in (bare / "metrics.jsonl").read_text().splitlines()]
    for epoch in metrics:
        for name in ("cluster_sizes", "nmi_previous", "stage2_cross_entropy"):
            del epoch[name]
        epoch["stage2_reconstruction"] = 1.5
    (bare / "metrics.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in metrics))
    call(report, "--workdir", str(bare), "--quiet")
    elements = Elements(bare / "report.html")
    assert {attributes["id"] for attributes, _ in elements.with_tag("section")} == {"run", "training"}
    assert "cluster-changes-data" not in figures(elements)
    curves = figures(elements)["losses-data"]["data"]
    assert "stage II reconstruction" in {trace["name"] for trace in curves}
    (bare / "metrics.jsonl").unlink()
    call(report, "--workdir", str(bare), "--quiet")
    assert "no epoch has ended yet" in (bare / "report.html").read_text("utf-8")


def test_tests_say_how_many_sentences_they_rest_on_if_it_is_not_all(run: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(run, bare, ignore=shutil.ignore_patterns("model", "assignments", "test*"))
    clusters = json.loads((bare / "clusters.json").read_text())
    clusters["attributes"]["arousal"] |= {"p_value_within_speakers": 0.25, "sentences_within_speakers": 7}
    # Earlier versions did not count them.
    del clusters["attributes"]["valence"]["permuted_sentences"]
    del clusters["attributes"]["valence"]["sentences_within_speakers"]
    (bare / "clusters.json").write_text(json.dumps(sealed(clusters)))
    call(report, "--workdir", str(bare), "--quiet")
    cells = [text.strip() for _, text in Elements(bare / "report.html").with_tag("td")]
    assert "0.250 (7)" in cells and cells.count("sentences") >= 2


def test_what_an_earlier_end_left_is_not_shown(run: Path, tmp_path: Path) -> None:
    """A run that goes on: without its scores, and with another best epoch."""
    longer = tmp_path / "longer"
    shutil.copytree(run, longer, ignore=shutil.ignore_patterns("model", "test.json"))
    last = json.loads((longer / "metrics.jsonl").read_text().splitlines()[-1])
    with (longer / "metrics.jsonl").open("a") as metrics:
        metrics.write(json.dumps(last | {"epoch": 3, "best_epoch": 3}) + "\n")
    call(report, "--workdir", str(longer), "--quiet")
    sections = {attributes["id"] for attributes, _ in Elements(longer / "report.html").with_tag("section")}
    assert sections == {"run", "training"}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a refused command prints; its exit status must be 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        run_command(lambda: call(report, *arguments))
    lines = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and len(lines) == 1, lines
    return lines[0]


def test_refusals(run: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workdir = ["--workdir", str(run)]
    assert "holds no run" in refused(capsys, "--workdir", str(tmp_path))
    assert "no does not exist; give that of a training" in refused(capsys, "--workdir", str(tmp_path / "no"))
    assert "is a folder" in refused(capsys, *workdir, "--output", str(tmp_path))
    assert "there is no folder" in refused(capsys, *workdir, "--output", str(tmp_path / "no" / "page.html"))
    assert "--audio is given without --data-dir" in refused(capsys, *workdir, "--audio", str(tmp_path))
    missing = ["--data-dir", str(data_dir), "--audio", str(tmp_path / "no")]
    assert "no is not a folder" in refused(capsys, *workdir, *missing)
    assert "--clips is -1" in refused(capsys, *workdir, "--clips", "-1")
    other = tmp_path / "other"
    shutil.copytree(data_dir, other)
    preparation = json.loads((other / "preparation.json").read_text())
    (other / "preparation.json").write_text(json.dumps(sealed(preparation | {"request": "another"})))
    assert "was trained on other data" in refused(capsys, *workdir, "--data-dir", str(other))
    broken = tmp_path / "broken"
    shutil.copytree(run, broken, ignore=shutil.ignore_patterns("model"))
    (broken / "run.json").write_text("{}")
    assert "run.json is of format version None" in refused(capsys, "--workdir", str(broken))


def test_a_missing_extra_is_named(run: Path) -> None:
    code = "import sys; sys.modules['plotly'] = None\nfrom launch import command, report\ncommand.run(report.main)"
    command = [sys.executable, "-c", code, "--workdir", str(run)]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert result.stderr == (
        'error: the report needs plotly, which is not installed: pip install "emocluster_jax[report]"\n'
    )


def test_wheels_hold_the_templates() -> None:
    setup = configparser.ConfigParser()
    setup.read(PROJECT / "setup.cfg")
    patterns = setup["options.package_data"]["emocluster_jax"].replace(",", " ").split()
    package = PROJECT / "emocluster_jax"
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    assert set((package / "reporting" / "html" / "templates").iterdir()) <= packed


def eventually(condition: Callable[[], Any]) -> Any:
    """What the condition gives as soon as it is true."""
    deadline = time.monotonic() + DEADLINE_S
    while not (result := condition()):
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.05)
    return result


@pytest.fixture(scope="module")
def opened(browser: Callable[[Path], Any], page: Path) -> Any:
    """The page, when its figures are drawn and all that it wrote to the console."""
    return browser(page)


def test_it_loads_without_an_error_and_draws_every_figure(opened: Any) -> None:
    figures = opened.execute_script("return document.querySelectorAll('[data-figure]').length")
    assert figures == 12
    eventually(lambda: opened.execute_script("return document.querySelectorAll('.main-svg').length >= 12"))
    # Errors of scripts, resources that the security policy keeps out, deprecations: nothing at all.
    assert opened.get_log("browser") == []
    assert opened.execute_script("return window.hacked") is None


def test_it_fits_a_phone(opened: Any) -> None:
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        # Figures follow the width, each alone in its row.
        fits = """return document.documentElement.scrollWidth <= 390 && [...document.querySelectorAll("[data-figure]")]
          .every((place) => place.querySelector(".main-svg").getBoundingClientRect().width <= 370)"""
        eventually(lambda: opened.execute_script(fits))
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_no_button_sends_a_figure_away(opened: Any) -> None:
    buttons = "return [...document.querySelectorAll('.modebar-btn')].map((button) => button.dataset.title)"
    titles = eventually(lambda: opened.execute_script(buttons))
    # Plotly's own default has "Share chart...", which hands the data to its maker's site.
    assert "Zoom in" in titles and not any(word in title for title in titles for word in ("Share", "Edit", "loud"))


def test_the_map_shows_every_recording_by_cluster_and_by_attribute(opened: Any) -> None:
    points = f"return {MAP}.querySelectorAll('.scatterlayer .point').length"
    # Recordings, and the centroids of three clusters.
    eventually(lambda: opened.execute_script(points) == sum(SIZES.values()) + 3)
    buttons = {button.text: button for button in opened.find_elements("css selector", ".choices button")}
    assert list(buttons) == ["cluster", "arousal", "valence", "split", "gender", "speaker"]
    opened.execute_script("arguments[0].click()", buttons["arousal"])
    eventually(lambda: opened.execute_script(points) == sum(SIZES.values()))
    assert buttons["arousal"].get_attribute("aria-pressed") == "true"
    assert buttons["cluster"].get_attribute("aria-pressed") == "false"


def test_a_hostile_name_is_text_where_it_is_pointed_at(opened: Any) -> None:
    opened.execute_script(
        f"""const map = {MAP};
        const curve = map.data.findIndex((trace) => trace.name === "rated arousal");
        const point = map.data[curve].text.findIndex((text) => text.includes("window.hacked"));
        Plotly.Fx.hover(map, [{{ curveNumber: curve, pointNumber: point }}]);"""
    )
    hover = f"const label = {MAP}.querySelector('.hoverlayer'); return label && label.textContent"
    shown = eventually(lambda: opened.execute_script(hover))
    # Line breaks become blanks, and blanks in SVG are non-breaking.
    assert HOSTILE_ID.replace("\n", " ") in shown.replace("\N{NO-BREAK SPACE}", " ")
    assert opened.execute_script("return window.hacked") is None


def test_every_clip_has_a_duration(opened: Any) -> None:
    durations = "return [...document.querySelectorAll('audio')].map((clip) => clip.duration)"
    found = eventually(lambda: (d := opened.execute_script(durations)) and all(d) and d)
    assert len(found) == sum(SIZES.values())
    # Recordings of 0.2 to 2.15 s, and what MP3 adds at both ends.
    assert all(0.2 <= duration < 2.4 for duration in found)
