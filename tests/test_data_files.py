"""Users' own files: tables (.npz, .csv) to train on, and images to predict."""

import contextlib
import csv as python_csv
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jevo.data import delimited
from jevo.data.datasets import load, stratified
from jevo.errors import InputError

REAL = Path(os.environ.get("JEVO_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
Y = np.arange(40) % 3


def table(**changes):
    """The arrays of a good `.npz`; a change of None leaves one out."""
    arrays = {"x_train": np.arange(160.0).reshape(40, 4), "y_train": Y} | changes
    return {key: value for key, value in arrays.items() if value is not None}


def save(tmp_path, **changes):
    np.savez(tmp_path / "own.npz", **table(**changes))
    return str(tmp_path / "own.npz")


def fails(action, *arguments, **named):
    with pytest.raises(InputError) as caught:
        action(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_npz_with_train_only(tmp_path):
    path = save(tmp_path)
    data = load(path)
    assert [len(split.y) for split in (data.train, data.validation, data.test)] == [29, 3, 8]
    assert data.values.dtype == "float64"
    assert data.train.y.dtype == np.int32
    assert data.classes == ("0", "1", "2")
    every = np.concatenate([data.train.x, data.validation.x, data.test.x])
    assert np.array_equal(np.sort(every[:, 0]), np.arange(0, 160, 4))
    labels = np.concatenate([data.train.y, data.validation.y, data.test.y])
    assert np.array_equal(labels, (every[:, 0] / 4) % 3)  # each example kept its own label
    assert "test: 8 examples drawn, stratified" in data.note
    assert np.array_equal(load(path).train.x, data.train.x)


def test_npz_with_all_parts(tmp_path):
    x, y = np.zeros((6, 4), np.uint8), np.array(["b", "a", "b", "a", "b", "a"])
    named = {f"{axis}_{part}": v for part in ("validation", "test") for axis, v in (("x", x), ("y", y))}
    data = load(save(tmp_path, x_train=x, y_train=y, **named), validation=3)
    assert data.classes == ("a", "b")
    assert data.train.y.tolist() == [1, 0, 1, 0, 1, 0]
    assert data.train.x.dtype == np.uint8
    assert len(data.validation.y) == len(data.test.y) == 6
    assert "its own validation part was used" in data.note


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"y_train": None}, "y_train is missing"),
        ({"x_train": None, "y_train": None}, "x_train is missing"),
        ({"x_test": np.zeros((2, 4))}, "y_test is missing"),
        ({"y_train": Y[:-1]}, "40 examples and y_train has 39"),
        ({"y_train": np.eye(40) * 2}, "one label per example"),
        ({"y_train": np.zeros(40)}, "two classes"),
        ({"y_train": np.linspace(0, 1, 40)}, "whole numbers"),
        ({"x_train": np.zeros(40)}, "x_train must be [examples, ...]"),
        ({"x_train": np.full((40, 4), "a")}, "numbers"),
        ({"x_train": np.full((40, 4), None)}, "plain arrays"),
        ({"x_train": np.where(np.arange(160).reshape(40, 4) == 9, np.nan, 0)}, "x_train[2, 1] is nan"),
        ({"x_train": np.full((40, 4), 1e300)}, "x_train[0, 0] is 1e+300"),
        ({"x_test": np.zeros((3, 5)), "y_test": Y[:3]}, "x_test has shape (5,)"),
        ({"x_test": np.zeros((3, 4)), "y_test": Y[:3] + 1}, "class '3'"),
        ({"y_train": np.arange(40)}, "occur once only"),
    ],
)
def test_npz_faults(tmp_path, changes, says):
    assert says in fails(load, save(tmp_path, **changes))


@pytest.mark.parametrize("scale", [1 / 255, 100.0])
def test_npz_parts_are_on_one_scale(tmp_path, scale):
    """Pictures are refused; of a table's rows it is said, as a few may well be far out."""
    pictures = np.random.default_rng(0).integers(0, 256, (40, 4, 4)).astype(np.uint8)
    other = {"x_test": (pictures[:9] * scale).astype(np.float32), "y_test": Y[:9]}
    said = fails(load, save(tmp_path, x_train=pictures, **other))
    assert "test has values from" in said
    assert "bring all parts to one scale" in said
    rows = pictures.reshape(40, 16)
    assert "test has values from" in load(save(tmp_path, x_train=rows, **other | {"x_test": rows[:9] * scale})).note
    assert "has values" not in load(save(tmp_path, x_train=pictures, x_test=pictures[:9], y_test=Y[:9])).note


