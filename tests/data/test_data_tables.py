from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stepwell.core.errors import DataError
from stepwell.data.tables import Table, read_table, values_of


def write(folder: Path, content: str | bytes, name: str = "x.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_csv_file_has_the_types_that_its_text_shows(tmp_path: Path) -> None:
    path = write(tmp_path, 'a,b,c,d,e\n1,1.5,x,true,2020-01-02\n2,,"y, z",false,2020-01-03\n3,2.5,,true,2020-01-04\n')
    table = read_table(path)
    kinds = {name: table.column(name, "column").dtype.kind for name in "abcde"}
    assert kinds == {"a": "i", "b": "f", "c": "O", "d": "b", "e": "M"}
    assert table.column("c", "column").tolist()[:2] == ["x", "y, z"]


def test_csv_and_parquet_and_gzip_files_of_one_frame_read_alike(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, None, 1.5], "c": ["u", None, "v"]})
    frame.to_csv(tmp_path / "x.csv", index=False)
    frame.to_csv(tmp_path / "x.csv.gz", index=False)
    frame.to_parquet(tmp_path / "x.parquet")
    for name in ("x.csv", "x.csv.gz", "x.parquet"):
        table = read_table(tmp_path / name)
        assert table.column("a", "column").tolist() == [1, 2, 3]
        assert np.isnan(table.column("b", "column")[1])
        assert table.column("c", "column")[0] == "u"
        assert pd.isna(table.column("c", "column")[1])


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert list(read_table(write(tmp_path, b"\xef\xbb\xbfa,b\n1,2\n")).frame.columns) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "x.csv: x.csv is empty"),
        ("a,b\n", "header but no rows"),
        ("a,b\n1,2\n3\n", "x.csv:3: this row has 1 fields, the header has 2"),
        ("a,b\n1,2\n\n3,4,5\n", "x.csv:4: this row has 3 fields, the header has 2"),
        ('a,b\n1,"two\nlines"\n3\n', "x.csv:4: this row has 1 fields"),
        ("a,a\n1,2\n", "x.csv:1: two columns are called 'a'"),
        ("a;b\n1;2\n", "separator: ';'"),
        (b"a,b\n1,\xff\xfe\n", "UTF-8"),
        (b"\x00\x01\x02", "x.csv"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_table(write(tmp_path, content))


def test_a_broken_parquet_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Parquet"):
        read_table(write(tmp_path, b"not parquet", "x.parquet"))
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path)


def test_lines_are_counted_over_blank_lines_and_quoted_line_ends(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, 'a,b\n1,"x\ny"\n\n2,z\n3,z\n'))
    assert [table.where(row) for row in range(3)] == ["x.csv:2", "x.csv:5", "x.csv:6"]
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "x.parquet")
    assert read_table(tmp_path / "x.parquet").where(0) == "x.parquet, row 0"


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "status,age\n1,2\n"))
    with pytest.raises(DataError, match=r"x.csv: target column 'Status' is missing.*Did you mean 'status'"):
        table.column("Status", "target column")


@pytest.mark.parametrize(
    ("series", "kind"),
    [
        (pd.Series([1, 2], dtype="Int32"), "i"),
        (pd.Series([1, None], dtype="Int64"), "f"),
        (pd.Series([True, None], dtype="boolean"), "O"),
        (pd.Series([True, False], dtype="boolean"), "b"),
        (pd.Series(["a", "b"], dtype="category"), "O"),
        (pd.Series(["a", None], dtype="string"), "O"),
        (pd.Series([1, 2], dtype="category"), "O"),
        (pd.to_datetime(pd.Series(["2020-01-01"])).dt.tz_localize("UTC"), "M"),
    ],
)
def test_pandas_own_types_become_numpys(series: pd.Series, kind: str) -> None:
    assert values_of(series).dtype.kind == kind
    assert Table(pd.DataFrame({"a": series})).where(0) is None
