"""Your own images: one folder a class."""

import csv
import logging
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from ppdl.datasets.images.image_io import is_dicom, is_image_file
from ppdl.datasets.images.masks import MASKS_FOLDER, mask_path
from ppdl.datasets.sources.base import INDEX_NAME, Dataset, write_index
from ppdl.errors import ConfigError, DataError

MIN_CLASS_IMAGES = 3
UNPACKED_BESIDE = "__MACOSX"  # what a Mac's archives hold beside the files: resource forks, also named like images
_MAX_NAMES = 10  # in one message
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Folder(Dataset):
    """Images below `root/CLASS/images/`, or where there is no such folder below `root/CLASS/`.

    Only these files are taken, without their subfolders; what else lies there is ignored, and the log says so. A folder `masks` beside
    `images` holds lung masks (`masks`). Formats and the rule that makes them gray: `image_io`. Class names are the folders' names.

    Attributes:
        root: The folder of the class folders; relative to the working directory, `~` allowed.
        patient_pattern: Regular expression that finds the patient in a file name; the patient is what its groups match, joined by `-`.
            Images of one patient stay in one split. Patients are the same across classes, so let the pattern take in the class where
            numbers start anew in each class. None: no patients, unless `patients` is set.
        patients: CSV file with the columns path (relative to `root`, forward slashes) and patient, one patient for every image.

    Raises:
        ConfigError: A field breaks its rule.
    """

    root: str | None
    patient_pattern: str | None
    patients: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patient_pattern is not None and self.patients is not None:
            raise ConfigError("set dataset.patient_pattern or dataset.patients, not both")
        if self.patient_pattern is None:
            return
        try:
            num_groups = re.compile(self.patient_pattern).groups
        except (re.error, TypeError) as error:
            raise ConfigError(f"dataset.patient_pattern must be a regular expression, got {self.patient_pattern!r}: {error}") from error
        if num_groups == 0:
            raise ConfigError(f"dataset.patient_pattern must have a group (...) that matches the patient, got {self.patient_pattern!r}")

    def sources(self) -> tuple[Path, ...]:
        """Return `root` and the table of patients, as far as they are set."""
        return tuple(Path(path).expanduser() for path in (self.root, self.patients) if path is not None)

    def column(self, name: str, paths: Sequence[str]) -> list[str]:
        """Return what the column `name` of `patients` says of films, by their paths in the raw index.

        Raises:
            ConfigError: `patients` is not set.
            DataError: the table has no such column, or names nothing for a film.
        """
        if self.patients is None or self.root is None:
            return super().column(name, paths)
        root = open_root(self.root)
        copied = {path.relative_to(root).as_posix(): path for found in find_images(root, self.classes).values() for path in found}
        wanted = [copied[path] for path in paths if path in copied]
        if len(wanted) < len(paths):
            raise DataError(f"{len(paths) - len(wanted)} films are no longer below {root}: put them back, or run `dvc repro`")
        said = _read_column(Path(self.patients).expanduser(), name, root, wanted)
        return [said[path] for path in wanted]

    def write_raw(self, out_dir: Path) -> None:
        """Copy the images to `out_dir`, each at its place below `root`, and write their index, last.

        Raises:
            ConfigError: `root` is not set, or `classes` names an unknown class.
            DataError: `root` is missing or not a folder, a class has too few images, a file has no patient or cannot be copied, or an
                image is DICOM and pydicom is missing.
        """
        if self.root is None:
            raise ConfigError("dataset.root must name the folder of the class folders: set dataset.root=PATH")
        root = open_root(self.root)
        images = find_images(root, self.classes)
        copy_images(images, self._patients_of(root, images), Path(out_dir), root)

    def _patients_of(self, root: Path, images: dict[str, list[Path]]) -> dict[Path, str]:
        """Return the patient of every image, or nothing where none are named."""
        paths = [path for found in images.values() for path in found]
        if self.patients is not None:
            return _read_column(Path(self.patients).expanduser(), "patient", root, paths)
        if self.patient_pattern is None:
            return {}
        matches = {path: re.search(self.patient_pattern, path.name) for path in paths}
        unmatched = [path.name for path, match in matches.items() if not match or not any(match.groups())]
        if unmatched:
            raise DataError(f"dataset.patient_pattern {self.patient_pattern!r} finds no patient in {_some(unmatched)}; widen it")
        return {path: "-".join(group for group in match.groups() if group) for path, match in matches.items() if match}


def open_root(root: str) -> Path:
    """Return the folder `root`.

    Raises:
        DataError: It is missing or no folder.
    """
    path = Path(root).expanduser()
    if not path.exists():
        raise DataError(f"dataset.root {path} does not exist (working directory: {Path.cwd()}); give the folder of the class folders")
    if not path.is_dir():
        raise DataError(f"dataset.root {path} is a file; give the folder of the class folders (unpack an archive first)")
    return path


