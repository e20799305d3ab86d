"""Pictures and arrays as a data set's numbers, and what these are."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.preprocessing import StandardScaler

from jevo.data.datasets import load
from jevo.data.images import read_examples, write_picture
from jevo.data.task import to_device
from jevo.data.values import Values, black_and_white, moments, values_of
from jevo.errors import InputError
from jevo.predict import Request, predict, reconstruction_names
from jevo.runs.champion import Answers


def fails(action, *arguments, **named):
    with pytest.raises(InputError) as caught:
        action(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def values(shape, white=255.0, dtype="uint8", black=0.0):
    """What the numbers of a data set are whose examples have a shape."""
    return values_of(np.zeros((1, *shape), dtype), black, white)._replace(low=black, high=white)


def read(path, shape, **of):
    """The examples in one file."""
    return read_examples(path, shape, values(shape, **of))[0]


GREY = (28, 28, 1)


def picture(tmp_path, array, name="image.png", mode=None, **options):
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(tmp_path / name, **options)
    return tmp_path / name


def test_a_picture_of_the_right_size_is_taken_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    colour, grey = picture(tmp_path, pixels), picture(tmp_path, pixels[..., 0], "grey.png")
    assert np.array_equal(read(colour, (28, 28, 3))[0], pixels)
    found = read(str(grey), GREY)
    assert found.shape == (1, *GREY)
    assert found.dtype == np.uint8
    assert np.array_equal(found[0, ..., 0], pixels[..., 0])
    assert read(grey, (28, 28)).shape == (1, 28, 28)
    assert np.array_equal(read(colour, (3, 28, 28))[0], pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
@pytest.mark.parametrize("shape", [GREY, (32, 16, 3)])
def test_every_mode_and_size(tmp_path, mode, shape):
    half = np.zeros((64, 64), np.uint8)
    half[:32] = 255
    deep = mode == "I;16"  # Pillow converts nothing to it
    path = picture(tmp_path, half.astype(np.uint16) * 257 if deep else half, mode=None if deep else mode)
    image = read(path, shape)[0]
    middle = shape[0] // 2
    assert image.shape == shape
    assert (image[: middle - 2] == 255).all()
    assert (image[middle + 2 :] == 0).all()


def test_jpeg_transparency_and_the_range_of_the_data(tmp_path):
    white = np.full((40, 30, 3), 255, np.uint8)
    assert (read(picture(tmp_path, white, "a.jpg"), GREY) == 255).all()
    assert (read(picture(tmp_path, white, "a.jpg", mode="CMYK"), (8, 8, 3)) > 250).all()
    assert (read(picture(tmp_path, white), (8, 8, 1), white=16.0) == 16).all()
    clear = np.full((9, 9, 4), 255, np.uint8)
    clear[..., 3] = 0
    assert (read(picture(tmp_path, clear), GREY) == 255).all()


def test_a_photo_is_turned_as_its_camera_says(tmp_path):
    half = np.zeros((64, 64), np.uint8)
    half[:32] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # orientation: upside down
    image = read(picture(tmp_path, half, "a.jpg", exif=exif), GREY)[0]
    assert (image[:12] < 5).all()
    assert (image[16:] > 250).all()


def test_npy(tmp_path):
    one, many, flat = tmp_path / "one.npy", tmp_path / "many.npy", tmp_path / "flat.npy"
    np.save(one, np.ones((28, 28), np.uint8))
    np.save(many, np.full((3, *GREY), 2, np.uint8))
    np.save(flat, np.zeros((5, 28, 28)))
    found = read(many, GREY)
    assert found.shape == (3, *GREY)
    assert found.dtype == np.uint8
    assert found[:, 0, 0, 0].tolist() == [2, 2, 2]
    assert read(one, GREY).shape == (1, *GREY)
    assert read(flat, GREY).dtype == np.float64
    np.save(one, np.arange(178))
    assert read(one, (178,), dtype="float32").shape == (1, 178)


def test_images_that_cannot_be_used(tmp_path):
    good = picture(tmp_path, np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8))
    raw = good.read_bytes()
    assert "no such file" in fails(read, tmp_path / "none.png", GREY)
    assert "no such file" in fails(read, tmp_path, GREY)
    assert ".npy" in fails(read, good, (178,))
    for bad in (b"", b"text", raw[:100], raw[:-200], raw[:60] + b"\0\0\0" + raw[63:]):
        (tmp_path / "bad.png").write_bytes(bad)
        assert "damaged" in fails(read, tmp_path / "bad.png", GREY)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.gif")
    assert "no PNG, JPEG" in fails(read, tmp_path / "a.gif", GREY)
    arrays = {
        "shape": np.zeros((3, 5)),
        "none": np.zeros((0, *GREY)),
        "text": np.full(GREY, "a"),
        "nan": np.full(GREY, np.nan),
        "object": np.array([None], object),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array, allow_pickle=True)
        assert f"{name}.npy" in fails(read, tmp_path / f"{name}.npy", GREY)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "nan.npy").read_bytes()[:200])
    assert "damaged" in fails(read, tmp_path / "cut.npy", GREY)


@pytest.mark.parametrize("limit", [50, 500])  # beyond twice the limit, and within it: an error, a warning
def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch, limit):
    path = picture(tmp_path, np.zeros((28, 28), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "too many pixels" in fails(read, path, GREY)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_picture_made_of_the_data_is_the_data(tmp_path_factory, data):
    """Whatever their type, range, channels and order: what was saved of an array comes back as the array."""
    path = tmp_path_factory.mktemp("pictures") / "image.png"
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    channels = data.draw(st.sampled_from([1, 1, 3, 4]))
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(5, 9))
    deep = channels == 1 and data.draw(st.booleans())
    bits = data.draw(st.sampled_from([10, 12, 14, 16])) if deep else 8
    pixels = draw.integers(0, 2**bits, (40, height, width, channels)).astype(np.uint16 if deep else np.uint8)
    pixels.flat[:2] = 0, 2**bits - 1  # The whole range.
    if channels == 4:
        pixels[..., 3] = 255
    top = 2.0**bits - 1
    form = data.draw(st.sampled_from(["as they are", "0 to 1", "-1 to 1"] if bits in (8, 16) else ["as they are"]))
    x = {"as they are": pixels, "0 to 1": np.float32(pixels / top), "-1 to 1": np.float32(pixels / top * 2 - 1)}[form]
    first = channels == 3 and height > 4 and data.draw(st.booleans())
    x = x.transpose(0, 3, 1, 2) if first else x
    if deep:
        Image.fromarray(pixels[0, ..., 0]).save(path)
    else:
        Image.fromarray(pixels[0].squeeze(-1) if channels == 1 else pixels[0]).save(path)
    found, notes = read_examples(path, x.shape[1:], values_of(x))
    assert found.dtype == x.dtype
    if bits == 16 and form != "as they are" and pixels[0].max() < 2**14:
        assert notes  # Read as fewer bits, and said.
        return
    np.testing.assert_allclose(found[0], x[0], atol=0 if form == "as they are" else 1e-6)
    inverted = read_examples(path, x.shape[1:], values_of(x), invert=True)[0]
    black, white = values_of(x).ends
    expected = black + white - x[0].astype(np.float64)
    if channels == 4:
        expected[..., 3] = x[0, ..., 3]
    np.testing.assert_allclose(inverted[0], expected, atol=1e-5)


def png(path, pixels, bits, kind, clear=None):
    """Writes a PNG of any depth and kind of colour, which Pillow does not."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    def line(row):
        if bits == 16:
            return row.astype(">u2").tobytes()
        return np.packbits((row.reshape(-1, 1) >> np.arange(bits - 1, -1, -1)) & 1).tobytes()

    height, width = pixels.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
        + (b"" if clear is None else chunk(b"tRNS", np.asarray(clear, ">u2").tobytes()))
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + line(row) for row in pixels))) + chunk(b"IEND", b"")
    )  # fmt: skip
    return path


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_sixteen_bits_are_kept_in_every_kind_of_png(tmp_path_factory, data):
    """Grey or colour, with alpha, or with a colour that stands for nothing: no bit is lost, on white."""
    path = tmp_path_factory.mktemp("deep") / "image.png"
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    kind, colours = data.draw(st.sampled_from([(0, 1), (2, 3), (4, 1), (6, 3)]))
    bits, keyed = data.draw(st.sampled_from([10, 12, 16])), kind in (0, 2) and data.draw(st.booleans())
    top = 2**bits - 1
    colour = draw.integers(0, top, (4, 5, colours))
    colour[0, 0] = top
    opaque = draw.integers(0, 2, (4, 5, 1))
    opaque[0, 1] = 1
    if keyed:
        opaque = (colour != colour[2, 2]).any(axis=2, keepdims=True).astype(int)
    elif kind < 4:
        opaque[:] = 1
    png(path, np.concatenate([colour, opaque * top], axis=2) if kind >= 4 else colour, 16, kind,
        colour[2, 2] if keyed else None)  # fmt: skip
    expected = np.where(opaque == 1, colour, top)
    shape = (4, 5, colours)
    deep, said = read_examples(path, shape, values(shape, float(top), "uint16"))
    np.testing.assert_array_equal(deep[0], expected)
    assert said == []
    eight, said = read_examples(path, shape, values(shape))
    np.testing.assert_array_equal(eight[0], np.round(expected / top * 255))
    assert [f"read as {bits} bits in a file of 16" in note for note in said] == [True] * (bits < 16)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_grey_that_stands_for_nothing_at_every_depth(bits, tmp_path):
    grey = np.random.default_rng(bits).integers(0, 2**bits, (6, 5, 1))
    clear = int(grey[3, 3, 0])
    found = read(png(tmp_path / "a.png", grey, bits, 0, clear), (6, 5))[0]
    np.testing.assert_array_equal(found, np.where(grey == clear, 255, grey * 255 // (2**bits - 1))[..., 0])


def test_a_picture_deeper_than_the_data_is_brought_to_their_depth_and_that_is_said(tmp_path):
    path = png(tmp_path / "a.png", np.array([[[0], [13107], [65535]]]), 16, 0)
    found, notes = read_examples(path, (1, 3), values((1, 3), 4095.0, "uint16"))
    assert found.tolist() == [[[0, 819, 4095]]]
    assert "above the data's white" in notes[0]


@pytest.mark.parametrize(
    ("dtype", "black", "white"),
    [
        ("bool", 0, 1), ("int8", -128, 127), ("int8", 0, 255), ("int16", -1000, 1000), (">u2", 0, 4095), (">i2", 5, 9),
        ("uint16", 1000, 3000), ("uint16", 4095, 0), ("int64", -1e15, 1e15), ("float16", -1, 1), (">f8", 3, 2),
    ],
)  # fmt: skip
def test_any_type_takes_any_black_and_white(dtype, black, white, tmp_path):
    """Nothing wraps, nothing is cut off, and 8 bits and 16 say the same."""
    shares = np.array([[0, 51, 102, 204, 255]]) / 255
    told = values_of(np.zeros((2, 1, 5), dtype))._replace(black=float(black), white=float(white))
    for bits in (8, 16):
        path = png(tmp_path / "a.png", np.round(shares[..., None] * (2**bits - 1)).astype(int), bits, 0)
        found, _ = read_examples(path, (1, 5), told)
        exact = black + shares * (white - black)
        whole = np.dtype(dtype).kind in "bui" and found.dtype == dtype
        np.testing.assert_allclose(found[0].astype(float), np.round(exact) if whole else exact, rtol=1e-3, atol=1e-3)


def test_what_moves_is_refused(tmp_path):
    one = Image.fromarray(np.zeros((4, 4), np.uint8))
    one.save(tmp_path / "a.png", save_all=True, append_images=[Image.fromarray(np.full((4, 4), 9, np.uint8))])
    assert "animated" in fails(read, tmp_path / "a.png", (4, 4))


def test_what_does_nothing_to_arrays_is_said(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0, 255]], np.uint8))
    found, notes = read_examples(tmp_path / "a.npy", (1, 2), values((1, 2)), invert=True)
    assert found.tolist() == [[[0, 255]]]
    assert "not inverted" in notes[0]