def test_an_outlier_in_a_part_that_is_drawn_is_said(tmp_path):
    series = np.random.default_rng(0).normal(size=(40, 6, 3)).astype(np.float32)
    found = []
    for i in range(40):
        data = load(save(tmp_path, x_train=series * np.where(np.arange(40) == i, 1000, 1)[:, None, None]))
        found.append("far outside those of the train examples" in data.note)
    assert 0 < sum(found) < 40


@pytest.mark.parametrize("name", ["x_val", "X_test", "Y_TEST", "y_valid", "xtest", "x_dev"])
def test_npz_names_that_are_meant_for_a_part_are_refused(tmp_path, name):
    said = fails(load, save(tmp_path, **{name: np.zeros((6, 4))}))
    assert f"{name!r} is no name of a part" in said
    data = load(save(tmp_path, class_names=np.array(["a"]), x_mean=np.zeros(4)))
    assert "not read: class_names, x_mean" in "; ".join(data.taken)


def test_codes_with_an_e_are_no_numbers(tmp_path):
    codes = ["0E1", "0E2", "1A0", "1E3", "10"]
    rows = "".join(f"{i},{2 * i % 7},{codes[i % 5]}\n" for i in range(50))
    assert set(load(csv(tmp_path, f"a,b,kind\n{rows}")).classes) == set(codes)
    said = fails(load, csv(tmp_path, "a,b,kind\n" + rows.replace("1A0", "1000")))
    assert "look like one class written in two ways" in said
    # As NumPy writes a large one.
    rows = "".join(f"{i},{2 * i % 7},{('1e+16', '10000000000000000', '3')[i % 3]}\n" for i in range(50))
    assert load(csv(tmp_path, f"a,b,kind\n{rows}")).classes == ("3", "10000000000000000")


def test_labels_have_the_decimal_sign_of_their_file(tmp_path):
    def of(labels):
        rows = "".join(f"{i},5;{i * i % 11};{labels[i % len(labels)]}\n" for i in range(40))
        return csv(tmp_path, f"a;b;kind\n{rows}")

    assert load(of(["1,0", "1", "2,0", "2", "10,0"])).classes == ("1", "2", "10")
    assert "regression" in fails(load, of(["10,5", "11,5", "12,25"]))
    assert load(of(["1,2", "b"])).classes == ("1,2", "b")


def test_thousands_with_points_are_refused(tmp_path):
    def of(numbers, sign=";"):
        rows = "".join(f"{numbers[i % len(numbers)]}{sign}{i * i % 11}{sign}{'ab'[i % 2]}\n" for i in range(40))
        return csv(tmp_path, f"price{sign}b{sign}kind\n{rows}")

    assert "'1.250' may have a thousands separator" in fails(load, of(["950", "1.250", "12.500"]))
    for fine in (["950.000", "1.250", "12.500"], ["950", "1.25", "12.5"], ["0.950", "1.250", "1"], ["950", "12500"]):
        load(of(fine))
    load(of(["950", "1.250"], ","))


def test_npz_damaged(tmp_path):
    path = Path(save(tmp_path, x_train=np.ones((40, 1), np.uint8)))
    raw = path.read_bytes()
    for damaged in (b"", b"PK", raw[:-30], raw[: len(raw) // 2]):
        path.write_bytes(damaged)
        assert "damaged" in fails(load, str(path))
    np.save(tmp_path / "bare.npy", np.zeros(3))
    (tmp_path / "bare.npy").rename(path)
    assert "damaged" in fails(load, str(path))
    assert "no such file" in fails(load, str(tmp_path / "none.npz"))


def test_npz_with_any_flipped_byte_loads_or_says_so(tmp_path):
    path = Path(save(tmp_path, x_train=np.ones((40, 1), np.uint8)))
    raw = path.read_bytes()
    for i in range(0, len(raw), 3):
        path.write_bytes(raw[:i] + bytes([raw[i] ^ 4]) + raw[i + 1 :])
        with contextlib.suppress(InputError):  # anything else is a failure
            load(str(path))


def csv(tmp_path, text, encoding="utf-8"):
    (tmp_path / "own.csv").write_text(text, encoding)
    return str(tmp_path / "own.csv")


ROWS = "".join(f"{i},{i / 2},{'cat' if i % 2 else 'dog'}\n" for i in range(20))


@pytest.mark.parametrize("label", ["label", "Class", "TARGET", "y", "whatever"])
def test_csv(tmp_path, label):
    data = load(csv(tmp_path, f"a,b,{label}\n{ROWS}", "utf-8-sig"))
    assert data.classes == ("cat", "dog")
    assert data.train.x.shape == (14, 2)
    assert data.values.dtype == "float64"
    assert np.array_equal(data.train.y, 1 - data.train.x[:, 0] % 2)


def test_csv_with_a_label_column_in_front_row_names_and_semicolons(tmp_path):
    rows = "".join(f'"r{i}";{i % 3 * 5};{i}\n\n' for i in range(30))
    data = load(csv(tmp_path, f'"";target;b\n{rows}'), label="target")
    assert data.classes == ("0", "5", "10")
    assert data.train.x.shape[1:] == (1,)
    assert data.note.startswith("the unnamed first column (row names) was dropped; ")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1 must name the columns"),
        ("1,2,3\n4,5,6\n", "line 1 must name the columns"),
        ("a,b,y\n", "no rows"),
        ("y\n1\n", "at least one feature"),
        ("a,b,y\n1,2,3\n1,2\n", "line 3 has 2 cells"),
        ("a,b,y\n1,2,3\n1,red,3\n", "column 'b', line 3: 'red'"),
        ("a,b,y\n1,,3\n", "column 'b', line 2: ''"),
        ("a,b,y\n1,nan,3\n", "column 'b', line 2: 'nan'"),
        ("a,b,y\n-1e39,1,3\n", "column 'a', line 2: '-1e39'"),
        ("a,b,y\n1,2,\n", "line 2 has no label in column 'y'"),
        ("a,b,y\n1,2,x\n3,4,x\n", "two classes"),
    ],
)
def test_csv_faults(tmp_path, text, says):
    assert says in fails(load, csv(tmp_path, text))


