"""Users' own files: tables (.npz, .csv) to train on, and images to predict."""

import contextlib
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jevo.data.datasets import load, stratified
from jevo.data.images import read_images
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
    assert data.train.x.dtype == np.float32
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
        ({"y_train": np.eye(40)}, "one label per example"),
        ({"y_train": np.zeros(40)}, "two classes"),
        ({"y_train": np.linspace(0, 1, 40)}, "whole numbers"),
        ({"x_train": np.zeros(40)}, "x_train must be [examples, ...]"),
        ({"x_train": np.full((40, 4), "a")}, "numbers"),
        ({"x_train": np.full((40, 4), None)}, "plain arrays"),
        ({"x_train": np.where(np.arange(160).reshape(40, 4) == 9, np.nan, 0)}, "x_train[2, 1] is nan"),
        ({"x_train": np.full((40, 4), 1e300)}, "x_train[0, 0] is 1e+300"),
        ({"x_test": np.zeros((3, 5)), "y_test": Y[:3]}, "x_test has shape (5,)"),
        ({"x_test": np.zeros((3, 4)), "y_test": Y[:3] + 1}, "class '3'"),
        ({"y_train": np.arange(40)}, "must keep one for training"),
    ],
)
def test_npz_faults(tmp_path, changes, says):
    assert says in fails(load, save(tmp_path, **changes))


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
    assert data.train.x.dtype == np.float32
    assert np.array_equal(data.train.y, 1 - data.train.x[:, 0] % 2)


def test_csv_with_a_label_column_in_front_row_names_and_semicolons(tmp_path):
    rows = "".join(f'"r{i}";{i % 3 * 5};{i}\n\n' for i in range(30))
    data = load(csv(tmp_path, f'"";target;b\n{rows}'))
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


GREY = (28, 28, 1)


def picture(tmp_path, array, name="image.png", mode=None, **options):
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(tmp_path / name, **options)
    return tmp_path / name


def test_a_picture_of_the_right_size_is_taken_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    colour, grey = picture(tmp_path, pixels), picture(tmp_path, pixels[..., 0], "grey.png")
    assert np.array_equal(read_images([colour], (28, 28, 3))[0], pixels)
    read = read_images([str(grey), grey], GREY)
    assert read.shape == (2, *GREY)
    assert read.dtype == np.uint8
    assert np.array_equal(read[1, ..., 0], pixels[..., 0])
    assert read_images([grey], (28, 28)).shape == (1, 28, 28)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
@pytest.mark.parametrize("shape", [GREY, (32, 16, 3)])
def test_every_mode_and_size(tmp_path, mode, shape):
    half = np.zeros((64, 64), np.uint8)
    half[:32] = 255
    deep = mode == "I;16"  # Pillow converts nothing to it
    path = picture(tmp_path, half.astype(np.uint16) * 257 if deep else half, mode=None if deep else mode)
    image = read_images([path], shape)[0]
    middle = shape[0] // 2
    assert image.shape == shape
    assert (image[: middle - 2] == 255).all()
    assert (image[middle + 2 :] == 0).all()


def test_jpeg_transparency_and_the_range_of_the_data(tmp_path):
    white = np.full((40, 30, 3), 255, np.uint8)
    assert (read_images([picture(tmp_path, white, "a.jpg")], GREY) == 255).all()
    assert (read_images([picture(tmp_path, white, "a.jpg", mode="CMYK")], (8, 8, 3)) > 250).all()
    assert (read_images([picture(tmp_path, white)], (8, 8, 1), white=16) == 16).all()
    clear = np.full((9, 9, 4), 255, np.uint8)
    clear[..., 3] = 0
    assert (read_images([picture(tmp_path, clear)], GREY) == 0).all()


def test_a_photo_is_turned_as_its_camera_says(tmp_path):
    half = np.zeros((64, 64), np.uint8)
    half[:32] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # orientation: upside down
    image = read_images([picture(tmp_path, half, "a.jpg", exif=exif)], GREY)[0]
    assert (image[:12] < 5).all()
    assert (image[16:] > 250).all()


def test_npy(tmp_path):
    one, many, flat = tmp_path / "one.npy", tmp_path / "many.npy", tmp_path / "flat.npy"
    np.save(one, np.ones((28, 28), np.uint8))
    np.save(many, np.full((3, *GREY), 2, np.uint8))
    np.save(flat, np.zeros((5, 28, 28)))
    read = read_images([one, many], GREY)
    assert read.shape == (4, *GREY)
    assert read.dtype == np.uint8
    assert read[:, 0, 0, 0].tolist() == [1, 2, 2, 2]
    assert read_images([one, flat], GREY).dtype == np.float32
    np.save(one, np.arange(178))
    assert read_images([one], (178,)).shape == (1, 178)


def test_images_that_cannot_be_used(tmp_path):
    good = picture(tmp_path, np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8))
    raw = good.read_bytes()
    assert "no file" in fails(read_images, [], GREY)
    assert "no such file" in fails(read_images, [tmp_path / "none.png"], GREY)
    assert "no such file" in fails(read_images, [tmp_path], GREY)
    assert ".npy" in fails(read_images, [good], (178,))
    for bad in (b"", b"text", raw[:100], raw[:-200], raw[:60] + b"\0\0\0" + raw[63:]):
        (tmp_path / "bad.png").write_bytes(bad)
        assert "damaged" in fails(read_images, [tmp_path / "bad.png"], GREY)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.gif")
    assert "no PNG, JPEG" in fails(read_images, [tmp_path / "a.gif"], GREY)
    arrays = {
        "shape": np.zeros((3, 5)),
        "none": np.zeros((0, *GREY)),
        "text": np.full(GREY, "a"),
        "nan": np.full(GREY, np.nan),
        "object": np.array([None], object),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array, allow_pickle=True)
        assert f"{name}.npy" in fails(read_images, [tmp_path / f"{name}.npy"], GREY)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "nan.npy").read_bytes()[:200])
    assert "damaged" in fails(read_images, [tmp_path / "cut.npy"], GREY)


@pytest.mark.parametrize("limit", [50, 500])  # beyond twice the limit, and within it: an error, a warning
def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch, limit):
    path = picture(tmp_path, np.zeros((28, 28), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "too many pixels" in fails(read_images, [path], GREY)
