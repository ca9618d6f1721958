"""Metrics of a training run: a JSON object per epoch, and TensorBoard event files, written without TensorFlow."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Int

from emocluster_jax.errors import InputError
from emocluster_jax.storage.atomic_files import replacing
from emocluster_jax.storage.checksums import read_text
from emocluster_jax.storage.json_files import RUN_ENTRY, check_run, parse_json, shortened

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_DIR = "tensorboard"
_MOST_BYTES = 256 << 20
"""Ten thousand epochs with a thousand clusters of both splits take 120 MB."""
_LARGEST = 1e100
"""Far beyond any loss in single precision, and small enough to draw curves with."""
_LAST_EPOCH = 1_000_000_000
STEP_METRICS = "steps"
"""The entry with the step metrics other than the loss: means over an epoch's steps, by stage and name."""


class MetricsLog:
    """Appends the metrics of each epoch to `metrics.jsonl` and `tensorboard/` in a work directory.

    Args:
      directory: the work directory.
      epochs_done: epochs that a resumed run keeps; later ones are removed from the JSON lines and marked as superseded
        for TensorBoard.
      run_id: `SavedRun.id`, which each JSON line has as `run`; left out if empty.

    Raises InputError if a line is damaged, or of another run; the file stays as it is.
    """

    def __init__(self, directory: Path, epochs_done: int = 0, run_id: str = "") -> None:
        _import_tensorboard()
        # Not `SummaryWriter`: a full disk ends its thread, for which the run would wait forever.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2

        self._path = directory / METRICS_FILE
        self._run: dict[str, Any] = {RUN_ENTRY: run_id} if run_id else {}
        kept = read_metrics(self._path, run_id) if epochs_done and self._path.exists() else []
        kept = [metrics for metrics in kept if metrics["epoch"] <= epochs_done]
        with replacing(self._path) as temporary:
            temporary.write_text("".join(_json_line(metrics) for metrics in kept), "utf-8")
        self._file = self._path.open("a", encoding="utf-8")
        (directory / TENSORBOARD_DIR).mkdir(exist_ok=True)
        self._events = EventsWriter(str(directory / TENSORBOARD_DIR / "events"))
        self._messages: Any = event_pb2  # its classes are created when it is loaded
        session_log = self._messages.SessionLog
        self._add_event(epochs_done + 1, session_log=session_log(status=session_log.START))

    def write(self, metrics: dict[str, Any]) -> None:
        """Logs one epoch: `epoch` (from 1) and names with a number, None, a list of numbers, or a dictionary of such.

        In the JSON lines NaN and infinity become null. TensorBoard gets numbers as scalars, lists as histograms.
        """
        from flax.traverse_util import flatten_dict
        from tensorboardX.summary import histogram_raw, scalar

        self._file.write(_json_line({**metrics, **self._run}))
        self._file.flush()
        epoch = int(metrics["epoch"])
        # TensorBoard groups names by `/`.
        for name, value in flatten_dict(_plain(metrics), sep="/").items():
            if isinstance(value, list):
                self._add_event(epoch, summary=histogram_raw(name, **_bars(value)))
            elif value is not None and name != "epoch":
                self._add_event(epoch, summary=scalar(name, value))
        self._events.flush()

    def close(self) -> None:
        try:
            self._file.close()
        finally:
            self._events.close()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _add_event(self, step: int, **content: Any) -> None:
        self._events.write_event(self._messages.Event(wall_time=time.time(), step=step, **content))


def _import_tensorboard() -> None:
    """Imports tensorboardX as if PyTorch were not installed: else it imports that, which takes seconds, to no use."""
    modules = cast("dict[str, Any]", sys.modules)
    hidden = modules.setdefault("torch", None) is None
    try:
        import tensorboardX  # noqa: F401
    finally:
        if hidden:
            del modules["torch"]


def read_metrics(path: Path, run_id: str | None = None) -> list[dict[str, Any]]:
    """The epochs of a `metrics.jsonl`, in order: what `MetricsLog.write` was given, and `run`.

    A last line that a kill cut short is left out.

    Raises InputError if there is no such file, or a line is not an epoch's JSON object, or of another run.
    """
    try:
        text = read_text(path, "remove it, or restore a copy", _MOST_BYTES)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; metrics are written by `fit()`") from None
    epochs: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            metrics = _checked(parse_json(line))
            if epochs and metrics["epoch"] <= epochs[-1]["epoch"]:
                raise ValueError(f"epoch {metrics['epoch']} after epoch {epochs[-1]['epoch']}")
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {shortened(str(error))}; delete that line") from None
        if run_id is not None:
            check_run(path, metrics.get(RUN_ENTRY, ""), run_id)
        epochs.append(metrics)
    return epochs


