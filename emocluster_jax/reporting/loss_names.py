"""The terms of the losses as people read them; in the metrics they are `stage1_...`, `stage2_...` and `ccc_loss`."""

from __future__ import annotations

_STAGES = {"stage1": "stage I", "stage2": "stage II"}
_TERMS = {"cross_entropy": "cross-entropy", "kl": "KL divergence"}


def loss_name(metric: str) -> str | None:
    """E.g. "stage I cross-entropy" for "stage1_cross_entropy"; None for metrics that are no losses."""
    if metric == "ccc_loss":
        return "CCC loss"
    stage, _, term = metric.partition("_")
    return f"{_STAGES[stage]} {_TERMS.get(term, term.replace('_', ' '))}" if stage in _STAGES else None
