"""The COVID-19 Radiography Database: 21,165 chest X-rays of four classes, 299 x 299 PNG.

Layout: `COVID-19_Radiography_Dataset/CLASS/{images,masks}/CLASS-NUMBER.png`; the masks are of the lungs, 256 x 256
(`masks.py`). It does not name patients, so groups are clusters of near duplicates. Some of its images are stored in colour, which
`image_io` undoes.

Source: Chowdhury et al. 2020, doi:10.1109/ACCESS.2020.3010287; Rahman et al. 2021, doi:10.1016/j.compbiomed.2021.104319.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ppdl.datasets.sources.base import Dataset
from ppdl.datasets.sources.folder import copy_images, find_images, open_root
from ppdl.errors import ConfigError, DataError, install_extra
from ppdl.records.typecheck import Count

FOLDER_NAME = "COVID-19_Radiography_Dataset"


@dataclass(frozen=True, kw_only=True)
class Radiography(Dataset):
    """The COVID-19 Radiography Database, fetched from Kaggle (no account needed) or read from a local copy.

    Attributes:
        root: A local copy: the folder `COVID-19_Radiography_Dataset` or the one that holds it. None fetches it with kagglehub, whose cache
            (`~/.cache/kagglehub`) keeps it.
        handle: Kaggle's name of the data set.
        num_images: Number of images that each class must have, so that half a copy is noticed.

    Raises:
        ConfigError: A field breaks its rule.
    """

    root: str | None
    handle: str
    num_images: Mapping[str, Count]

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [name for name in self.classes or () if name not in self.num_images]
        if unknown:
            raise ConfigError(f"dataset.classes names {', '.join(unknown)}, but the database has {', '.join(self.num_images)}")

    def sources(self) -> tuple[Path, ...]:
        """Return `root`, where it is set: kagglehub's cache does not change."""
        return () if self.root is None else (Path(self.root).expanduser(),)

    def write_raw(self, out_dir: Path) -> None:
        """Copy the images to `out_dir/CLASS/images/`, their masks to `out_dir/CLASS/masks/`, and write the index, last.

        Raises:
            DataError: The database cannot be fetched, or its layout or counts are not the expected ones.
        """
        root = find_database(fetch(self.handle) if self.root is None else open_root(self.root))
        classes = self.classes or tuple(sorted(self.num_images))
        missing = [name for name in classes if not (root / name / "images").is_dir()]
        if missing:
            found = ", ".join(path.name for path in sorted(root.iterdir()) if path.is_dir())
            raise DataError(f"{root} must hold CLASS/images for each of {', '.join(classes)}; missing {', '.join(missing)}, found {found}")
        images = find_images(root, classes)
        counts = {name: (len(images[name]), self.num_images[name]) for name in classes}
        wrong = [f"{name}: {found} instead of {expected}" for name, (found, expected) in counts.items() if found != expected]
        if wrong:
            raise DataError(
                f"{root} has not the expected number of images: {'; '.join(wrong)}. "
                "Fetch it again (an interrupted download or unpacking?), or set dataset.num_images if it is another version"
            )
        copy_images(images, {}, Path(out_dir), root)


def find_database(path: Path) -> Path:
    """Return the folder of the class folders: `path`, or `COVID-19_Radiography_Dataset` in it."""
    return path / FOLDER_NAME if (path / FOLDER_NAME).is_dir() else path


def fetch(handle: str) -> Path:
    """Fetch a public data set from Kaggle, unless kagglehub's cache has it.

    Returns:
        The folder that it is unpacked in.

    Raises:
        DataError: kagglehub is missing, or the network fails.
    """
    way_out = "Or fetch it by other means and set dataset.root=PATH to the unpacked folder"
    try:
        import kagglehub
    except ImportError as error:
        raise DataError(f"fetching {handle} from Kaggle needs an extra: {install_extra('kaggle')}. {way_out}") from error
    try:
        return Path(kagglehub.dataset_download(handle))
    except Exception as error:  # kagglehub lets through what requests, zipfile and its own client raise, and each means the same here
        raise DataError(f"{handle} could not be fetched from Kaggle: {type(error).__name__}: {error}. Try again. {way_out}") from error
