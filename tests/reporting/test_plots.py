"""The figures come out as PNG for every shape that a run's metrics can have, and show what they are given."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from emocluster_jax.reporting.plot_data import (
    histogram_edges,
    limits_around,
    rated_and_predicted,
    steps,
    validation_scores,
)
from emocluster_jax.reporting.plots import prediction_scatter, training_curves


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def count(image: np.ndarray, colour: str) -> int:
    """Pixels of about that colour (anti-aliased edges left out)."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(image - wanted).max(axis=-1) < 12).sum())


def epoch_metrics(epoch: int, attributes: tuple[str, ...], unlabeled: bool) -> dict:
    metrics = {
        "epoch": epoch,
        "stage2_cross_entropy": 2.0 / epoch,
        "ccc_loss": 0.5,
        "validation_ccc": dict.fromkeys(attributes, 0.1 * epoch),
        "validation_ccc_mean": 0.1 * epoch,
        "nmi_previous": None if epoch == 1 else 0.4,
        "cluster_sizes": [10, 20 * epoch, 30],
    }
    if unlabeled:
        metrics |= {"stage1_cross_entropy": 2.2, "nmi_previous_unlabeled": None, "cluster_sizes_unlabeled": [1, 2, 3]}
    return metrics


@pytest.mark.parametrize("epochs", [1, 5])
@pytest.mark.parametrize("unlabeled", [False, True])
def test_training_curves(tmp_path, epochs, unlabeled):
    path = tmp_path / "curves.png"
    training_curves([epoch_metrics(e, ("arousal", "valence"), unlabeled) for e in range(1, epochs + 1)], path)
    image = pixels(path)
    assert count(image, "#D55E00") > 50 and count(image, "#009E73") > 50
    # Stage I's curve is drawn where there was a stage I, and only there.
    assert (count(image, "#CC79A7") > 50) == unlabeled
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]


def test_training_curves_of_a_system_without_clusters(tmp_path):
    epochs = [
        {"epoch": e, "stage1_kl": 1 / e, "stage2_reconstruction": 2 / e, "stage2_kl": 1 / e, "ccc_loss": 0.5}
        for e in (1, 2, 3)
    ]
    training_curves(epochs, tmp_path / "vae.png")
    training_curves([epoch_metrics(e, ("arousal",), False) for e in (1, 2)], tmp_path / "clusters.png")
    image = pixels(tmp_path / "vae.png")
    for colour in ("#CC79A7", "#0072B2", "#009E73", "#D55E00"):
        assert count(image, colour) > 50, colour
    assert 2 * len(image) == len(pixels(tmp_path / "clusters.png"))  # the panels of the clusters are not there


def test_training_curves_with_gaps_and_without_epochs(tmp_path):
    gap = {"epoch": 2, "stage2_cross_entropy": None, "validation_ccc": {"arousal": None}, "validation_ccc_mean": None}
    training_curves([epoch_metrics(1, ("arousal",), True), gap], tmp_path / "gap.png")
    training_curves([], tmp_path / "empty.png")
    # One row for no panel, two for losses, CCC and the sizes of both pools: no clusters have changed yet.
    assert len(pixels(tmp_path / "gap.png")) == 2 * len(pixels(tmp_path / "empty.png"))
    assert (pixels(tmp_path / "empty.png") == 255).all()


def test_prediction_scatter_leaves_missing_ratings_out(tmp_path):
    truth = np.array([1.0, 2.0, np.nan, 4.0])
    complete = np.array([1.0, 2.0, 4.0])
    prediction_scatter(rated_and_predicted("arousal", truth, np.array([1.5, 2.5, 99.0, 3.5]), 0.9), tmp_path / "a.png")
    prediction_scatter(rated_and_predicted("arousal", complete, np.array([1.5, 2.5, 3.5]), 0.9), tmp_path / "b.png")
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png"))


def test_prediction_scatter_shows_its_dots(tmp_path):
    values = np.linspace(1, 7, 20)
    prediction_scatter(rated_and_predicted("valence", values, values[::-1], -1.0), tmp_path / "dots.png")
    prediction_scatter(rated_and_predicted("valence", values[:0], values[:0], float("nan")), tmp_path / "none.png")
    plain = (pixels(tmp_path / "dots.png") != 255).any(axis=-1).sum()
    empty = (pixels(tmp_path / "none.png") != 255).any(axis=-1).sum()
    assert plain > empty + 500


