"""A model as an ONNX graph, which ONNX Runtime and many others run.

It is written node by node with ONNX's helpers: each layer is one operator, so the graph is as small and readable as the
network, has a fixed version of the operators, and needs no converter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Num

from emocluster_jax import __version__
from emocluster_jax.corpora.inputs import names_of
from emocluster_jax.inference.model_directory import SavedModel
from emocluster_jax.models.encoder import CONVOLUTION_STRIDES, NORM_EPSILON
from emocluster_jax.models.registry import NETWORKS

if TYPE_CHECKING:
    import onnx

OPSET = 18
IR_VERSION = 9
"""Of the format; both are read by ONNX Runtime from 1.15 on."""
_TINY = np.float32(1e-30)


class _Graph:
    """Nodes and constants, numbered in order."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: Any) -> str:
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output


def to_onnx(model: SavedModel) -> bytes:
    """The serialised graph with its weights; it computes in float32, whatever the model was trained in.

    Input `chunks` (n, frames, mel) float32, normalised, for any n; outputs `attributes` (n, A) in label units,
    `embeddings` (n, E) and, for models with clusters, `clusters` (n,) int32.
    """
    import onnx
    from onnx import TensorProto, helper

    params, graph = model.variables["params"], _Graph()
    shared = _encoder(graph, model, "chunks")
    code = _dense(graph, shared, params["code_mean"]) if "code_mean" in params else shared
    _, attributes = _head(graph, code, params["attribute_regressor"])
    scaled = graph.add("Mul", attributes, graph.constant(model.label_std))
    graph.add("Add", scaled, graph.constant(model.label_mean), output="attributes")
    widths = {"attributes": len(model.config.attributes), "embeddings": len(params["encoder"]["shared"]["bias"])}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name, width in widths.items()]
    if "cluster_classifier" in params:
        embeddings, logits = _head(graph, shared, params["cluster_classifier"])
        _clusters(graph, model, embeddings, logits)
        outputs.append(helper.make_tensor_value_info("clusters", TensorProto.INT32, ["n"]))
    else:
        embeddings = code
    graph.add("Identity", embeddings, output="embeddings")

    chunk = [model.features.chunk_frames, model.features.dimensions]
    inputs = [helper.make_tensor_value_info("chunks", TensorProto.FLOAT, ["n", *chunk])]
    written = helper.make_model(
        helper.make_graph(graph.nodes, "emocluster", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="emocluster_jax",
        producer_version=__version__,
    )
    onnx.checker.check_model(written, full_check=True)
    return written.SerializeToString()


def not_as_graph(model: SavedModel) -> str | None:
    """What about a model a graph cannot hold; None if it can hold all of it."""
    if NETWORKS[model.config.system].across_chunks:
        return "a model that looks across chunks"
    return f"a model that reads {', '.join(names_of(model.inputs))} besides audio" if model.inputs else None


def onnx_session(
    graph: bytes, threads: int = 0
) -> Callable[[Mapping[str, Float[np.ndarray, "n frames mel"]]], dict[str, Num[np.ndarray, "n ..."]]]:
    """A graph from `to_onnx`, to be called with its inputs by name; by ONNX Runtime on so many threads of the CPU.

    With 0 threads it takes one for each core.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def outputs(inputs: Mapping[str, Float[np.ndarray, "n frames mel"]]) -> dict[str, Num[np.ndarray, "n ..."]]:
        values: Any = session.run(names, dict(inputs))
        return dict(zip(names, values, strict=True))

    return outputs


def _encoder(graph: _Graph, model: SavedModel, chunks: str) -> str:
    """The shared layer's output; batch normalisation is folded into the convolutions' weights."""
    params, statistics = (model.variables[name]["encoder"] for name in ("params", "batch_stats"))
    x = graph.add("Unsqueeze", chunks, graph.constant(np.array([1])))
    for i, stride in enumerate(CONVOLUTION_STRIDES):
        norm, running = params[f"norm_{i}"], statistics[f"norm_{i}"]
        multiplier = norm["scale"] / np.sqrt(np.asarray(running["var"], np.float64) + NORM_EPSILON)
        offset = norm["bias"] - running["mean"] * multiplier
        kernel = np.transpose(params[f"convolution_{i}"]["kernel"] * multiplier, (3, 2, 0, 1))
        weights = (graph.constant(array.astype(np.float32)) for array in (kernel, offset))
        convolved = graph.add("Conv", x, *weights, strides=[stride, stride], pads=[1, 1, 1, 1], kernel_shape=[3, 3])
        x = graph.add("Relu", convolved)
    # Channels last, as in the shared layer's weights.
    flat = graph.add("Flatten", graph.add("Transpose", x, perm=[0, 2, 3, 1]), axis=1)
    return graph.add("Relu", _dense(graph, flat, params["shared"]))


def _dense(graph: _Graph, x: str, layer: dict[str, Any]) -> str:
    return graph.add("Gemm", x, *(graph.constant(np.asarray(layer[name], np.float32)) for name in ("kernel", "bias")))


def _head(graph: _Graph, x: str, head: dict[str, Any]) -> tuple[str, str]:
    """The hidden layer before its ReLU, and the output."""
    hidden = _dense(graph, x, head["hidden"])
    return hidden, _dense(graph, graph.add("Relu", hidden), head["output"])


def _clusters(graph: _Graph, model: SavedModel, embeddings: str, logits: str) -> None:
    """The nearest centroid, or the largest logit if there are no centroids."""
    if model.centroids is None:
        nearest = graph.add("ArgMax", logits, axis=1, keepdims=0)
    else:
        if model.transform is not None:
            mean, projection = (graph.constant(np.asarray(array, np.float32)) for array in model.transform)
            embeddings = graph.add("MatMul", graph.add("Sub", embeddings, mean), projection)
        if model.clustering.unit_length:
            # Rows of zeros stay.
            length = graph.add("ReduceL2", embeddings, graph.constant(np.array([1])), keepdims=1)
            embeddings = graph.add("Div", embeddings, graph.add("Max", length, graph.constant(_TINY)))
        rows = graph.add("Unsqueeze", embeddings, graph.constant(np.array([1])))
        differences = graph.add("Sub", rows, graph.constant(model.centroids))
        squared_distances = graph.add("ReduceSumSquare", differences, graph.constant(np.array([2])), keepdims=0)
        nearest = graph.add("ArgMin", squared_distances, axis=1, keepdims=0)
    from onnx import TensorProto

    graph.add("Cast", nearest, output="clusters", to=TensorProto.INT32)