def test_depths_meet(tmp_path):
    eight, deep = values((2, 2)), values((2, 2), 65535.0, "uint16")
    Image.fromarray(np.array([[0, 51], [102, 255]], np.uint8)).save(tmp_path / "8.png")
    Image.fromarray(np.array([[0, 51], [102, 255]], np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(np.array([[0, 819], [1638, 4095]], np.uint16)).save(tmp_path / "12.png")
    expected = np.array([[0, 51], [102, 255]])
    for name, notes in (("8", 0), ("16", 0), ("12", 1)):
        found, said = read_examples(tmp_path / f"{name}.png", (2, 2), eight)
        np.testing.assert_array_equal(found[0], expected)
        assert len(said) == notes
    assert "read as 12 bits in a file of 16" in said[0]
    for name in ("8", "16"):
        np.testing.assert_array_equal(read_examples(tmp_path / f"{name}.png", (2, 2), deep)[0][0], expected * 257)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB"])
def test_ink_on_nothing_is_ink_on_white(mode, tmp_path):
    grey = np.full((8, 8), 255, np.uint8)
    grey[2:6] = 0
    ink = Image.fromarray(np.dstack([np.zeros((8, 8, 3), np.uint8), 255 - grey]))
    if mode in ("L", "RGB"):  # A colour that stands for nothing.
        image = Image.fromarray(np.where(grey == 0, 0, 7).astype(np.uint8)).convert(mode)
        image.save(tmp_path / "a.png", transparency=7 if mode == "L" else (7, 7, 7))
    else:
        (ink.quantize() if mode == "P" else ink.convert(mode)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png", (8, 8))[0], grey)


@pytest.mark.parametrize("shape", [(8, 8, 2), (8, 8, 5), (4, 4, 5), (3, 8, 2), (3, 8), (7,), (2, 2, 2, 2)])
def test_other_channels_take_no_pictures_but_arrays(shape, tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", np.ones(shape, np.uint8))
    if len(shape) != 2:
        assert "not pictures; give a .npy file" in fails(read, tmp_path / "a.png", shape)
    assert read(tmp_path / "a.npy", shape).shape == (1, *shape)


def test_what_does_not_tell_its_black_and_white_takes_pictures_when_told(tmp_path):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(50, 4, 4)).astype(np.float32)
    Image.fromarray(np.array([[0, 255]] * 2, np.uint8)).save(tmp_path / "a.png")
    assert "--range BLACK WHITE" in fails(read_examples, tmp_path / "a.png", (4, 4), values_of(x))
    told = values_of(x)._replace(black=-0.5, white=2.0)
    assert {-0.5, 2.0} < set(read_examples(tmp_path / "a.png", (4, 4), told)[0].ravel().tolist())
    for bad in ((1.0, 1.0), (0.0, float("nan")), (float("inf"), 0.0)):
        assert "range" in fails(Request, tmp_path, (), range=bad)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (np.array([0, 255], np.uint8), (0, 255)), (np.array([3, 99], np.uint8), (0, 255)),
        (np.array([0, 1], np.uint8), (0, 1)), (np.array([False, True]), (0, 1)),
        (np.array([0, 300], np.int64), (0, 1023)),
        (np.array([0, 4000], np.uint16), (0, 4095)), (np.array([0, 60000], np.uint16), (0, 65535)),
        (np.array([0, 100], np.int8), None), (np.array([0, 20000], np.int16), None),
        (np.array([0, 4000], np.int16), (0, 4095)), (np.array([-1, 200], np.int16), None),
        (np.array([0, 70000], np.int32), None),
        (np.array([0, 0.3, 0.9]), (0, 1)), (np.array([0, 1, 2, 51]) / 255, (0, 1)), (np.array([0, 0.1234]), None),
        (np.array([-1, 0.3, 1]), (-1, 1)), (np.array([-0.4, 0.6]), None), (np.array([0.0, 17, 200]), (0, 255)),
        (np.array([0.0, 17.5, 200]), None), (np.array([-1.2, 2.5]), None), (np.array([1.125, 2.5625]), None),
    ],
)  # fmt: skip
def test_black_and_white_are_told_by_type_and_range(x, expected):
    assert black_and_white(x) == expected


def test_what_lies_far_outside_is_said(tmp_path):
    for of in (values((2, 2)), values((2, 2), 16.0)):
        for top, word in ((1, "next to nothing"), (of.white * 257, "far outside"), (of.white, "")):
            np.save(tmp_path / "a.npy", np.array([[0, 0.2], [0.4, 1]]) * top)
            _, notes = read_examples(tmp_path / "a.npy", (2, 2), of)
            assert word in " ".join(notes)
            assert bool(notes) == bool(word)


def test_values_come_back_from_json():
    draw = np.random.default_rng(0)
    clock = 1.7e9 + draw.normal(size=(30, 2)) * 60
    for x in (clock, np.zeros((3, 4, 4, 1), np.uint8)):
        found = values_of(x)
        again = Values.from_json(found.to_json(), x.shape[1:])
        np.testing.assert_array_equal(again.stored(x), found.stored(x))
        assert again._replace(offset=None) == found._replace(offset=None)
    lies = [
        {"low": "0"}, {"more": 1}, {"dtype": "object"}, {"dtype": None}, {"channels": 3}, {"channels": 7},
        {"first": 1.5}, {"high": float("nan")}, {"black": None}, {"white": 0.0}, {"white": True}, {"offset": [1.0]},
    ]  # fmt: skip
    for bad in (None, {}, *({**found.to_json(), **lie} for lie in lies)):
        with pytest.raises(ValueError, match=r"data\.values"):
            Values.from_json(bad, (4, 4, 1))


HARD = {
    "a clock": lambda draw, n: 1.7e9 + 60 * draw.normal(size=n),
    "tiny": lambda draw, n: 1e-30 * draw.normal(size=n),
    "huge": lambda draw, n: 1e30 * draw.normal(size=n),
    "constant": lambda draw, n: np.full(n, 14.62),
    "a rounding error": lambda draw, n: 0.3 + (draw.random(n) < 0.5) * 5e-17,
    "plain": lambda draw, n: draw.normal(size=n),
    "rare": lambda draw, n: (np.arange(n) == 3) * 1e-3,
    "far": lambda draw, n: -1e6 + draw.random(n),
    "zero": lambda draw, n: np.zeros(n),
}


@pytest.mark.parametrize("n", [40, 9001])
def test_moments_are_those_of_scikit_learn_on_hard_columns(n):
    draw = np.random.default_rng(n)
    x = np.stack([column(draw, n) for column in HARD.values()], axis=1)
    mean, deviation = moments(x)
    theirs = StandardScaler().fit(x)
    np.testing.assert_allclose(mean, theirs.mean_, rtol=1e-12, atol=1e-40)
    ours = np.where(deviation == 0, 1.0, deviation)
    np.testing.assert_allclose(ours, theirs.scale_, rtol=1e-9)


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.float32, np.float64]))
@settings(max_examples=20, deadline=None)
def test_a_constant_column_is_constant_whatever_its_value(seed, dtype):
    draw = np.random.default_rng(seed)
    x = np.repeat((draw.normal(size=400) * 10 ** draw.uniform(-6, 9, 400)).astype(dtype)[None], 900, axis=0)
    assert (moments(x)[1] == 0).all()


