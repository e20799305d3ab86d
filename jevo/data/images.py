"""Image files as network input: what `python -m jevo.predict` reads."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from jevo.data.files import atomic_file, is_file
from jevo.data.values import Values
from jevo.errors import InputError

_DEPTHS = (8, 10, 12, 14, 16)
"""Bits that the values of a channel may have in a file of 16."""


def read_examples(
    path: str | Path, shape: Sequence[int], values: Values, invert: bool = False
) -> tuple[np.ndarray, list[str]]:
    """Reads a PNG, a JPEG or a `.npy` as examples of a data set.

    A picture may have any size and mode: it becomes grey, RGB or RGBA, as the channels of `shape` say, is resized to
    it, and goes from the data's black to its white. What is transparent is on white. One of the data's own depth and
    size comes out as the very numbers that are in it. A `.npy` holds one example of `shape` or many `[k, *shape]` (a
    last axis of 1 may be left out); its values are taken as they are.

    Args:
      path: the file.
      shape: `[height, width]`, `[height, width, channels]` or `[channels, height, width]` with 1, 3 or 4 channels; or,
        for `.npy` files only, any other.
      values: what the numbers of the data are.
      invert: pictures are dark on light, the data light on dark: white becomes black and black white.

    Returns:
      The examples `[k, *shape]`, in the numbers of the data's source, and what the user should know of them: what was
      taken for what, and what is odd.

    Raises:
      InputError: for a file that is missing, damaged, of another kind or of another shape, and for a picture where
        nobody can tell what black and white are in the data.
    """
    path, shape = Path(path), tuple(shape)
    if not is_file(path):
        raise InputError(f"{path}: there is no such file")
    notes: list[str] = []
    if path.suffix.lower() == ".npy":
        x = _read_array(path, shape)
    elif not values.channels:
        raise InputError(f"{path}: this network takes examples of shape {shape}, not pictures; give a .npy file")
    elif values.black is None or values.white is None:
        raise InputError(
            f"{path}: nobody can tell what black and white are in the data's {values.described()}; give .npy files of "
            "such values, or say it: --range BLACK WHITE"
        )
    else:
        x = _read_picture(path, shape, values, values.black, values.white, invert, notes)[None]
    if odd := values.odd(x):
        notes.append(f"{path} {odd} ({values.low:g} to {values.high:g})")
    return x, notes


def _read_array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged file, or objects, which are never unpickled
        raise InputError(f"{path}: is no .npy file of plain numbers, or is damaged") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif" or array.dtype.itemsize > 8:
        raise InputError(f"{path}: must hold one array of numbers")
    flat = shape[:-1] if len(shape) == 3 and shape[-1] == 1 else shape
    if (array.shape not in (shape, flat) and array.shape[1:] not in (shape, flat)) or not array.size:
        raise InputError(f"{path}: has shape {array.shape}, but an example has shape {shape}")
    if not np.isfinite(array).all():
        raise InputError(f"{path}: holds values that are no finite numbers")
    return array.reshape(-1, *shape)


def _read_picture(
    path: Path, shape: tuple[int, ...], values: Values, black: float, white: float, invert: bool, notes: list[str]
) -> np.ndarray:
    height, width = (shape[1:] if values.first else shape)[:2]
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[values.channels]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata does not matter
            # Pillow only warns of a moderate decompression bomb: no picture for a network is that large.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                pixels, bits = _pixels(ImageOps.exif_transpose(image), mode)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: has too many pixels; make it smaller first") from error
    except Exception as error:  # each of Pillow's decoders has its own types for a damaged file
        raise InputError(f"{path}: is no PNG, JPEG or .npy file, or is damaged") from error
    top = 2.0**bits - 1
    if bits > 8 and values.dtype.startswith(("uint", "int")) and white > 255:
        top = white - black  # Deep as the data are: the very numbers.
    elif bits > 8 and pixels.max() > 0:
        bits = next(depth for depth in _DEPTHS if pixels.max() < 2**depth)
        top = 2.0**bits - 1
        if bits < 16:
            notes.append(f"{path} has no value above {top:,.0f}, and is read as {bits} bits in a file of 16")
    if pixels.shape[:2] != (height, width):
        layers = [Image.fromarray(channel.astype(np.float32)) for channel in np.moveaxis(pixels, 2, 0)]
        resized = [np.asarray(layer.resize((width, height), Image.Resampling.BILINEAR)) for layer in layers]
        pixels = np.stack(resized, axis=2)
    share = pixels.astype(np.float64) / top
    found = black + (1 - share if invert else share) * (white - black)
    found = (found.transpose(2, 0, 1) if values.first else found).reshape(shape)
    kind = np.dtype(values.dtype)
    return np.round(found).clip(0, np.iinfo(kind).max).astype(kind) if kind.kind in "ui" else found.astype(kind)


def _pixels(image: Image.Image, mode: str) -> tuple[np.ndarray, int]:
    """`[height, width, channels]` as a mode has them, and how many bits a value has; on white where transparent."""
    if image.mode.startswith("I"):  # Pillow's own conversion would cut off what is above 8 bits.
        deep = np.asarray(image).astype(np.int64)
        clear = image.info.get("transparency")
        deep = np.where(deep == clear, 65535, deep) if isinstance(clear, int) else deep
        channels = [deep] * (1 if mode == "L" else 3) + [np.full_like(deep, 65535)] * (mode == "RGBA")
        return np.stack(channels, axis=2), 16
    if mode != "RGBA" and image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    elif image.mode == "P":
        image = image.convert("RGB")
    pixels = np.asarray(image.convert(mode))
    return pixels.reshape(*pixels.shape[:2], -1), 8


def write_picture(path: Path, image: np.ndarray, least: int = 200) -> None:
    """Writes an image `[height, width, channels]`, in 0..1, as a PNG, enlarged to at least `least` pixels of height.

    One of 1, 3 or 4 channels; of others, the mean is written.
    """
    factor = -(-least // image.shape[0])
    shown = image if image.shape[2] in (1, 3, 4) else image.mean(axis=2, keepdims=True)
    pixels = np.round(np.clip(shown, 0, 1) * 255).astype(np.uint8).repeat(factor, axis=0).repeat(factor, axis=1)
    with atomic_file(path) as file:
        Image.fromarray(pixels[..., 0] if shown.shape[2] == 1 else pixels).save(file, format="PNG")
