"""Metrics of a training run: one JSON object an epoch, and TensorBoard event files (written without TensorFlow)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from emocluster_jax.atomic_files import replacing
from emocluster_jax.errors import InputError

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_DIR = "tensorboard"


class MetricsLog:
    """Appends the metrics of each epoch to `metrics.jsonl` and `tensorboard/` in a work directory.

    Args:
      directory: the work directory.
      epochs_done: what a resumed run keeps: later epochs, which its checkpoint knows nothing of, are taken out of the
        JSON lines and marked as superseded for TensorBoard. 0 begins anew.
    """

    def __init__(self, directory: Path, epochs_done: int = 0) -> None:
        # Not by `SummaryWriter`: a full disk ends its thread, and the run would wait for that thread forever.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2

        self._path = directory / METRICS_FILE
        kept = read_metrics(self._path) if epochs_done and self._path.exists() else []
        kept = [metrics for metrics in kept if metrics["epoch"] <= epochs_done]
        with replacing(self._path) as temporary:
            temporary.write_text("".join(_json_line(metrics) for metrics in kept), "utf-8")
        self._file = self._path.open("a", encoding="utf-8")
        (directory / TENSORBOARD_DIR).mkdir(exist_ok=True)
        self._events = EventsWriter(str(directory / TENSORBOARD_DIR / "events"))
        self._messages: Any = event_pb2  # whose classes are made as it is loaded
        session_log = self._messages.SessionLog
        self._add_event(epochs_done + 1, session_log=session_log(status=session_log.START))

    def write(self, metrics: dict[str, Any]) -> None:
        """Logs one epoch. In the JSON lines NaN and infinity become null.

        Args:
          metrics: `epoch` (from 1) and names with a number, None, a list of numbers, or a dictionary of such.
            TensorBoard gets numbers as scalars and lists as histograms with one bar an item.
        """
        from tensorboardX.summary import histogram_raw, scalar

        self._file.write(_json_line(metrics))
        self._file.flush()
        epoch = int(metrics["epoch"])
        for name, value in _flat(_plain(metrics)):
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


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The epochs of a `metrics.jsonl`, in order. A last line that a kill cut short is left out.

    Raises:
      InputError: no such file, or a line that is not an epoch's JSON object.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; metrics are written by `python -m launch.train`")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); remove it, or restore a copy") from None
    whole_lines = text[: text.rfind("\n") + 1].splitlines()
    epochs = []
    for number, line in enumerate(whole_lines, start=1):
        try:
            metrics = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: not JSON ({error}); delete that line") from error
        if not isinstance(metrics, dict) or type(metrics.get("epoch")) is not int:
            raise InputError(f"{path}, line {number}: not an object with an `epoch`; delete that line")
        epochs.append(metrics)
    return epochs


def _bars(values: list[float | None]) -> dict[str, Any]:
    """TensorBoard's histogram that shows these values as bars."""
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
    """`value` in JSON's types: NumPy and JAX numbers and arrays as Python's, what is not finite as None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _flat(metrics: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested names joined by `/`, which TensorBoard groups by."""
    for name, value in metrics.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value
