"""Tables: what is read however it was saved, and what is said of those that cannot be read."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emocluster_jax.corpora.table import read_json_table, read_table
from emocluster_jax.errors import InputError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_any_delimiter_and_encoding(tmp_path, delimiter, encoding):
    path = tmp_path / "labels.csv"
    lines = [["File", "Arousal"], ['"å, b; c\t.wav"', "4.5"], ["d.wav", ""]]
    path.write_text("\r\n".join(delimiter.join(line) for line in lines), encoding=encoding)
    table = read_table(path)
    assert table.columns == ("File", "Arousal")
    assert [row.text("file") for row in table] == ["å, b; c\t.wav", "d.wav"]
    assert table.rows[0].number("AROUSAL") == 4.5
    assert math.isnan(table.rows[1].number("arousal"))
    assert [row.place for row in table] == ["line 2", "line 3"]


def test_decimal_commas_between_semicolons(tmp_path, write_text):
    table = read_table(write_text(tmp_path / "excel.csv", "file;valence\na.wav;3,25\n"))
    assert table.rows[0].number("valence") == 3.25


def test_blank_lines_are_no_rows_and_lines_keep_their_numbers(tmp_path, write_text):
    table = read_table(write_text(tmp_path / "gaps.csv", "file,arousal\n\na.wav,1\n,\nb.wav,2\n"))
    assert [(row.text("file"), row.place) for row in table] == [("a.wav", "line 3"), ("b.wav", "line 5")]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_any_line_end(tmp_path, line_end):
    path = tmp_path / "labels.csv"
    path.write_bytes(line_end.join(["file,arousal", '"a', 'b.wav",1', "", "c.wav,2"]).encode())
    assert [(row.text("file"), row.place) for row in read_table(path)] == [
        (f"a{line_end}b.wav", "line 3"),
        ("c.wav", "line 5"),
    ]


def test_rows_that_end_early_have_empty_fields(tmp_path, write_text):
    table = read_table(
        write_text(tmp_path / "people.csv", "file,split,arousal,valence\na.wav,train,1,2\nb.wav,unlabeled\n")
    )
    assert [row.text("split") for row in table] == ["train", "unlabeled"]
    assert table.rows[0].number("valence") == 2
    assert math.isnan(table.rows[1].number("arousal")) and table.rows[1].text("valence") == ""


def test_empty_columns_at_the_end_are_ignored(tmp_path, write_text):
    table = read_table(write_text(tmp_path / "excel.csv", "file;arousal;;\na.wav;1;;\nb.wav;2\nc.wav;3;;;;\n;;;\n"))
    assert table.columns == ("file", "arousal")
    assert [(row.text("file"), row.number("arousal")) for row in table] == [("a.wav", 1), ("b.wav", 2), ("c.wav", 3)]


def test_columns_without_a_name_clash_with_none(tmp_path, write_text):
    table = read_table(write_text(tmp_path / "pandas.csv", ",file,,arousal\n0,a.wav,,1\n1,b.wav,x,2\n"))
    assert table.columns == ("file", "arousal")
    assert [row.number("arousal") for row in table] == [1, 2]


@pytest.mark.parametrize(
    ("first_line", "delimiter"),
    [
        ("sep=;", ";"),
        ("SEP=,", ","),
        ('"sep=;"', ";"),
        ("sep=\t", "\t"),
        (r"sep=\t", "\t"),
        ("sep=|", "|"),
        ("sep=;;;", ";"),
    ],
)
def test_a_first_line_that_names_the_separator_is_obeyed(tmp_path, write_text, first_line, delimiter):
    """Also where the header has more of another one."""
    lines = [first_line, delimiter.join(["file", '"a, b, c; d; e"']), delimiter.join(["x.wav", "1"])]
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path = tmp_path / "excel.csv"
        path.write_text("\r\n".join(lines), encoding=encoding)
        (row,) = read_table(path)
        assert (row.text("file"), row.text("a, b, c; d; e"), row.place) == ("x.wav", "1", "line 3")


def test_a_column_may_be_called_like_a_separator_line(tmp_path, write_text):
    assert read_table(write_text(tmp_path / "odd.csv", "sep=x,file\n1,a.wav\n")).columns == ("sep=x", "file")


@pytest.mark.parametrize(
    "field",
    ["", "#N/A", "#n/a", "-", ".", "<NA>", "n.a.", "N.A.", "N/A", "NA", "null", "NULL", "None", "NaN", "\u2013", "?"],
)
def test_every_spelling_of_a_missing_value(tmp_path, write_text, field):
    table = read_table(write_text(tmp_path / "labels.csv", f"file,arousal\na.wav,{field}\nb.wav,-1\nc.wav,.5\n"))
    first, second, third = (row.number("arousal") for row in table)
    assert math.isnan(first) and (second, third) == (-1, 0.5)


@given(
    st.lists(
        st.lists(
            st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=8), min_size=2, max_size=2
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_csv_writes_is_read_back(tmp_path_factory, fields):
    rows = [row for row in fields if any(row)]
    if not rows:
        return
    text = io.StringIO()
    csv.writer(text).writerows([["file", "note"], *rows])
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    assert [[row.text("file"), row.text("note")] for row in read_table(path)] == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"file,arousal\n", "no rows"),
        (b"file,arousal\na.wav,1,2\n", r"line 2: 3 fields where the header has 2"),
        (b"file,arousal,,\na.wav,1\nb.wav,1,,why\n", r"line 3: 4 fields where the header has 2"),
        (b"sep=;\n\n", "is empty"),
        (b"sep=;\rfile;arousal\ra;1\rb;2;3\r", r"line 4: 3 fields where the header has 2"),
        (b"file,File\na,b\n", "'File' twice"),
        (b"file,arousal\n\xe9.wav,1\n", "not utf-8 text"),
        (b'file,arousal\n"a.wav,1\n', "not readable as CSV"),
    ],
)
def test_unreadable_tables(tmp_path, content, message):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_table(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
)


@given(st.one_of(st.binary(), st.dictionaries(st.text(), JSON).map(lambda entries: json.dumps(entries).encode())))
def test_any_json_is_a_table_or_a_complaint_of_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("json") / "t.json"
    path.write_bytes(content)
    try:
        table = read_json_table(path, "name")
    except InputError as error:
        assert str(error).isprintable()
        return
    assert [row.text("name") for row in table] == [name.strip() for name in json.loads(content)]
    assert all(len(row.values) == len(table.columns) for row in table)


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv does not exist"):
        read_table(tmp_path / "nowhere.csv")
    with pytest.raises(InputError, match="is a folder"):
        read_table(tmp_path)


@pytest.mark.parametrize("field", ["high", "4.5.1", "4_5", "inf", "1e999"])
def test_labels_that_are_no_numbers(tmp_path, write_text, field):
    path = write_text(tmp_path / "labels.csv", f"file,arousal\na.wav,3\nb.wav,{field}\n")
    table = read_table(path)
    with pytest.raises(InputError, match=f"line 3: arousal is '{field}'"):
        table.rows[1].number("arousal")


def test_a_missing_column_is_named_beside_those_found(tmp_path, write_text):
    table = read_table(write_text(tmp_path / "labels.csv", "name,Arousal\na.wav,3\n"))
    table.require("arousal")
    with pytest.raises(InputError, match="no column 'file'; it has name, Arousal"):
        table.require("file")
