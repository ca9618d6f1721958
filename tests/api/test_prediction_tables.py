"""Tables of predictions: a spreadsheet evaluates no names in them, and pandas has them as they were."""

from __future__ import annotations

import csv
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import emocluster_jax
from emocluster_jax.api.prediction import ModelPredictions, Predictions
from emocluster_jax.api.prediction_tables import read_predictions, safe_text, table_format, write_table
from emocluster_jax.errors import InputError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data-formats.md"
BEGINNINGS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # the last four are the first ones in full width
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


def predictions(files: tuple[str, ...]) -> Predictions:
    """Of an attribute that is below 0 everywhere."""
    n = len(files)
    silent = np.zeros(n, bool)
    model = ModelPredictions(("valence",), np.linspace(-0.5, -0.25, n)[:, None], None, None, silent)
    return Predictions(files, np.zeros(n), np.ones(n), (model,), (), {"dc_offset": np.full(n, -0.125)}, {})


@given(st.builds(str.__add__, st.sampled_from(["", " ", "'", *BEGINNINGS]), NAMES))
@example("''")
def test_a_safe_text_is_no_formula_and_gives_back_the_text(text: str) -> None:
    safe = safe_text(text)
    assert safe.removeprefix("'") == text
    assert safe in (text, f"'{text}")
    assert not safe.startswith(BEGINNINGS) and not safe.lstrip().startswith(BEGINNINGS)


@pytest.mark.parametrize("name", ["a=1.wav", "a-b.wav", "1+1.wav", "x'y.wav", "音@.wav"])
def test_other_names_stay(name: str) -> None:
    assert safe_text(name) == name


def test_numbers_stay_numbers_and_other_separators_find_no_formulas(tmp_path: Path) -> None:
    names = ("=cmd|' /C calc'!A0.wav", "a;=1+1;b.wav", "'mine.wav", "-leading.wav")
    write_table(tmp_path / "a.csv", predictions(names), quality=True, spreadsheet_safe=True)
    lines = (tmp_path / "a.csv").read_text("utf-8").splitlines()
    times = '"0 days 00:00:00.000000","0 days 00:00:01.000000"'
    assert lines[1] == f'"\'{names[0]}",{times},"-0.500000","-0.125000"'
    assert [row["file"] for row in csv.DictReader(lines)] == [f"'{names[0]}", names[1], "''mine.wav", "'-leading.wav"]
    for cells in csv.reader(lines, delimiter=";"):  # as where the decimal separator is the comma
        assert not any(cell.startswith(BEGINNINGS) for cell in cells), cells

    write_table(tmp_path / "b.csv", predictions(names))
    assert [row["file"] for row in csv.DictReader((tmp_path / "b.csv").read_text("utf-8").splitlines())] == list(names)


@given(st.lists(NAMES, min_size=1, max_size=5))
@example(["=NA()", "NA", "001", "'", " -1", "a\r=1", '";=1'])
def test_pandas_as_documented_gives_the_names_back(names: list[str]) -> None:
    pandas = pytest.importorskip("pandas")
    (lines,) = re.findall(r"^```python\n([^`]*removeprefix[^`]*)^```", PAGE.read_text("utf-8"), re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "predictions.csv")
        write_table(path, predictions(tuple(names)), spreadsheet_safe=True)
        found = {"pandas": pandas, "path": path}
        exec(lines.replace('"predictions.csv"', "path"), found)
    table = found["table"]
    assert table["file"].tolist() == names
    assert table["valence"].tolist() == pytest.approx(np.linspace(-0.5, -0.25, len(names)), abs=1e-6)


