"""Read anybody's folder of "encrypted" images: pictures, or arrays of integers or floats."""

import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ppdl.audit.attacks.as_is import at_size
from ppdl.audit.examination.base import Symbols, Target
from ppdl.datasets.images.gray import MAX_PIXELS, BadImageError, luma
from ppdl.datasets.images.image_io import PICTURE_SUFFIXES, file_bytes, read_gray
from ppdl.datasets.images.picture import opened_picture
from ppdl.errors import DataError

ARRAY_SUFFIXES = frozenset({".npy", ".npz"})
SMALLEST_PX = 16  # of a side; attacks look at neighbourhoods
MAX_BYTES = 1 << 31  # of all images that are read
MAX_SYMBOLS = 1024  # different values; attacks on symbols count pairs of them, and take minutes for some thousands
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Hold images as they were found.

    Attributes:
        names: of each image, for messages and to match originals by.
        values: (num_images, height, width) or (num_images, height, width, 3), as stored.
        num_found: images that there are, of which `values` may hold a part.
    """

    names: tuple[str, ...]
    values: np.ndarray
    num_found: int


def read_pictures(path: Path, *, max_images: int | None, gray: bool = False, names: tuple[str, ...] | None = None) -> Pictures:
    """Read a folder (nested or not) of pictures or of .npy and .npz files, or one such file.

    Args:
        max_images: read at most as many, evenly spaced over all; None: all.
        gray: read pictures by the rule of ppdl.datasets.images.image_io, and colour arrays as their luma; for originals, which must have 8
        bits. names: read pictures of these names only.

    Raises:
        DataError: nothing is there, sizes or kinds are mixed, or a file is unreadable, too large or of a kind that is refused.
    """
    files = files_below(path)
    kinds = {file.suffix.lower() in ARRAY_SUFFIXES for file in files}
    if len(kinds) == 2:
        raise DataError(f"{path} must hold pictures or arrays, found both: audit them apart")
    found = _arrays(path, files) if kinds == {True} else _pictures(path, files, max_images, gray, names)
    if kinds == {True} and max_images is not None and len(found.values) > max_images:
        rows = np.linspace(0, len(found.values) - 1, max_images).astype(int)
        found = Pictures(tuple(found.names[i] for i in rows), found.values[rows], found.num_found)
    height, width = found.values.shape[1:3]
    if min(height, width) < SMALLEST_PX:
        raise DataError(f"images in {path} must be at least {SMALLEST_PX} x {SMALLEST_PX} px, found {height} x {width}")
    if found.values.dtype.kind == "f" and not np.isfinite(found.values).all():
        raise DataError(f"{path} must hold finite numbers, found NaN or infinity")
    return _as_gray(path, found) if gray else found


def read_originals(path: Path, found: Pictures, *, max_images: int | None) -> np.ndarray:
    """Read the originals of images: pictures of the same names, or as many in the same order; (num_images, height, width) uint8.

    Raises:
        DataError: they are not as many, not of the same size, or unreadable.
    """
    originals = read_pictures(path, max_images=max_images, gray=True, names=found.names)
    if originals.names != found.names and originals.num_found != found.num_found:
        raise DataError(
            f"{path} must hold the originals of all {found.num_found} images, under the same names or in the same order, "
            f"found {originals.num_found}"
        )
    if originals.values.shape != found.values.shape[:3]:
        raise DataError(
            f"originals in {path} must have the size of the images, {_size(found.values[0])}, found {_size(originals.values[0])}"
        )
    return originals.values


def target_of_pictures(name: str, values: np.ndarray, prior: np.ndarray | None) -> Target:
    """Return what a thief has who finds the images.

    A colour image is shown as it is; its symbols are the values of its green channel, the nearest to luma, since a cipher on colour
    images works on channels alike.

    Args:
        values: as in `Pictures`.
    """
    channel = values[..., 1] if values.ndim == 4 else values
    num_images, height, width = channel.shape
    prior = None if prior is None else at_size(prior, height, width)
    return Target(name, num_images, height, width, symbols=_symbols(channel), picture=to_picture(values), prior=prior)


def classes_of(names: tuple[str, ...]) -> np.ndarray | None:
    """Return the class of each image, (num_images,) int, where all lie in folders, one a class; None where they do not."""
    folders = [name.rpartition("/")[0] for name in names]
    return np.unique(folders, return_inverse=True)[1] if all(folders) and len(set(folders)) > 1 else None


def to_picture(values: np.ndarray) -> np.ndarray:
    """Show values as uint8: as they are if they have 8 bits, otherwise from their least to their largest over the whole set."""
    if values.dtype == np.uint8:
        return values
    scaled = values.astype(np.float64)
    scaled -= scaled.min()
    return np.round(scaled * (255.0 / (scaled.max() or 1.0))).astype(np.uint8)


def _symbols(channel: np.ndarray) -> Symbols | None:
    if channel.dtype == np.uint8:
        return Symbols(channel, 256, None)
    different, codes = np.unique(channel, return_inverse=True)
    if len(different) > MAX_SYMBOLS:
        return None
    return Symbols(codes.reshape(channel.shape).astype(np.uint16), len(different), None)


def read_prior(folder: Path, height: int, width: int) -> np.ndarray:
    """Read public images of any size, (num_prior, height, width) uint8.

    Raises:
        DataError: the folder holds none, or one is unreadable.
    """
    files = [file for file in files_below(folder) if file.suffix.lower() in PICTURE_SUFFIXES]
    if not files:
        raise DataError(f"{folder} must hold pictures ({', '.join(sorted(PICTURE_SUFFIXES))}), found arrays only")
    return np.stack([at_size(_named(file, read_gray)[None], height, width)[0] for file in tqdm(files, desc="prior", unit="image")])


def files_below(path: Path, wanted: frozenset[str] = PICTURE_SUFFIXES | ARRAY_SUFFIXES, what: str = "images") -> list[Path]:
    """Return the files of a folder (nested or not) with these suffixes, in order, or the one that `path` is.

    Raises:
        DataError: there is none; `what` says of what.
    """
    if path.is_file():
        if path.suffix.lower() not in wanted:
            raise DataError(f"{path} must hold {what} ({', '.join(sorted(wanted))})")
        return [path]
    if not path.is_dir():
        raise DataError(f"{path} does not exist: give a folder of {what}, or one file")
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.suffix.lower() in wanted and not file.name.startswith("."))
    if not files:
        raise DataError(f"{path} holds no {what}: none of {', '.join(sorted(wanted))} below it")
    return files


def _pictures(path: Path, files: list[Path], max_images: int | None, gray: bool, names: tuple[str, ...] | None) -> Pictures:
    """Read picture files."""
    num_found = len(files)
    stem = {file: (file.relative_to(path) if path.is_dir() else Path(file.name)).with_suffix("").as_posix() for file in files}
    if names is not None and set(names) <= set(stem.values()):
        by_name = {stem[file]: file for file in files}
        files = [by_name[name] for name in names]
    elif max_images is not None and len(files) > max_images:
        files = [files[i] for i in np.linspace(0, len(files) - 1, max_images).astype(int)]
    images: list[np.ndarray] = []
    for file in tqdm(files, desc=path.name, unit="image"):
        image = _named(file, read_gray if gray else _read_as_stored)
        if images and image.shape[:2] != images[0].shape[:2]:
            raise DataError(f"images must have one size: {files[0]} is {_size(images[0])}, {file} is {_size(image)}")
        if images and (image.dtype != images[0].dtype or image.shape != images[0].shape):
            raise DataError(f"images must be of one kind: {files[0]} is {_kind(images[0])}, {file} is {_kind(image)}")
        images.append(image)
        check_bytes(path, len(files) * image.nbytes)
    values = np.stack(images)
    if values.ndim == 4 and (values == values[..., :1]).all():
        values = values[..., 0]
    return Pictures(tuple(stem[file] for file in files), values, num_found)


def _named(file: Path, read: Callable[[Path], np.ndarray]) -> np.ndarray:
    try:
        return read(file)
    except BadImageError as reason:
        raise DataError(f"{file}: {reason}") from None


def _read_as_stored(file: Path) -> np.ndarray:
    """Read a picture without bringing it to gray or to 8 bits: (height, width) or (height, width, 3)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # what is too large is refused by its size
        with opened_picture(file_bytes(file)) as image:
            if image.mode.startswith("I;16"):
                return np.asarray(image).astype(np.uint16)
            if image.mode in ("L", "I", "F"):
                return np.array(image)
            return np.array(image.convert("L" if image.mode in ("1", "LA") else "RGB"))