@pytest.mark.parametrize(
    "values",
    [
        *([16777216.0, 16777217.0], [1e30, 1e30], [-1.7e308, 1.7e308], [1e16, 1e16 + 2], [5e-324, 0.0], [0.0], [3e38]),
        *([1.0, 7.0], [4.0, 4.0], [-1e-300, 1e-300], [1e308, np.nextafter(1e308, 0)]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_bins_and_limits_of_any_values(values, dtype):
    with np.errstate(over="ignore"):
        values = np.array(values, dtype)
    values = values[np.isfinite(values)]
    if not len(values):
        return
    edges = histogram_edges(values, 20)
    assert len(edges) == 21 and np.isfinite(edges).all() and (np.diff(edges / 2) > 0).all()
    assert np.histogram(values.astype(float), edges)[0].sum() == len(values)
    lowest, highest = limits_around(values)
    assert lowest < values.min() and highest > values.max()


def test_bins_of_ordinary_values_are_those_of_numpy():
    values = np.random.default_rng(0).normal(4, 1, 99)
    np.testing.assert_allclose(histogram_edges(values, 20), np.histogram_bin_edges(values, 20), rtol=1e-12)


def test_nearly_equal_huge_values_are_drawn(tmp_path):
    values = np.array([16777216.0, 16777217.0], np.float32)
    prediction_scatter(rated_and_predicted("arousal", values, values[::-1], -1.0), tmp_path / "huge.png")
    assert (pixels(tmp_path / "huge.png") != 255).any()


def test_the_kept_epoch_is_the_one_that_the_run_says() -> None:
    """Whatever it was chosen by; and labels beyond the published three have curves, too."""
    metrics = [epoch_metrics(epoch, ("arousal", "liking"), False) | {"best_epoch": 1} for epoch in (1, 2)]
    panel = validation_scores(metrics)
    assert panel.kept_epoch == 1
    assert [curve.title for curve in panel.curves] == ["arousal CCC", "liking CCC"]
    assert len({curve.style for curve in panel.curves}) == 2


def test_rounding_errors_do_not_fill_the_axis_of_the_ccc() -> None:
    nothing = validation_scores([{"epoch": 1, "validation_ccc": {"arousal": -6e-5}}])
    assert nothing.lowest == pytest.approx(-0.05, abs=1e-3) and nothing.highest == pytest.approx(0.05, abs=1e-3)
    learnt = validation_scores([{"epoch": e, "validation_ccc": {"arousal": 0.2 * e}} for e in (1, 2)])
    assert learnt.lowest is None and learnt.highest is None


def test_what_is_the_same_in_both_stages_is_one_curve() -> None:
    rates = {"learning_rate_sgd": 0.01, "learning_rate_cluster_head": 0.05}
    epoch = {"stage1": rates | {"gradient_norm": 1.0}, "stage2": rates | {"gradient_norm": 2.0}}
    panel = steps([{"epoch": 1, "steps": epoch}, {"epoch": 2, "steps": epoch}])
    assert [curve.title for curve in panel.curves] == [
        "stage I gradient norm",
        "stages I and II learning rate cluster head",
        "stages I and II learning rate sgd",
        "stage II gradient norm",
    ]
    assert len({curve.style.colour for curve in panel.curves}) == 4


def test_curves_on_a_logarithmic_axis_lie_apart(tmp_path) -> None:
    values = {"gradient_norm": 1.0, "learning_rate_sgd": 0.01, "learning_rate_cluster_head": 1e-4}
    training_curves([{"epoch": epoch, "steps": {"stage1": values}} for epoch in (1, 2)], tmp_path / "steps.png")
    image = pixels(tmp_path / "steps.png")
    drawn = steps([{"epoch": 1, "steps": {"stage1": values}}]).curves
    rows = []
    for curve in drawn:
        wanted = [int(curve.style.colour[i : i + 2], 16) for i in (1, 3, 5)]
        # The longest row of its colour is its curve, not its line in the legend.
        rows.append(int((np.abs(image - wanted).max(axis=-1) < 12).sum(axis=1).argmax()))
    assert len(drawn) == 3 and np.diff(sorted(rows)).min() > 50
