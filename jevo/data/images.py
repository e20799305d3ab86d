"""Image files as network input: what `python -m jevo.predict` reads."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from jevo.data.files import atomic_file
from jevo.errors import InputError


def read_images(
    paths: Iterable[str | Path], shape: Sequence[int], white: float = 255.0, invert: bool = False
) -> np.ndarray:
    """Reads PNG, JPEG and `.npy` files into one array `[n, *shape]`, in the order of `paths`.

    A picture may have any size and mode: it becomes grey or RGB, as the channels of `shape` say, is resized
    to it, and has values 0..`white`. What is transparent becomes black. A `.npy` holds one example of
    `shape` or many `[k, *shape]` (a last axis of 1 may be left out); its values are taken as they are.

    Args:
      paths: the files.
      shape: `[height, width]`, `[height, width, channels]` with 1 or 3 channels, or, for `.npy` files
        only, any other.
      white: what white is in the data that the network was trained on (`Dataset.white`): pictures have uint8
        values up to it, but float32 ones where it is at most 1.
      invert: pictures are dark on light, the data light on dark: white becomes black and black white.

    Returns:
      uint8 when every file gave uint8, else float32.

    Raises:
      InputError: for a file that is missing, damaged, of another kind or of another shape.
    """
    shape = tuple(shape)
    read = [_read(Path(path), shape, white, invert) for path in paths]
    if not read:
        raise InputError("images: no file was given; name PNG, JPEG or .npy files")
    same = all(array.dtype == np.uint8 for array in read)
    return np.concatenate([array if same else array.astype(np.float32) for array in read])


def _read(path: Path, shape: tuple[int, ...], white: float, invert: bool) -> np.ndarray:
    """`[k, *shape]`: the examples in one file."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    if path.suffix.lower() == ".npy":
        return _read_array(path, shape)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)):
        raise InputError(f"{path}: this network takes vectors of shape {shape}, not pictures; give a .npy file")
    return _read_picture(path, shape, white, invert)[None]


def _read_array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged file, or objects, which are never unpickled
        raise InputError(f"{path}: is no .npy file of plain numbers, or is damaged") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif":
        raise InputError(f"{path}: must hold one array of numbers")
    flat = shape[:-1] if len(shape) == 3 and shape[-1] == 1 else shape
    if (array.shape not in (shape, flat) and array.shape[1:] not in (shape, flat)) or not array.size:
        raise InputError(f"{path}: has shape {array.shape}, but an example has shape {shape}")
    array = array.reshape(-1, *shape)
    if array.dtype == np.uint8:
        return array
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError(f"{path}: holds values that are no finite float32 numbers")
    return array


def _read_picture(path: Path, shape: tuple[int, ...], white: float, invert: bool) -> np.ndarray:
    height, width = shape[:2]
    mode = "RGB" if shape[2:] == (3,) else "L"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata does not matter
            # Pillow only warns of a moderate decompression bomb: no picture for a network is that large.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                picture = _flatten(ImageOps.exif_transpose(image)).convert(mode)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: has too many pixels; make it smaller first") from error
    except Exception as error:  # each of Pillow's decoders has its own types for a damaged file
        raise InputError(f"{path}: is no PNG, JPEG or .npy file, or is damaged") from error
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    scaled = ((255 - pixels if invert else pixels) * (white / 255)).reshape(shape)
    return np.round(scaled).astype(np.uint8) if white > 1 else scaled.astype(np.float32)


def write_picture(path: Path, image: np.ndarray, least: int = 200) -> None:
    """Writes an image `[height, width, channels]`, in 0..1, as a PNG, enlarged to at least `least` pixels of height."""
    factor = -(-least // image.shape[0])
    pixels = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8).repeat(factor, axis=0).repeat(factor, axis=1)
    with atomic_file(path) as file:
        Image.fromarray(pixels[..., 0] if image.shape[2] == 1 else pixels).save(file, format="PNG")


def _flatten(image: Image.Image) -> Image.Image:
    """Eight bits a channel, and black where `image` is transparent."""
    if image.mode.startswith("I"):  # 16 bits: Pillow's own conversion would cut off what is above 255
        return Image.fromarray((np.asarray(image).astype(np.uint32) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert("RGB") if image.mode == "P" else image