def _arrays(path: Path, files: list[Path]) -> Pictures:
    """Read .npy and .npz files, one image or many in each."""
    parts: list[np.ndarray] = []
    for file in files:
        for array in arrays_of(file):
            part = _as_images(file, array)
            if parts and (part.shape[1:] != parts[0].shape[1:] or part.dtype != parts[0].dtype):
                was, now = (f"{_size(p[0])}, {_kind(p[0])}" for p in (parts[0], part))
                raise DataError(f"arrays must have one size and kind: {files[0]} holds {was}; {file} holds {now}")
            parts.append(part)
            check_bytes(path, sum(p.nbytes for p in parts))
    values = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return Pictures(tuple(str(i) for i in range(len(values))), values, len(values))


def arrays_of(file: Path) -> Iterator[np.ndarray]:
    """Yield the array of an .npy or .npz file. Raises: DataError: it is unreadable, too large, none or several, or of objects."""
    try:
        if file.suffix.lower() == ".npy":
            yield np.load(file, mmap_mode="r", allow_pickle=False)
            return
        with zipfile.ZipFile(file) as archive:
            check_bytes(file, sum(entry.file_size for entry in archive.infolist()))  # before a byte is inflated
        with np.load(file, allow_pickle=False) as archive:
            if len(archive.files) != 1:
                raise DataError(f"{file} must hold one array, found {', '.join(archive.files) or 'none'}: save the images alone")
            yield archive[archive.files[0]]
    except (DataError, MemoryError):
        raise
    except ValueError as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            rule = f"{file} must hold numbers or text: arrays of objects are pickles, which may run code, and are refused unread"
            raise DataError(f"{rule}. Whoever trusts it converts it: np.save(path, array.astype(str))") from None
        raise DataError(f"{file} is unreadable: {error}") from None
    except Exception as error:
        raise DataError(f"{file} is unreadable: {type(error).__name__}: {error}") from None


