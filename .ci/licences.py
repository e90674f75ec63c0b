"""List the licence that each package of requirements.lock states of itself, as installed here.

python .ci/licences.py --write     write docs/licences.md
"""

from __future__ import annotations

import argparse
import re
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata, requires
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PAGE = PROJECT / "docs/licences.md"
SHARED = re.compile(r"\b[AL]?GPL|General Public|Lesser|Mozilla|\bMPL|\bEPL|Eclipse", re.IGNORECASE)
TEXT = """\
# Licences

`ppdl` is under Apache-2.0. This page is written by `python .ci/licences.py --write` from what the packages of `requirements.lock` say of
themselves where they are installed; it is no legal advice. The wheel of `ppdl` holds none of them: pip fetches them.

**Under the GPL** are `phe`, which draws the primes of every key pair; `grandalf` and, with an exception for linking, `pygit2`, which DVC
brings; and `pylibjpeg-libjpeg`, which decodes JPEG in DICOM files and comes with the extra `dicom` alone. Whoever hands on a bundle that
holds them, such as a container image, has the terms of the GPL to keep.
"""


def pinned(lock: str) -> list[str]:
    """Return the names of the packages in a lock file, in its order."""
    return list(dict.fromkeys(re.findall(r"^([\w.-]+)(?:\[[\w,.-]+\])?==", lock, re.MULTILINE)))


def licence(package: PackageMetadata) -> str:
    """Return what a package says: its SPDX expression, else its classifiers, else the first line of its free text."""
    if package.get("License-Expression"):
        return str(package["License-Expression"])
    classified = [text.rpartition(" :: ")[2] for text in package.get_all("Classifier") or () if text.startswith("License ::")]
    named = [text for text in classified if text != "OSI Approved"]
    return "; ".join(named) or str(package.get("License") or "").strip().split("\n")[0][:80] or "says nothing"


def page(lock: str) -> str:
    """Return docs/licences.md; a package that is for another system, and so is not installed, is named as such."""
    found = {}
    for name in pinned(lock):
        try:
            found[name] = licence(metadata(name)).replace("|", "/")
        except PackageNotFoundError:
            found[name] = "not installed here"
    direct = {re.match(r"[\w.-]+", text)[0].lower().replace("_", "-") for text in requires("ppdl-paillier") or ()}
    groups = {
        "Licences that ask something of who hands the package on": {n: text for n, text in found.items() if SHARED.search(text)},
        "All others": {n: text for n, text in found.items() if not SHARED.search(text)},
    }
    parts = [TEXT]
    for title, rows in groups.items():
        lines = (f"| `{name}` | {'yes' if name in direct else ''} | {text} |\n" for name, text in rows.items())
        parts.append(f"## {title}\n\n| package | named in pyproject.toml | licence |\n|---|---|---|\n{''.join(lines)}")
    return "\n".join(parts)


def main() -> None:
    """Write docs/licences.md."""
    parser = argparse.ArgumentParser(prog="python .ci/licences.py")
    parser.add_argument("--write", action="store_true", required=True, help="write docs/licences.md")
    parser.parse_args()
    PAGE.write_text(page((PROJECT / "requirements.lock").read_text()), encoding="utf-8")


if __name__ == "__main__":
    main()