def test_csv_in_another_encoding(tmp_path):
    assert "cannot be read" in fails(load, csv(tmp_path, "größe,y\n1,2\n", "latin-1"))


@pytest.mark.skipif(not REAL.is_dir(), reason="no folder of real data")
def test_real_epileptic_csv():
    data = load(str(REAL / "epileptic" / "data-500.csv"))
    assert [split.x.shape for split in (data.train, data.validation, data.test)] == [
        (359, 178),
        (40, 178),
        (100, 178),
    ]
    assert data.classes == ("1", "2", "3", "4", "5")
    assert "row names" in data.note


def reads(tmp_path, text, **named):
    """The classes and the features of a table."""
    data = load(csv(tmp_path, text), **named)
    x = np.concatenate([data.train.x, data.validation.x, data.test.x])
    y = np.concatenate([data.train.y, data.validation.y, data.test.y])
    return data, sorted((*row, data.classes[i]) for row, i in zip(x.tolist(), y, strict=True))


CELLS = [(i % 11 + i / 8, -i * 3.5, "yes" if i % 3 else "no") for i in range(40)]


def written(sign=",", decimal=".", end="\n", header=("a", "b", "c"), tail="", quote=""):
    rows = [[*(str(cell).replace(".", decimal) for cell in row)] for row in CELLS]
    lines = [[f"{quote}{cell}{quote}" for cell in line] for line in [list(header)] * bool(header) + rows]
    return "".join(sign.join(line) + tail + end for line in lines)


@pytest.mark.parametrize(
    "text",
    [
        *(written(sign) for sign in ",;\t|"),
        *(written(end=end) for end in ("\r\n", "\r", "\n\n")),
        written(quote='"'),
        written(";", decimal=","),
        written(quote='"', decimal=","),
        written(tail=","),
        "# of a machine\n\n#, twice\n" + written(),
        "sep=;\n" + written(";"),
        written(header=('"a\n(cm)"', "größe", "c")),
        written()[:-1],
    ],
)
def test_csv_dialects_give_the_same_table(tmp_path, text):
    assert reads(tmp_path, text)[1] == sorted(CELLS)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_csv_encodings(tmp_path, encoding):
    data = load(csv(tmp_path, written(header=("a", "b", "größe")), encoding))
    assert data.taken[0] == "label: column 'größe'; 2 classes: no 14, yes 26"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (written(";").replace("a;b;c", "a,b,c"), "the header is divided by ',', the rows below by ';'"),
        (written(" "), "divided by spaces"),
        (written(tail=",").replace("c,", "c"), "line 2 has 4 cells, the header 3; is there a ',' too many"),
        (written().replace("c\n", "c,\n"), "too many at the end of the header"),
        (written(tail=",").replace("no,\n", "no,x\n"), "no name"),
        (written(tail=",") + "1,2,no,\n" * 200 + "1,2,no,x\n", "line 242: 'x' is in a column without a name"),
        (written(header=("a", "a", "c")), "two columns are called 'a'"),
        (written(header=("a", "", "c")), "column 2 has no name"),
        (written(header=()), "line 1 must name the columns"),
        (written(header=()).replace("0.0", "NA", 1), "line 1 must name the columns"),
        (written() + '1,2,"no\n', 'line 42 has a " that is never closed'),
        (written() + '1,2,"no\n3,4,"yes\n', "is a quote not closed?"),
        (written() + "1,\0,no\n", "line 42 has a NUL byte"),
        (written() + "5%,2,no\n", "column 'a', line 42: '5%' is no finite number (it has a percent sign)"),
        (written() + "2020-01-02,2,no\n", "a date"),
        (written() + '"1,234,567",2,no\n', "thousands separators"),
        (written() + "0x1A,2,no\n", "a hexadecimal number"),
        (written() + "1_000,2,no\n", "line 42: '1_000'"),
        (written() + "inf,2,no\n", "line 42: 'inf'"),
        (written() + "1e400,2,no\n", "line 42: '1e400'"),
        (written().replace("\n", "\n\n") + "x,2,no\n", "column 'a', line 83: 'x'"),
        ("a;b;c\n" + "1,234;5,678;no\n2,345;6,789;yes\n" * 9, "a decimal comma or a thousands separator"),
        ("PK\3\4", "an Excel or zip file"),
    ],
)
def test_csv_that_is_no_plain_table(tmp_path, text, says):
    assert says in fails(load, csv(tmp_path, text))