def test_a_network_sees_hard_columns_as_scikit_learn_scales_them(tmp_path):
    draw = np.random.default_rng(0)
    columns = {name: column(draw, 200) for name, column in HARD.items() if name != "a rounding error"}
    x, y = np.stack(list(columns.values()), axis=1), np.arange(200) % 2
    np.savez(tmp_path / "own.npz", x_train=x[:120], y_train=y[:120], x_validation=x[120:160], y_validation=y[120:160],
             x_test=x[160:], y_test=y[160:])  # fmt: skip
    data = load(str(tmp_path / "own.npz"))
    task, scaler = to_device(data), StandardScaler().fit(x[:120])
    for split, rows in ((data.train, x[:120]), (data.test, x[160:])):
        np.testing.assert_allclose(task.inputs(split.x), scaler.transform(rows), rtol=2e-5, atol=2e-6)
    np.testing.assert_array_equal(data.values.stored(x[160:]), data.test.x)
    assert "2 of 8 features are constant" in data.note


def test_what_float32_cannot_hold_is_refused_by_its_place(tmp_path):
    for bad in (1e300, -1e39):
        x = np.ones((40, 2))
        x[7, 1] = bad
        np.savez(tmp_path / "own.npz", x_train=x, y_train=np.arange(40) % 2)
        assert "own.npz" in fails(load, str(tmp_path / "own.npz"))


