"""What TensorBoard's projector reads: a point a line, what is known of it in the same line, and where both lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emocluster_jax.reporting.projector import write_projector


def test_names_that_would_break_the_table(tmp_path: Path) -> None:
    write_projector(tmp_path, "old", np.ones((5, 2), np.float32), {"id": list("abcde"), "cluster": [0] * 5})
    points = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    ids = ["a\tb", "c\nd", "æ ö"]
    write_projector(tmp_path, "chunks", points, {"id": ids, "cluster": [2, 0, 1], "arousal": [0.123456, np.nan, 5.0]})

    np.testing.assert_allclose(np.loadtxt(tmp_path / "embeddings.tsv", delimiter="\t"), points, rtol=1e-4)
    assert (tmp_path / "embeddings_metadata.tsv").read_text("utf-8").split("\n") == [
        "id\tcluster\tarousal",
        r"a\tb" + "\t2\t0.1235",
        r"c\nd" + "\t0\tnan",
        "æ ö\t1\t5",
        "",
    ]
    assert (tmp_path / "projector_config.pbtxt").read_text().split() == [
        *("embeddings", "{", "tensor_name:", '"chunks"', "tensor_path:", '"embeddings.tsv"'),
        *("metadata_path:", '"embeddings_metadata.tsv"', "}"),
    ]
    assert len(list(tmp_path.iterdir())) == 3
