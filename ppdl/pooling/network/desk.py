"""What a hospital and the key holder do when the server asks: the pipeline's own functions, on the party's own copy of the board.

A message names a phase and brings files of the board; the answer is the file that the phase makes. No message brings code, terms or a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ppdl.crypto.artifact.shards import hash_file
from ppdl.errors import ArtifactError
from ppdl.pooling.board import Board
from ppdl.pooling.hospital import Hospital
from ppdl.pooling.network.invitation import BACKBONE, HOSPITAL, Invitation
from ppdl.pooling.network.party import Party
from ppdl.pooling.opening import open_total
from ppdl.pooling.rehearsal import Films, hospital_key
from ppdl.pooling.statements import OPENED, Opened, read_signed, write_signed
from ppdl.private_head.head import ARRAYS_FILE, JSON_FILE, load_head
from ppdl.records.atomic import replacing

COMMIT, RELEASE, COUNTERSIGN, OPEN, KEEP, END = "commit", "release", "countersign", "open", "keep", "end"
HEAD = tuple(f"head/{name}" for name in (ARRAYS_FILE, "opened.json", JSON_FILE))  # the one that names the others comes last
Files = Mapping[str, bytes]


def commitment(name: str) -> str:
    """Return where a hospital's commitment lies on the board; so `released` and `tally` for its ciphertexts and signature."""
    return f"commitments/{name}.json"


def released(name: str) -> str:
    return f"ciphertexts/{name}.npy"


def tally(name: str) -> str:
    return f"tallies/{name}.json"


def brought(phase: str, names: Iterable[str]) -> set[str]:
    """Return the files of the board that a phase's message may bring, in a run of these hospitals."""
    commitments, signed = {commitment(name) for name in names}, {tally(name) for name in names}
    return {
        RELEASE: commitments,
        COUNTERSIGN: {"tally.json", *(released(name) for name in names)},
        OPEN: {"tally.json", "sum.npy"} | commitments | signed,
        KEEP: set(HEAD),
    }.get(phase, set())


class Desk:
    """Answer what the server asks of one party.

    Args:
        party: a hospital or the key holder. films: gives a hospital's, at most once a process.
    """

    def __init__(self, party: Party, invitation: Invitation, films: Callable[[], Films]) -> None:
        self.party, self.invitation, self.folder = party, invitation, party.run_folder(invitation)
        self.board, self._films = Board(self.folder / "board"), films
        if party.role == HOSPITAL:
            self._hospital = Hospital(party.name, invitation.terms, self.board, party.folder, hospital_key(party.folder))

    @property
    def has_head(self) -> bool:
        return (self.folder / HEAD[-1]).exists()

    def answer(self, phase: str, files: Files) -> dict[str, bytes]:
        """Do a phase with the files that came, and return those that go.

        Raises:
            ArtifactError: this party has no such phase, or files came that it takes from nobody.
            PpdlError: see `Hospital` and `open_total`.
        """
        name, names = self.party.name, self.invitation.terms.roster
        phases = {COMMIT, RELEASE, COUNTERSIGN, KEEP} if self.party.role == HOSPITAL else {OPEN, KEEP}
        if phase not in phases or not files.keys() <= brought(phase, names):
            raise ArtifactError(f"the server asked for {phase!r} with files that {name} does not take for it: nothing is done")
        for path in files.keys() - {commitment(name), released(name)}:
            write_file(self.board.folder / path, files[path])
        return {path: (self.board.folder / path).read_bytes() for path in getattr(self, f"_{phase}")()}

    def _commit(self) -> list[str]:
        films = self._films()
        self._hospital.commit(films.features, films.labels, films.digests)
        return [commitment(self.party.name)]

    def _release(self) -> list[str]:
        self._hospital.release()
        return [released(self.party.name)]

    def _countersign(self) -> list[str]:
        self._hospital.countersign()
        return [tally(self.party.name)]

    def _open(self) -> list[str]:
        terms, head = self.invitation.terms, self.board.folder / "head"
        open_total(self.board, terms, self.party.folder, backbone=self.invitation.backbone).save(head)
        opened = Opened(terms.digest, hash_file(head / JSON_FILE))
        write_signed(self.board.folder / HEAD[1], OPENED, opened, hospital_key(self.party.folder))
        return list(HEAD)

    def _keep(self) -> list[str]:
        keep_head(self.board, self.invitation, self.folder)
        return [HEAD[1]]


def keep_head(board: Board, invitation: Invitation, folder: Path) -> None:
    """Put the head into `folder`, with its backbone, as `ppdl serve` takes it.

    Raises: ArtifactError, DataError when the key holder did not sign it, it is damaged, or of another run.
    """
    opened = read_signed(board.folder / HEAD[1], OPENED, invitation.holder_key)
    if opened != Opened(invitation.terms.digest, hash_file(board.folder / HEAD[2])):
        raise ArtifactError(f"{board.folder / 'head'} is not the head that the key holder signed in this run: nothing is kept of it")
    load_head(board.folder / "head")
    write_file(folder / "head" / BACKBONE, (folder / BACKBONE).read_bytes())
    for path in HEAD:
        write_file(folder / path, (board.folder / path).read_bytes())


def write_file(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)