def find_images(root: Path, classes: Sequence[str] | None) -> dict[str, list[Path]]:
    """Find the images of each class, in the order of `classes` or else by name, and log what is ignored.

    Raises:
        ConfigError: `classes` names an unknown class.
        DataError: There are no or too few classes or images.
    """
    folders = {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")}
    if folders.pop(UNPACKED_BESIDE, None):
        _log.warning("%s: ignored %s", root, UNPACKED_BESIDE)
    unknown = [name for name in classes or () if name not in folders]
    if unknown:
        raise ConfigError(f"dataset.classes names {', '.join(unknown)}, but {root} has {', '.join(folders) or 'no folders'}")
    chosen = list(classes or folders)
    if len(chosen) < 2:
        loose = sum(is_image_file(path) for path in root.iterdir() if path.is_file())
        found = f"{', '.join(chosen) or 'none'}, and {loose} images outside of folders"
        raise DataError(f"dataset.root {root} must hold a folder for each of at least 2 classes, found {found}")
    images = {name: _class_images(folders[name]) for name in chosen}
    empty = [name for name, found in images.items() if not found]
    if empty:
        where = _some(str(folders[name]) for name in empty)
        raise DataError(f"no images in {where}; add some, or choose other classes with dataset.classes")
    small = [f"{name}: {len(found)}" for name, found in images.items() if len(found) < MIN_CLASS_IMAGES]
    if small:
        rule = f"every class needs at least {MIN_CLASS_IMAGES} images (train, validation, test)"
        raise DataError(f"{rule}, found {_some(small)} below {root}; add images, or choose other classes with dataset.classes")
    return images


def copy_images(images: dict[str, list[Path]], patients: dict[Path, str], out_dir: Path, root: Path) -> None:
    """Copy images to `out_dir`, their masks beside them, then write the index, so that a crash leaves none.

    Each keeps its place below `root`: messages and reports of later stages name it by that.

    Raises:
        ConfigError: `out_dir` and `root` lie in each other.
        DataError: A file cannot be copied, or is DICOM and pydicom is missing.
    """
    source, target = root.resolve(), out_dir.resolve()
    if source == target or source in target.parents or target in source.parents:
        raise ConfigError(f"dataset.root {root} and the output folder {out_dir} must not lie in each other; move the images elsewhere")
    paths = [path for found in images.values() for path in found]
    if any(is_dicom(path) for path in paths):
        from ppdl.datasets.images.dicom import import_pydicom

        import_pydicom()  # a missing extra stops here, not after the copy
    (out_dir / INDEX_NAME).unlink(missing_ok=True)
    rows = []
    with tqdm(total=len(paths), desc="copy images", unit="image") as progress:
        for name, found in images.items():
            (out_dir / found[0].parent.relative_to(root)).mkdir(parents=True, exist_ok=True)
            for path in found:
                copy = path.relative_to(root).as_posix()
                _copy(path, out_dir / copy)
                mask = path.parent.with_name(MASKS_FOLDER) / f"{path.stem}.png"
                if path.parent.name == "images" and mask.is_file():
                    (out_dir / name / MASKS_FOLDER).mkdir(exist_ok=True)
                    _copy(mask, out_dir / mask_path(copy))
                rows.append((copy, name, patients.get(path, "")))
                progress.update()
    write_index(out_dir, rows)


def _copy(path: Path, target: Path) -> None:
    try:
        shutil.copyfile(path, target)
    except OSError as error:
        raise DataError(f"{path} cannot be copied to {target}: {error.strerror}") from error


def _class_images(folder: Path) -> list[Path]:
    """Return the image files of a class folder by name, and log what lies beside them."""
    inner = folder / "images"
    source = inner if inner.is_dir() else folder
    taken: list[Path] = []
    ignored = [path.name for path in sorted(folder.iterdir()) if source == inner and path.name not in (inner.name, MASKS_FOLDER)]
    for path in sorted(source.iterdir()):
        if not path.is_dir() and not path.name.startswith(".") and is_image_file(path):
            taken.append(path)
        else:
            ignored.append(path.name)
    if ignored:
        _log.warning("%s: ignored %s", folder, _some(ignored))
    return taken


def _read_column(file: Path, column: str, root: Path, paths: list[Path]) -> dict[Path, str]:
    """Read what a column of a CSV file says of every image; another column is the path."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:  # spreadsheets write a byte order mark
            rows = list(csv.DictReader(stream))
    except UnicodeDecodeError as error:
        raise DataError(f"dataset.patients {file} must be UTF-8 (in a spreadsheet, save it as CSV UTF-8)") from error
    except (OSError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no CSV table, or a field is too long"
        raise DataError(f"dataset.patients {file} cannot be read: {reason}") from error
    if not rows or not {"path", column} <= set(rows[0]):
        found = f"the columns {', '.join(map(str, rows[0]))}" if rows else "no rows"
        raise DataError(f"dataset.patients {file} must have the columns path and {column} and a row for every image, found {found}")
    named: dict[str, str] = {}
    twice: dict[str, str] = {}
    for row in rows:
        path, value = PurePosixPath(row["path"] or "").as_posix(), (row[column] or "").strip()
        if value and named.setdefault(path, value) != value:
            twice[path] = f"{path} (for {named[path]} and for {value})"
    if twice:
        raise DataError(
            f"dataset.patients {file} must name one {column} for each image, found {_some(twice.values())}; keep the right rows"
        )
    missing = [name for path in paths if not named.get(name := path.relative_to(root).as_posix())]
    if missing:
        raise DataError(f"dataset.patients {file} names no {column} for {_some(missing)}; add rows, with paths relative to {root}")
    return {path: named[path.relative_to(root).as_posix()] for path in paths}


def _some(names: Iterable[str]) -> str:
    """List names, cut short."""
    names = list(names)
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more
