"""Anyone's images, to be measured as they are: a directory of image files or an .npz of arrays."""

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from jaxgan.core.errors import ConfigError
from jaxgan.data.decoding import Decoded, OnDemand, keep_decoded
from jaxgan.data.folder import open_folder


def open_images(path: str, setting: str) -> Decoded:
    """The images of `path`, all of one size and never resized; at least two.

    A directory: see `open_folder`; its sub-directories are the labels. An .npz: `images` (or `arr_0`) uint8
    [N, H, W, C] or [N, H, W], or floats in 0..1; `labels` (or `arr_1`) integers [N], if there are any. Grey images stay
    grey until an extractor wants colours, which are then three times the grey; RGBA is laid on white.

    Raises:
      ConfigError: there is no such thing, or it holds something else; the message begins with `setting`.
      OSError: an image file cannot be read or has another size than the first.
    """
    file = Path(path).expanduser()
    if file.suffix == ".npz" and file.is_file():
        dataset = _open_npz(file, f"{setting}={path!r}")
    elif file.is_dir():
        source, directory = open_folder(str(file), None, setting)
        dataset = keep_decoded(OnDemand(source), directory)
    else:
        raise ConfigError(f"{setting}={path!r}: name a directory of images or a FILE.npz")
    if len(dataset) < 2:
        raise ConfigError(f"{setting}={path!r}: holds {len(dataset)} image(s); a score needs two at least")
    return dataset


def _open_npz(file: Path, given: str) -> Decoded:
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            images, labels = (
                next((arrays[name] for name in names if name in arrays), None)
                for names in (("images", "arr_0"), ("labels", "arr_1"))
            )
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{given}: cannot be read: {error}") from error
    if images is None:
        raise ConfigError(f"{given}: holds no array `images` or `arr_0`")
    shape = images.shape
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3, 4):
        raise ConfigError(f"{given}: images are {list(shape)}; give [N, H, W, C] with C = 1, 3 or 4")
    if np.issubdtype(images.dtype, np.floating):
        low, high = images.min(initial=0.0), images.max(initial=0.0)
        if not (low >= 0.0 and high <= 1.0):  # a NaN fails too
            raise ConfigError(f"{given}: floats must be in 0..1, these are in {low:.3g}..{high:.3g}; or give uint8")
        images = np.rint(images * 255.0).astype(np.uint8)
    if images.dtype != np.uint8:
        raise ConfigError(f"{given}: images are {images.dtype}; give uint8, or floats in 0..1")
    if images.shape[3] == 4:
        images = np.stack([_on_white(image) for image in images])
    if labels is None:
        return Decoded(images, np.zeros(len(images), np.int32), 0)
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer) or labels.min(initial=0) < 0:
        raise ConfigError(
            f"{given}: labels are {labels.dtype} {list(labels.shape)}; give integers >= 0, [{len(images)}]"
        )
    return Decoded(images, labels.astype(np.int32), int(labels.max(initial=-1)) + 1)


def _on_white(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 4] to [H, W, 3]."""
    picture = Image.fromarray(image)
    return np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))