@given(
    st.lists(
        st.tuples(st.floats(-1e30, 1e30), st.integers(-(10**9), 10**9), st.sampled_from(["a", "b c", 'd"e', "f,g"])),
        min_size=12, max_size=40,
    ),
    st.sampled_from(",;|"),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_pyarrow_and_the_slow_reader_agree(tmp_path_factory, rows, sign):
    path = tmp_path_factory.mktemp("t") / "own.csv"
    with path.open("w", newline="") as file:
        writer = python_csv.writer(file, delimiter=sign)
        writer.writerows([("a", "b", "c"), *rows])
    with contextlib.suppress(InputError):  # an odd number of quotes
        text = delimited.open_text(path, header=True)
        fast, slow = text._fast([0, 1], 2, None), text._slow([0, 1], 2, None)
        x, labels = text.read([0, 1], 2)
        assert np.array_equal(x, np.array([row[:2] for row in rows]))
        assert [labels.values[i] for i in labels.codes] == [row[2] for row in rows]
        assert fast is None or np.array_equal(fast[0], slow[0])


def test_the_label_column_is_named_or_the_last(tmp_path):
    text = "y,b,kind\n" + "".join(f"{i % 4},{i * 0.5},{'oak' if i % 3 else 'fir'}\n" for i in range(40))
    data = load(csv(tmp_path, text))
    assert data.classes == ("fir", "oak")
    assert data.taken == (
        "label: column 'kind'; 2 classes: fir 14, oak 26",
        "features: 2 columns: y, b",
        "column 'y' is a feature; if it holds the labels: label y",
    )
    numbers = text.replace("oak", "1").replace("fir", "2")
    for label in ("y", "0", "-3"):
        assert load(csv(tmp_path, numbers), label=label).classes == ("0", "1", "2", "3")
    assert load(csv(tmp_path, numbers.replace("kind", "0")), label="0").classes == ("1", "2")  # a name comes first
    assert "did you mean kind?" in fails(load, csv(tmp_path, text), label="kin")
    assert "0 to 2" in fails(load, csv(tmp_path, text), label="3")
    assert "with label y" in fails(load, csv(tmp_path, text.replace("oak", "0.5").replace("fir", "1")))
    assert "labels of its own" in fails(load, "digits", label="y")
    assert "y_train" in fails(load, save(tmp_path), label="y")


def test_without_a_header(tmp_path):
    assert reads(tmp_path, written(header=()), header=False)[1] == sorted(CELLS)
    assert load(csv(tmp_path, written(header=())), label="2", header=False).classes == ("no", "yes")
    assert "looks like a header" in fails(load, csv(tmp_path, written()), header=False)
    assert reads(tmp_path, written(header=("0", "1", "c")))[1] == sorted(CELLS)  # numbered columns are a header


def test_columns_that_count_the_rows_are_said(tmp_path):
    rows = "".join(f"{i + 1},{i * 7 % 40},{i % 5},{'a' if i % 2 else 'b'}\n" for i in range(40))
    taken = load(csv(tmp_path, f"id,mixed,five,c\n{rows}")).taken
    assert [line.split("'")[1] for line in taken if "row number" in line] == ["id", "mixed"]


LABELS = {
    "regression": [0.5, 1.0, 1.5],
    "no label": ["a", "b", "NA"],
    "has no label": ["a", "b", "?"],
    "once only": [*range(20)],
    "two ways": ["05", "5", "6"],
    "two classes": ["5", "5.0", "+5"],
}


@pytest.mark.parametrize("says", LABELS)
@pytest.mark.parametrize("kind", ["csv", "npz", "parquet"])
def test_one_rule_for_labels_in_every_file(tmp_path, kind, says):
    y = (LABELS[says] * 20)[: 20 if says == "once only" else 60]
    assert says in fails(load, stored(tmp_path, kind, y))


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        ([5, 5.0, 7], ("5", "7")),
        (["5", "5.0", " 7 "], ("5", "7")),
        (["10", "9", "x"], ("9", "10", "x")),
        (["05", "06", "05"], ("05", "06")),
        (["+", "-", "+"], ("+", "-")),
        (["none", "mild", "none"], ("mild", "none")),
        ([True, False, True], ("False", "True")),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "npz", "parquet"])