def test_every_image_has_a_reconstruction_of_its_own(tmp_path):
    def names(*paths, out=None):
        found = reconstruction_names([tmp_path / path for path in paths], out and tmp_path / out, "png")
        return [str(path.relative_to(tmp_path)) for path in found.values()]

    assert names("a/1.png", "b/2.png") == ["a/1-reconstruction.png", "b/2-reconstruction.png"]
    assert names("a/1.png", "a/1.png") == ["a/1-reconstruction.png"]
    for paths in (
        "a/1.png b/1.png a/1.jpg", "a/x.png b/X.png", "a/a/1.png b/a/1.png", "1.png 1.jpg", "1.png ./b/../1.jpg",
        "x.png X.png", "a-b.png a/b.png", "caf\u00e9.png cafe\u0301.png", "1.png 1.png.png",
    ):  # fmt: skip
        found = names(*paths.split(), out="o")
        assert len({name.lower() for name in found}) == len(paths.split())
    assert not set(names("1.png", "1-reconstruction.png")) & {"1.png", "1-reconstruction.png"}


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_pictures_of_any_channels_are_written(channels, tmp_path):
    write_picture(tmp_path / "a.png", np.random.default_rng(0).random((5, 4, channels)))
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (160, 200)


def test_pictures_are_shown_with_channels_last_whatever_their_order():
    x = np.random.default_rng(0).integers(0, 256, (5, 3, 6, 7), np.uint8)
    last = x.transpose(0, 2, 3, 1)
    for each in (x, last):
        of = values_of(each)
        np.testing.assert_array_equal(of.laid_out(each), last)
        np.testing.assert_allclose(of.picture(each), last / 255, atol=1e-7)
    assert values_of(x[:, 0]).laid_out(x[:, 0]).shape == (5, 6, 7, 1)


def test_an_example_is_a_line_whatever_its_class_is_called(tmp_path, monkeypatch, capsys):
    """And what black and white are taken for is said once, where it is not 8 bits."""
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "a.png")
    for dtype, said in (("uint8", 0), ("uint16", 1)):
        of = values((2, 2), float(np.iinfo(dtype).max), dtype)
        result = {"data": {"shape": [2, 2], "classes": ["two\nlines", "b"], "values": of.to_json()}}
        answer = lambda x: Answers(np.zeros(len(x), int))  # noqa: E731
        monkeypatch.setattr("jevo.predict.champion", lambda *_, found=(answer, result): found)
        predict(Request(tmp_path, (tmp_path / "a.png",) * 2))
        out, err = capsys.readouterr()
        assert out == f"{tmp_path / 'a.png'}  two\\nlines\n" * 2
        assert err.count("in pictures, black is 0") == said == err.count("\n")