def test_parquet_has_the_columns_of_the_csv(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    made = predictions(("a.wav", "\N{MUSICAL SYMBOL G CLEF},\n.wav"))
    made.starts_s[1], made.models[0].attributes[1] = 1.2345678, np.nan
    for suffix in ("csv", "parquet"):
        write_table(tmp_path / f"a.{suffix}", made, format=suffix, quality=True)
    table, text = pandas.read_parquet(tmp_path / "a.parquet"), pandas.read_csv(tmp_path / "a.csv")
    assert list(table) == list(text) == ["file", "start", "end", "valence", "dc_offset"]
    for name in ("start", "end"):
        assert table[name].dtype == "timedelta64[ns]"
        assert table[name].tolist() == pandas.to_timedelta(text[name]).tolist()
    assert table["file"].tolist() == text["file"].tolist()
    assert table["valence"].tolist() == pytest.approx(text["valence"].tolist(), abs=1e-6, nan_ok=True)
    assert table["valence"].isna().tolist() == [False, True]


def test_the_documented_recipe_makes_the_same_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    (lines,) = re.findall(r"^```python\n([^`]*to_timedelta[^`]*)^```", PAGE.read_text("utf-8"), re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    write_table(Path("predictions.csv"), predictions(("NA", "b.wav")))
    exec(lines, found := {"pandas": pandas})
    pandas.testing.assert_frame_equal(found["table"], read_predictions("predictions.csv"))


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a"])
def test_a_table_is_read_as_the_frame_of_the_predictions(tmp_path: Path, name: str) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    made = predictions(("NA", 'a, "b".wav', "\N{MUSICAL SYMBOL G CLEF}\n.wav"))
    made.starts_s[1], made.ends_s[1], made.models[0].attributes[1] = 1.2345678, 90_061.5, np.nan
    write_table(tmp_path / name, made, format="csv" if name == "a.csv" else "parquet", quality=True)
    read = emocluster_jax.read_predictions(str(tmp_path / name))
    pandas.testing.assert_frame_equal(read, made.to_frame(quality=True), rtol=0, atol=1e-6)
    (start, end), (missing,) = read.index[1][1:], read.loc['a, "b".wav']["valence"]
    assert (start, end) == (pandas.Timedelta(1_234_568, "us"), pandas.Timedelta("1 days 01:01:01.5"))
    assert np.isnan(missing)


def test_a_table_without_ends_or_rows(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "a.csv"
    path.write_text("file,start,end,arousal\na.wav,0 days 00:00:01,,\n")
    read: Any = read_predictions(path)
    assert read.index[0][:2] == ("a.wav", pandas.Timedelta(1, "s")) and read["arousal"].isna().all()
    assert read.index.levels[2].dtype == "timedelta64[ns]" and read.index.get_level_values("end").isna().all()
    path.write_text("file,start,end,arousal\n")
    assert len(read_predictions(path)) == 0 and read_predictions(path).dtypes.tolist() == ["float64"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,arousal_truth\na,1\n", "is not a table of predictions \\(it has no column file, start, end\\); give one"),
        (b"file,start,end,arousal\na.wav,0,1.5,3\n", "its start is not always a timedelta, such as 0 days 00:00:01.5"),
        (b"file,start,end,arousal\na.wav,,,high\n", "could not convert string to float: 'high'"),
        (b"file,start,end\na.wav,,,1,2,3\nb.wav,,,1,2,3,4\n", "is not a table of predictions .*Expected 6 fields"),
        (b"", "is not a table of predictions .*No columns"),
        (b"PAR1 and nothing else", "is not a table of predictions|cannot be read"),
        (b"\xff\xfe\x00", "is not a table of predictions"),
        (None, "a.csv cannot be read .*No such file"),
    ],
)
def test_what_is_not_a_table_of_predictions(tmp_path: Path, content: bytes | None, message: str) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    if content is not None:
        (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_predictions(tmp_path / "a.csv")


def test_the_format_of_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    assert table_format(Path("a.csv"), None) == table_format(Path("a"), None) == table_format(Path("a.parquet"), "csv")
    with pytest.raises(InputError, match="`spreadsheet_safe` is about CSV"):
        table_format(Path("a.parquet"), None, spreadsheet_safe=True)
    monkeypatch.setattr(sys, "path", [])
    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(InputError, match=r'pip install "emocluster_jax\[parquet\]"'):
        table_format(Path("a"), "parquet")