def _checked(metrics: Any) -> dict[str, Any]:
    """A line's object; raises ValueError if a value is of the wrong kind."""
    if not isinstance(metrics, dict):
        raise ValueError("not an object")
    epoch, best_epoch = metrics.get("epoch"), metrics.get("best_epoch")
    if not _is_epoch(epoch) or not (best_epoch is None or _is_epoch(best_epoch)):
        raise ValueError("no whole number from 1 as `epoch`, or another `best_epoch`")
    for name, value in metrics.items():
        check = _KINDS.get(name, _is_number if loss_name(name) is not None else None)
        if check is not None and not (check(value) or (value is None and name not in _NEVER_NULL)):
            raise ValueError(f"{name} has a value of another kind")
    return metrics


def _is_epoch(value: object) -> bool:
    return type(value) is int and 1 <= value <= _LAST_EPOCH


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _LARGEST


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and all(_is_number(size) and size >= 0 for size in value)


def _are_numbers(value: object) -> bool:
    return isinstance(value, dict) and all(number is None or _is_number(number) for number in value.values())


_KINDS: dict[str, Callable[[Any], bool]] = {
    RUN_ENTRY: lambda value: isinstance(value, str),
    STEP_METRICS: lambda value: isinstance(value, dict) and all(map(_are_numbers, value.values())),
    **dict.fromkeys(("cluster_sizes", "cluster_sizes_unlabeled"), _are_sizes),
    **dict.fromkeys(("validation_ccc", "left_out_batches", "seconds"), _are_numbers),
    **dict.fromkeys(("validation_ccc_mean", "validation_rmse", "validation_loss"), _is_number),
    **dict.fromkeys(("nmi_previous", "nmi_previous_unlabeled"), _is_number),
}
"""The entries that are read, beside the epochs and the losses, and what they hold."""
_NEVER_NULL = (RUN_ENTRY, STEP_METRICS)


def _bars(values: list[float | None]) -> dict[str, Any]:
    """A TensorBoard histogram that shows these values as bars."""
    heights = np.asarray([value or 0 for value in values], dtype=float)
    at = np.arange(len(heights))
    return {
        "min": 0,
        "max": len(heights),
        "num": int(heights.sum()),
        "sum": float(heights @ at),
        "sum_squares": float(heights @ at**2),
        "bucket_limits": (at + 1.0).tolist(),
        "bucket_counts": heights.tolist(),
    }


def _json_line(metrics: dict[str, Any]) -> str:
    return json.dumps(_plain(metrics), allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """`value` in JSON's types: NumPy and JAX values as Python's, numbers that are not finite as None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def cluster_metrics(
    assignments: Int[np.ndarray, " n"], clusters: int, previous: Int[np.ndarray, " n"] | None = None
) -> tuple[Int[np.ndarray, " clusters"], float]:
    """The sizes of the clusters, and the normalised mutual information with the previous assignment (NaN without one).

    It is scikit-learn's, normalised by the mean of both entropies; two assignments to a single cluster each score 1.
    """
    from sklearn.metrics import normalized_mutual_info_score

    nmi = float("nan") if previous is None else float(normalized_mutual_info_score(previous, assignments))
    return np.bincount(assignments, minlength=clusters), nmi


_STAGES = {"stage1": "stage I", "stage2": "stage II"}
_TERMS = {"cross_entropy": "cross-entropy", "kl": "KL divergence"}


def loss_name(metric: str) -> str | None:
    """E.g. "stage I cross-entropy" for "stage1_cross_entropy"; None for metrics other than losses."""
    if metric == "ccc_loss":
        return "CCC loss"
    stage, _, term = metric.partition("_")
    return f"{_STAGES[stage]} {_TERMS.get(term, term.replace('_', ' '))}" if stage in _STAGES else None


def step_curves(metrics: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """The epochs' values of each step metric by title, e.g. "stage I gradient norm", for a logarithmic axis.

    Values that are missing or not above 0 are None. `metrics` is from `read_metrics`.
    """
    found = [epoch.get(STEP_METRICS, {}) for epoch in metrics]
    names = sorted({(stage, name) for epoch in found for stage, values in epoch.items() for name in values})
    curves = {}
    for stage, name in names:
        values = [epoch.get(stage, {}).get(name) or 0 for epoch in found]
        if max(values) > 0:
            title = f"{_STAGES.get(stage, stage)} {name.replace('_', ' ')}"
            curves[title] = [value if value > 0 else None for value in values]
    return curves