def _as_images(file: Path, array: np.ndarray) -> np.ndarray:
    """Return an array as (k, height, width) or (k, height, width, 3)."""
    if array.dtype.kind not in "buif":
        raise DataError(f"{file} must hold integers or floats, found {array.dtype}; text needs --public-key")
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS):
        array = array[None]
    if array.ndim not in (3, 4) or 0 in array.shape or (array.ndim == 4 and array.shape[3] not in _CHANNELS):
        raise DataError(f"{file} must have the shape (images, height, width) or (images, height, width, channels), found {array.shape}")
    if max(array.shape[1:3]) ** 2 > MAX_PIXELS:
        raise DataError(f"{file} must hold images of at most {MAX_PIXELS} pixels, found {array.shape[1]} x {array.shape[2]}")
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if array.ndim == 4:
        array = array[..., 0] if array.shape[3] == 1 else array[..., :3]
    return array


def _as_gray(path: Path, found: Pictures) -> Pictures:
    """Return originals as (num_images, height, width) uint8."""
    if found.values.dtype != np.uint8:
        raise DataError(f"originals in {path} must have 8 bits (uint8), found {found.values.dtype}")
    if found.values.ndim == 4:
        gray = np.stack([luma(Image.fromarray(image)) for image in found.values])
        return Pictures(found.names, gray, found.num_found)
    return found


def check_bytes(path: Path, num_bytes: int) -> None:
    """Refuse what would take more than MAX_BYTES. Raises: DataError."""
    if num_bytes > MAX_BYTES:
        raise DataError(f"{path} would take {num_bytes:,} bytes, more than {MAX_BYTES:,}: give fewer images")


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]} px"


def _kind(image: np.ndarray) -> str:
    return f"{'colour' if image.ndim == 3 else 'gray'} {image.dtype}"