def test_classes_are_the_same_from_every_file(tmp_path, kind, y, classes):
    data = load(stored(tmp_path, kind, y * 10))
    assert data.classes == classes
    assert len(data.taken) >= 2


def stored(tmp_path, kind, y):
    x = np.arange(2.0 * len(y)).reshape(-1, 2) % 7
    if kind == "csv":
        return csv(tmp_path, "a,b,c\n" + "".join(f"{a},{b},{label}\n" for (a, b), label in zip(x, y, strict=True)))
    if kind == "npz":
        return save(tmp_path, x_train=x, y_train=np.array(y))
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"a": x[:, 0], "b": x[:, 1], "c": y}), tmp_path / "own.parquet")
    return str(tmp_path / "own.parquet")


@pytest.mark.parametrize("y", [Y[:, None], np.eye(3)[Y], np.eye(3, dtype=bool)[Y], Y.astype("S"), Y.astype(float)])
def test_npz_labels_in_other_forms(tmp_path, y):
    plain, other = load(save(tmp_path)), load(save(tmp_path, y_train=y))
    assert other.classes == plain.classes
    assert np.array_equal(other.train.y, plain.train.y)


def test_npz_keeps_its_type(tmp_path):
    x = np.arange(160).reshape(40, 4)
    kept = {"u1": "u1", "u2": "u2", "i8": "i8", "f4": "f4", "f8": "f8", ">f4": "f4", ">u2": "u2", "f2": "f4", "?": "u1"}
    for dtype, found in kept.items():
        assert load(save(tmp_path, x_train=x.astype(dtype))).values.dtype == np.dtype(found).name
    for bad in ("c16", "S3", "M8[s]"):
        assert "must hold numbers" in fails(load, save(tmp_path, x_train=x.astype(bad)))


def test_parquet(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "own.parquet"
    n = 30
    good = {
        "a": list(range(n)),
        "b": [i / 4 for i in range(n)],
        "c": pa.array(["x", "y", "z"] * 10).dictionary_encode(),
    }

    def given_with(**changes):
        parquet.write_table(pa.table(good | changes), path)
        return str(path)

    data = load(given_with())
    assert data.classes == ("x", "y", "z")
    assert data.values.dtype == "float64"
    assert load(given_with(), label="c").classes == data.classes
    assert "column 'b', row 0: is empty" in fails(load, given_with(b=[None, *range(1, n)]))
    assert "column 'b' holds string" in fails(load, given_with(b=["1"] * n))
    assert "column 'b' holds timestamp" in fails(load, given_with(b=pa.array(range(n), pa.timestamp("s"))))
    assert "row 3 has no label" in fails(load, given_with(c=["x", "y", "y", None, *["x"] * (n - 4)]))
    raw = Path(given_with()).read_bytes()
    for damaged in (b"", raw[:-9], raw[: len(raw) // 2]):
        path.write_bytes(damaged)
        assert "damaged" in fails(load, str(path))


@given(
    y=st.lists(st.integers(0, 4), min_size=2, max_size=60),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 9),
)
@settings(deadline=None)
def test_stratified(y, share, seed):
    y = np.array(y)
    n = max(1, round(share * len(y)))
    if n > len(y) - len(set(y.tolist())):
        assert "must keep one" in fails(stratified, y, n, seed)
        return
    rest, drawn = stratified(y, n, seed)
    assert sorted([*rest, *drawn]) == list(range(len(y)))
    assert len(drawn) == n
    assert set(y[rest]) == set(y)
    if n <= len(y) / 2 and np.bincount(y)[np.unique(y)].min() > 2:
        counts = np.bincount(y[drawn], minlength=5) - n * np.bincount(y, minlength=5) / len(y)
        assert abs(counts).max() < 1  # each class within one example of its share
