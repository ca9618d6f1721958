"""What the clusters of a run's best epoch know, as the run keeps it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.cluster_information import ClusterInformation, Information
from emocluster_jax.storage.atomic_files import write_json
from emocluster_jax.storage.json_files import as_record, read_json
from emocluster_jax.storage.run_identity import RUN_ENTRY, check_run

CLUSTERS_FILE = "clusters.json"
"""Its name in a work directory."""
_REMEDY = "end the training again with `resume`, which writes it anew"


@dataclass(frozen=True)
class _Saved:
    """The file, but for the attributes.

    Attributes:
      epoch: whose clusters they are.
      run: the id of the run that they are of; "" in files of earlier versions.
    """

    epoch: int
    speaker: Information | None
    gender: Information | None
    bins: int
    permutations: int
    run: str = ""


def write_clusters(path: Path, run_id: str, epoch: int, found: ClusterInformation) -> None:
    """Writes what the clusters of a run's epoch know."""
    write_json(path, {RUN_ENTRY: run_id, "epoch": epoch, **asdict(found)})


def read_clusters(path: Path, run_id: str, epoch: int | None) -> ClusterInformation | None:
    """What `write_clusters` wrote; None where there is no file, or one of another epoch, of an earlier end of the run.

    Args:
      path: the file.
      run_id: of the run that it has to be of.
      epoch: the epoch that was kept.

    Raises:
      InputError: the file is damaged, or of another run.
    """
    try:
        values = read_json(path, _REMEDY)
    except FileNotFoundError:
        return None
    attributes = values.get("attributes") if isinstance(values, dict) else None
    if not isinstance(attributes, dict):
        raise InputError(f"{path} has no object of attributes; {_REMEDY}")
    others = {name: value for name, value in values.items() if name != "attributes"}
    saved = as_record(_Saved, others, str(path), _REMEDY)
    check_run(path, saved.run, run_id)
    if saved.epoch != epoch:
        return None
    return ClusterInformation(
        attributes={name: as_record(Information, of, f"{path}: {name}", _REMEDY) for name, of in attributes.items()},
        speaker=saved.speaker,
        gender=saved.gender,
        bins=saved.bins,
        permutations=saved.permutations,
    )
