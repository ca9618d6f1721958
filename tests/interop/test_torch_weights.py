from __future__ import annotations

import jax
import numpy as np
import pytest

from emocluster_jax.config import ModelConfig
from emocluster_jax.errors import InputError
from emocluster_jax.interop.published import parameter_from_torch, variables_from_torch
from emocluster_jax.models.emocluster import EmoCluster

WIDTHS = (32, 32, 64, 64, 128, 128, 128)


def state_dict(clusters: int = 10) -> dict[str, np.ndarray]:
    """Random arrays of the published names and shapes."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i, width in enumerate(WIDTHS):
        shapes[f"cnn_features.{3 * i}.weight"] = (width, WIDTHS[i - 1] if i else 1, 3, 3)
        shapes[f"cnn_features.{3 * i}.bias"] = (width,)
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"cnn_features.{3 * i + 1}.{name}"] = (width,)
    for name, outputs, inputs in (
        ("cnn_out.0", 256, 1024),
        ("classifier.0", 256, 256),
        ("emo_regressor.0", 256, 256),
        ("top_layer_class", clusters, 256),
        ("top_layer_attri", 1, 256),
    ):
        shapes[f"{name}.weight"] = (outputs, inputs)
        shapes[f"{name}.bias"] = (outputs,)
    random = np.random.default_rng(0)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_variables_are_those_of_the_network() -> None:
    variables = variables_from_torch(state_dict(clusters=7))

    chunk = jax.ShapeDtypeStruct((1, 1, 62, 128), np.float32)
    expected = jax.eval_shape(EmoCluster(ModelConfig(clusters=7)).init, jax.random.key(0), {"audio": chunk})
    assert jax.tree.map(lambda x: (x.shape, x.dtype), variables) == jax.tree.map(lambda x: (x.shape, x.dtype), expected)


def test_every_weight_lands_where_it_is_used() -> None:
    weights = state_dict()
    variables = variables_from_torch(weights)
    params, encoder = variables["params"], variables["params"]["encoder"]

    kernel = weights["cnn_features.3.weight"]
    assert encoder["convolution_1"]["kernel"][2, 0, 5, 9] == kernel[9, 5, 2, 0]
    # The published flattening is (channel 128, time 2, mel 4), this one (time, mel, channel).
    channel, time, mel, unit = 77, 1, 2, 200
    assert (
        encoder["shared"]["kernel"][(time * 4 + mel) * 128 + channel, unit]
        == (weights["cnn_out.0.weight"][unit, (channel * 2 + time) * 4 + mel])
    )
    np.testing.assert_array_equal(
        params["attribute_regressor"]["output"]["kernel"], weights["top_layer_attri.weight"].T
    )
    np.testing.assert_array_equal(encoder["norm_6"]["scale"], weights["cnn_features.19.weight"])
    np.testing.assert_array_equal(
        variables["batch_stats"]["encoder"]["norm_2"]["mean"],
        weights["cnn_features.7.running_mean"] - weights["cnn_features.6.bias"],
    )


def test_what_data_parallelism_leaves_in_names_does_not_matter() -> None:
    plain = state_dict()
    wrapped = {name.replace("cnn_features.", "cnn_features.module."): array for name, array in plain.items()}
    wholly = {f"module.{name}": array for name, array in plain.items()}
    counted = {**wrapped, "cnn_features.module.1.num_batches_tracked": np.array(7)}

    expected = jax.tree.leaves(variables_from_torch(plain))
    for other in (wrapped, wholly, counted):
        for ours, theirs in zip(jax.tree.leaves(variables_from_torch(other)), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_single_array_keeps_its_values() -> None:
    gradient = np.random.default_rng(0).normal(size=(64, 32, 3, 3)).astype(np.float32)

    path, converted = parameter_from_torch("cnn_features.6.weight", gradient)

    assert path == ("params", "encoder", "convolution_2", "kernel")
    np.testing.assert_array_equal(converted, gradient.transpose(2, 3, 1, 0))
    assert parameter_from_torch("top_layer_class.bias", np.zeros(30))[0] == (
        *("params", "cluster_classifier", "output"),
        "bias",
    )


def changed(**arrays: np.ndarray | None) -> dict[str, np.ndarray]:
    return {name: array for name, array in {**state_dict(), **arrays}.items() if array is not None}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "lack classifier.0.bias, classifier.0.weight, cnn_features.0.bias, ..."),
        (changed(**{"classifier.0.weight": None}), "lack classifier.0.weight"),
        (changed(**{"decoder.weight": np.zeros(3)}), "does not have: decoder.weight"),
        (changed(**{"bad\nname": np.zeros(3)}), "bad"),
        (
            changed(**{"cnn_out.0.weight": np.zeros((256, 512))}),
            "cnn_out.0.weight is of shape (256, 512), expected (256, 1024)",
        ),
        (changed(**{"cnn_features.0.bias": np.zeros((32, 1))}), "cnn_features.0.bias is of shape (32, 1)"),
        (changed(**{"top_layer_class.weight": np.zeros((0, 256)), "top_layer_class.bias": np.zeros(0)}), "(0, 256)"),
        (changed(**{"top_layer_class.bias": np.zeros(30)}), "of different lengths"),
        (changed(**{"cnn_out.0.bias": np.full(256, np.nan)}), "cnn_out.0.bias does not hold finite"),
        (changed(**{"cnn_out.0.bias": np.zeros(256, np.int64)}), "cnn_out.0.bias does not hold finite"),
        (changed(**{"cnn_out.module.0.bias": np.zeros(256)}), "hold cnn_out.0.bias twice"),
    ],
)
def test_other_weights_are_refused_by_name(arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError) as error:
        variables_from_torch(arrays)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_array_without_a_counterpart_is_refused() -> None:
    with pytest.raises(InputError, match=r"cnn_features\.0\.bias has no counterpart"):
        parameter_from_torch("cnn_features.0.bias", np.zeros(32, np.float32))
