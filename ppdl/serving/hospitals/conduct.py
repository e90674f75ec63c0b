"""The server's side of a run over a network: it asks each party for its part, and keeps the board, which says what is still missing.

Called again after a kill, it asks for what the board lacks and no more. Of sums that follow each other it keeps the board of the last.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from ppdl.errors import ArtifactError
from ppdl.pooling.board import Board, read_rows
from ppdl.pooling.server import add_contributions
from ppdl.pooling.statements import COMMITMENT, TALLY, read_commitments, read_signed
from ppdl.records.atomic import replacing
from ppdl.serving.hospitals.course import write_file
from ppdl.serving.hospitals.desk import (
    CALL,
    CALL_FILES,
    COMMIT,
    COUNTERSIGN,
    KEEP,
    OPEN,
    OPENED_FILE,
    RELEASE,
    Files,
    brought,
    commitment,
    place_call,
    read_called,
    read_opened,
    released,
    sealed,
)
from ppdl.serving.hospitals.desk import tally as signature
from ppdl.serving.hospitals.invitation import KEY_HOLDER, Invitation

Place = Callable[[str], str]  # of a hospital's file on the board
Ask = Callable[[str, Mapping[str, Files], bool, int], Iterator[tuple[str, Files]]]


def conduct(folder: Path, invitation: Invitation, ask: Ask) -> None:
    """Have all parties do their part of a run, until each has what comes of it.

    Args:
        folder: of the server's boards, one a sum.
        ask: sends a phase's files to parties by name, for a sum, and gives the answers as they come. True: a party that stays away is left
            out; else that ends the run.

    Raises:
        ServerError: a party stays away, or declines.
        ArtifactError, ConfigError, CryptoError: an answer is not what it should be, or too few hospitals came.
    """
    reached = max((int(path.name) for path in folder.glob("[0-9]*")), default=0)
    for number in range(reached, invitation.num_sums):
        board = Board(folder / str(number))
        if number:
            _call(board, invitation, number, ask)
            shutil.rmtree(folder / str(number - 1), ignore_errors=True)
        _sum(board, invitation, number, ask)


def _call(board: Board, invitation: Invitation, number: int, ask: Ask) -> None:
    if (board.folder / CALL_FILES[-1]).exists():
        return
    for name, files in ask(CALL, {KEY_HOLDER: {}}, False, number):
        if files.keys() != set(CALL_FILES):
            raise ArtifactError(f"{name} answered {CALL} with other files than {', '.join(CALL_FILES)}: call a new run")
        place_call(board, files, invitation, number)


def _sum(board: Board, invitation: Invitation, number: int, ask: Ask) -> None:
    terms = read_called(board, invitation, number)
    key, parts = board.public_key(terms), invitation.parts

    def signed(kind: str, path: Path, name: str) -> object:
        return read_signed(path, kind, terms.roster[name].signing_key)

    def gather(phase: str, place: Place, names: Iterable[str], check: Callable[[Path, str], object]) -> None:
        left = [name for name in names if not (board.folder / place(name)).exists()]
        bring = _read(board, brought(phase, names, "", parts, number)) if left else {}
        wanted = {name: {path: bring[path] for path in bring.keys() - {commitment(name), released(name)}} for name in left}
        for name, files in ask(phase, wanted, phase == RELEASE and not invitation.averaging, number):
            if files.keys() != {place(name)}:
                raise ArtifactError(f"{name} answered {phase} with other files than {place(name)}: call a new run")
            path = board.folder / place(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as unfinished:
                unfinished.write_bytes(files[place(name)])
                check(unfinished, name)

    gather(COMMIT, commitment, terms.roster, partial(signed, COMMITMENT))
    commitments = read_commitments(board.commitments, terms)
    if not (board.folder / "tally.json").exists():  # it says who was left out, for good: hospitals may have signed it
        gather(RELEASE, released, terms.roster, lambda path, name: read_rows(path, terms, key, commitments[name].ciphertexts_sha256))
    found = add_contributions(board, terms)
    counted = found.contributors
    gather(COUNTERSIGN, signature, counted, partial(signed, TALLY))
    if not (board.folder / OPENED_FILE).exists():
        wanted = {OPENED_FILE, *(path for name in counted for path in sealed(name, parts))}
        files = _read(board, {"tally.json", "sum.npy", *map(commitment, terms.roster), *map(signature, counted)})
        for name, answer in ask(OPEN, {KEY_HOLDER: files}, False, number):
            if answer.keys() != wanted:
                raise ArtifactError(f"{name} answered {OPEN} with other files than what it sealed for all contributors: call a new run")
            for path in sorted(wanted, key=OPENED_FILE.__eq__):  # which says that all others are here
                write_file(board.folder / path, answer[path])
    read_opened(board, invitation, number)
    kept = board.folder / "kept"
    left = [name for name in (*counted, KEY_HOLDER) if not (kept / name).exists()]
    files_of = {name: _read(board, [OPENED_FILE, *(sealed(name, parts) if name in counted else ())]) for name in left}
    for name, answer in ask(KEEP, files_of, False, number):
        if answer != _read(board, [OPENED_FILE]):
            raise ArtifactError(f"{name} keeps another {invitation.outcome}: compare those of all, for who has the other was deceived")
        write_file(kept / name, b"")


def _read(board: Board, paths: Iterable[str]) -> Files:
    return {path: (board.folder / path).read_bytes() for path in paths}
