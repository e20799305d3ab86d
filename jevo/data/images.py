"""Image files as network input: what `python -m jevo.predict` reads."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from jevo.data.files import atomic_file, is_file
from jevo.data.values import Values, limits
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
        if invert:
            notes.append(f"{path} is not inverted: the values of .npy files are taken as they are")
    elif not values.channels:
        raise InputError(f"{path}: this network takes examples of shape {shape}, not pictures; give a .npy file")
    elif values.black is None or values.white is None:
        raise InputError(
            f"{path}: nobody can tell what black and white are in the data's {values.described()}; give .npy files of "
            "such values, or say what they are: --range BLACK WHITE"
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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata does not matter
            # Pillow only warns of a moderate decompression bomb: no picture for a network is that large.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            colour, alpha, deep = _decoded(path)
    except InputError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: has too many pixels; make it smaller first") from error
    except Exception as error:  # each of Pillow's decoders has its own types for a damaged file
        raise InputError(f"{path}: is no PNG, JPEG or .npy file, or is damaged") from error
    kind = np.dtype(values.dtype)
    highest, bits = colour.max(), _bits(colour) if deep else 8
    if deep and kind.kind in "ui" and black == 0 and white > 255 and highest <= white:
        bits = math.log2(white + 1)  # Deep as the data are: the very numbers.
    elif deep and bits < 16:
        notes.append(f"{path} has no value above {2**bits - 1:,}, and is read as {bits} bits in a file of 16")
    elif deep and kind.kind in "ui" and 255 < white < highest:
        notes.append(f"{path} has values above the data's white, {white:g}, and is read as {bits} bits")
    # A photo is far larger than what is left of it, and takes memory: there, float32 is enough.
    exact = np.float64 if colour.shape[:2] == (height, width) else np.float32
    opacity = None if alpha is None else np.divide(alpha, 2.0 ** (_bits(alpha) if deep else 8) - 1, dtype=exact)
    pixels = _in_channels(np.divide(colour, 2.0**bits - 1, dtype=exact), opacity, values.channels)
    if values.channels == 4:
        notes.append(f"{path} is brought to four channels, which are taken for red, green, blue and alpha")
    if exact is np.float32:
        layers = [Image.fromarray(channel) for channel in np.moveaxis(pixels, 2, 0)]
        resized = [np.asarray(layer.resize((width, height), Image.Resampling.BILINEAR)) for layer in layers]
        pixels = np.stack(resized, axis=2).astype(np.float64)
    if invert:  # What is clear stays so.
        pixels[..., :3] = 1 - pixels[..., :3]
    found = black + pixels * (white - black)
    found = (found.transpose(2, 0, 1) if values.first else found).reshape(shape)
    if kind.kind == "f":
        return found.astype(kind)
    low, high = limits(kind)
    fits = low <= min(black, white) and max(black, white) <= high
    return np.round(found).clip(low, high).astype(kind) if fits else found


def _bits(pixels: np.ndarray) -> int:
    """How many bits the values of a file of 16 have; all of them if no value tells."""
    highest = pixels.max()
    return next(depth for depth in _DEPTHS if highest < 2**depth) if highest else 16


def _decoded(path: Path) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Colour `[height, width, 1 or 3]` and any alpha `[height, width, 1]` of a picture, and whether they have 16 bits.

    Raises:
        InputError: if it moves.
        Exception: of many types, if it is damaged.
    """
    with Image.open(path, formats=("PNG", "JPEG")) as image:
        clear, (*_, raw) = image.info.get("transparency"), image.tile[0]
        if image.format == "PNG" and getattr(image, "is_animated", False):
            raise InputError(f"{path}: is animated; give one of its pictures")
        if str(raw).endswith(";16B"):
            return *_deep(path, image.mode, str(raw), clear), True
        if raw in ("L;2", "L;4") and clear is not None:  # Pillow brings the grey to 8 bits, but not its clear one.
            image.info["transparency"] = clear * 255 // (2 ** int(raw[2:]) - 1)
        picture = ImageOps.exif_transpose(image)
        if picture.has_transparency_data:
            pixels = np.asarray(picture.convert("RGBA"))
            return pixels[..., :3], pixels[..., 3:], False
        pixels = np.asarray(picture.convert("L" if picture.mode in ("1", "L") else "RGB"))
        return pixels.reshape(*pixels.shape[:2], -1), None, False


def _deep(path: Path, mode: str, raw: str, clear: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Colour and any alpha of a PNG of 16 bits, of which Pillow would keep the upper 8 where it is not grey alone."""

    def read(raw: str) -> np.ndarray:
        with Image.open(path, formats=("PNG",)) as image:
            image.tile = [tile._replace(args=raw) for tile in image.tile]
            found = np.asarray(ImageOps.exif_transpose(image)).astype(np.int32)
            return found.reshape(*found.shape[:2], -1)

    if mode.startswith("I"):
        pixels = read(raw)
    elif raw == "LA;16B":  # Four bytes: the upper and the lower one of grey, and those of alpha.
        found = read("RGBA")
        pixels = found[..., ::2] * 256 + found[..., 1::2]
    else:  # What would be the upper bytes in the other byte order are the lower ones.
        pixels = read(raw) * 256 + read(raw.replace(";16B", ";16L"))
    if pixels.shape[2] in (2, 4):
        return pixels[..., :-1], pixels[..., -1:]
    if clear is None:
        return pixels, None
    return pixels, (pixels != np.asarray(clear)).any(axis=2, keepdims=True) * 65535


def _in_channels(colour: np.ndarray, opacity: np.ndarray | None, channels: int) -> np.ndarray:
    """Colour `[height, width, 1 or 3]` and any opacity `[height, width, 1]`, in 0..1, in 1 (grey), 3 or 4 channels."""
    if channels == 4:
        opacity = np.ones_like(colour[..., :1]) if opacity is None else opacity
        return np.concatenate([np.broadcast_to(colour, (*colour.shape[:2], 3)), opacity], axis=2)
    if opacity is not None:  # On white, and where opaque, the very numbers.
        colour = np.where(opacity == 1, colour, 1 - (1 - colour) * opacity)
    if channels == 3 or colour.shape[2] == 1:
        return np.broadcast_to(colour, (*colour.shape[:2], channels)).copy()
    red, green, blue = (colour[..., i : i + 1] for i in range(3))
    return green + 0.299 * (red - green) + 0.114 * (blue - green)  # Of grey, the very numbers.


def write_picture(path: Path, image: np.ndarray, least: int = 200) -> None:
    """Writes an image `[height, width, channels]`, in 0..1, as a PNG, enlarged to at least `least` pixels of height.

    One of 1, 3 or 4 channels; of others, the mean is written.
    """
    factor = -(-least // image.shape[0])
    shown = image if image.shape[2] in (1, 3, 4) else image.mean(axis=2, keepdims=True)
    pixels = np.round(np.clip(shown, 0, 1) * 255).astype(np.uint8).repeat(factor, axis=0).repeat(factor, axis=1)
    with atomic_file(path) as file:
        Image.fromarray(pixels[..., 0] if shown.shape[2] == 1 else pixels).save(file, format="PNG")
