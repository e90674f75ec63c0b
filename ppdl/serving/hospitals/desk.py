"""What a hospital and the key holder do when the server asks: the pipeline's own functions, on the party's own copy of the board.

A message names a phase of a sum and brings files of its board; the answer is the files that the phase makes. No message brings code, and
none a key or terms but those of a later sum of a federation, which the key holder signed, and which a hospital holds to what it computed.

What is made of a total goes to each hospital whose sums are in it, sealed for that one, so that the server, which carries it, does not
have it.

Source: HPKE, RFC 9180 (DHKEM(X25519), HKDF-SHA256, AES-256-GCM), through pyca's. Its `info` is the invitation's digest, the number of the
sum and the file's name.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from ppdl.crypto.artifact.shards import hash_file
from ppdl.errors import ArtifactError, PpdlError
from ppdl.pooling.board import Board
from ppdl.pooling.hospital import KEPT, Hospital, kept
from ppdl.pooling.opening import abandon_run, open_total
from ppdl.pooling.rehearsal import call_run, hospital_key
from ppdl.pooling.statements import CALLED, OPENED, Called, Opened, read_signed, write_signed
from ppdl.pooling.subjects.base import Subject
from ppdl.pooling.terms import Terms
from ppdl.serving.hospitals.course import Course, write_file
from ppdl.serving.hospitals.invitation import HOSPITAL, Invitation
from ppdl.serving.hospitals.party import Party

CALL, COMMIT, RELEASE, COUNTERSIGN, OPEN, KEEP, END = "call", "commit", "release", "countersign", "open", "keep", "end"
OPENED_FILE = "opened.json"
CALL_FILES = "terms.json", "public.json", "called.json"  # the last says that all are here
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
Files = Mapping[str, bytes]


def commitment(name: str) -> str:
    """Return where a hospital's commitment lies on the board; so `released` and `tally` for its ciphertexts and signature."""
    return f"commitments/{name}.json"


def released(name: str) -> str:
    return f"ciphertexts/{name}.npy"


def tally(name: str) -> str:
    return f"tallies/{name}.json"


def sealed(name: str, parts: Iterable[str]) -> list[str]:
    return [f"sealed/{name}/{part}" for part in parts]


def brought(phase: str, names: Iterable[str], name: str, parts: Iterable[str], number: int) -> set[str]:
    """Return the files of the board that a phase's message may bring to one party, for a sum of these hospitals."""
    commitments, signed = set(map(commitment, names)), set(map(tally, names))
    return {
        COMMIT: set(CALL_FILES) if number else set(),
        RELEASE: commitments,
        COUNTERSIGN: {"tally.json", *map(released, names)},
        OPEN: {"tally.json", "sum.npy"} | commitments | signed,
        KEEP: {OPENED_FILE, *(sealed(name, parts) if name in names else ())},
    }.get(phase, set())


class Desk:
    """Answer what the server asks of one party.

    Args:
        party: a hospital or the key holder. course: what the sums are for. project: that no private key may lie in.
    """

    def __init__(self, party: Party, invitation: Invitation, course: Course, project: Path) -> None:
        self.party, self.invitation, self.course, self._project = party, invitation, course, project
        self.folder = party.run_folder(invitation) / "board"

    @property
    def finished(self) -> bool:
        """Whether this party has all that comes of the run."""
        return self.course.number == self.invitation.num_sums

    def board(self, number: int) -> Board:
        """Return the party's copy of a sum's board."""
        return Board(self.folder / str(number))

    def answer(self, phase: str, files: Files, number: int = 0) -> dict[str, bytes]:
        """Do a phase of a sum with the files that came, and return those that go.

        Raises:
            ArtifactError: this party has no such phase, or files came that it takes from nobody.
            PpdlError: see `Hospital` and `open_total`.
        """
        name, names, board = self.party.name, self.invitation.terms.roster, self.board(number)
        if not 0 <= number < self.invitation.num_sums:
            raise ArtifactError(f"the server asked for another sum than the {self.invitation.num_sums} of this run: nothing is done")
        phases = {COMMIT, RELEASE, COUNTERSIGN, KEEP} if self.party.role == HOSPITAL else {OPEN, KEEP} | ({CALL} if number else set())
        if phase not in phases or not files.keys() <= brought(phase, names, name, self.invitation.parts, number):
            raise ArtifactError(f"the server asked for {phase!r} with files that {name} does not take for it: nothing is done")
        again = phase == KEEP and number == self.course.number - 1 and (board.folder / OPENED_FILE).exists()
        if again:  # the server was killed before it had the answer
            return {OPENED_FILE: (board.folder / OPENED_FILE).read_bytes()}
        if number != self.course.number:
            raise ArtifactError(
                f"the server asked to {phase} sum {number + 1}, and {name} is at sum {self.course.number + 1}: call a new run"
            )
        if files.keys() & set(CALL_FILES):
            self._take_call(board, files, number)
        for path in files.keys() - {commitment(name), released(name), *CALL_FILES}:
            write_file(board.folder / path, files[path])
        return {path: (board.folder / path).read_bytes() for path in getattr(self, f"_{phase}")(number)}

    def _call(self, number: int) -> list[str]:
        """Call a later sum, under a fresh key. What the one before left here goes, but of the first, whose terms are the invitation's."""
        first, board = self.invitation.terms, self.board(number)
        if number > 1:
            abandon_run(self.board(number - 1), self.party.folder)
        wanted = replace(first, fingerprint="", subject=self.course.subject)
        insecure = True  # its length is that of the first key, which was held to the rule
        terms = call_run(board, wanted, self.party.folder, allow_insecure_key=insecure, project=self._project)
        called = Called(self.invitation.digest, number, terms.digest)
        write_signed(board.folder / CALL_FILES[-1], CALLED, called, hospital_key(self.party.folder))
        return list(CALL_FILES)

    def _take_call(self, board: Board, files: Files, number: int) -> None:
        """Take what the key holder called, if it follows from the sums before, and the first one alone."""
        if not (board.folder / CALL_FILES[-1]).exists():
            place_call(board, files, self.invitation, number, self.course.subject)
        elif any((board.folder / path).read_bytes() != content for path, content in files.items()):
            raise ArtifactError(f"the key holder called sum {number + 1} twice, and {self.party.name} takes part once: call a new run")

    def _commit(self, number: int) -> list[str]:
        self._forget(number - 1)
        self._hospital(number).commit(self.course.brings())
        return [commitment(self.party.name)]

    def _release(self, number: int) -> list[str]:
        self._hospital(number).release()
        return [released(self.party.name)]

    def _countersign(self, number: int) -> list[str]:
        self._hospital(number).countersign()
        return [tally(self.party.name)]

    def _open(self, number: int) -> list[str]:
        terms, board, parts = read_called(self.board(number), self.invitation, number), self.board(number), self.invitation.parts
        answer = open_total(board, terms, self.party.folder, self.course.make)
        for part in parts:
            write_file(board.folder / "answer" / part, (answer / part).read_bytes())
        opened = Opened(terms.digest, hash_file(answer / parts[-1]))
        write_signed(board.folder / OPENED_FILE, OPENED, opened, hospital_key(self.party.folder))
        paths = [path for name in board.read_tally().contributors for path in sealed(name, parts)]
        for path in paths:
            key = X25519PublicKey.from_public_bytes(bytes.fromhex(self.invitation.sealing_keys[Path(path).parent.name]))
            write_file(board.folder / path, _SUITE.encrypt((answer / Path(path).name).read_bytes(), key, self._info(number, path)))
        return [OPENED_FILE, *paths]

    def _keep(self, number: int) -> list[str]:
        """Take what the key holder made of the total, if it is what it signed."""
        board, parts = self.board(number), self.invitation.parts
        own = board.folder / "answer"
        if self.party.role == HOSPITAL:
            for path in sealed(self.party.name, parts):
                try:
                    content = _SUITE.decrypt((board.folder / path).read_bytes(), self.party.key("seal"), self._info(number, path))
                except (OSError, InvalidTag, ValueError):
                    raise ArtifactError(f"{path} of {board.folder} was not sealed for this party in this run") from None
                write_file(own / Path(path).name, content)
        if read_opened(board, self.invitation, number).answer_sha256 != hash_file(own / parts[-1]):
            raise ArtifactError(f"{own} is not what the key holder signed in this run: nothing is kept of it")
        self.course.take(own)
        return [OPENED_FILE]

    def _hospital(self, number: int) -> Hospital:
        board = self.board(number)
        terms = read_called(board, self.invitation, number)
        return Hospital(self.party.name, terms, board, self.party.folder, hospital_key(self.party.folder))

    def _forget(self, number: int) -> None:
        """Remove what a hospital kept of a sum that all have the outcome of, then its board."""
        board = self.board(number)
        with suppress(PpdlError):  # a kill left a part of the board, and nothing of the other
            terms = read_called(board, self.invitation, number)
            for what in KEPT:
                kept(self.party.folder, self.party.name, terms, what).unlink(missing_ok=True)
        shutil.rmtree(board.folder, ignore_errors=True)

    def _info(self, number: int, path: str) -> bytes:
        return f"PPDL-POOL/1 {self.invitation.digest} {number} {path}".encode("ascii")


def read_called(board: Board, invitation: Invitation, number: int) -> Terms:
    """Return the terms of a sum: the invitation's, or those that the key holder called later, under another key and of something else.

    Raises: ArtifactError, ConfigError when the key holder did not, or changed more.
    """
    if not number:
        return invitation.terms
    terms = board.read_terms()
    called: Called = read_signed(board.folder / CALL_FILES[-1], CALLED, invitation.holder_key)
    wanted = replace(invitation.terms, fingerprint=terms.fingerprint, subject=terms.subject)
    if called != Called(invitation.digest, number, terms.digest) or wanted.tree != terms.tree:
        raise ArtifactError(f"{board.folder} is not of sum {number + 1} of this run: call a new one")
    return terms


def place_call(board: Board, files: Files, invitation: Invitation, number: int, subject: Subject | None = None) -> None:
    """Put what the key holder called onto a board, once it is seen to be right.

    Args:
        subject: what the sum must be of; None: the server, which cannot tell.

    Raises: ArtifactError, ConfigError, KeyStoreError when it is not; nothing is put there then.
    """
    with tempfile.TemporaryDirectory(dir=board.folder.parent, prefix=".called-") as folder:
        called = Board(Path(folder))
        for path in files.keys() & set(CALL_FILES):
            write_file(called.folder / path, files[path])
        terms = read_called(called, invitation, number)
        if called.public_key(terms).key_bits != terms.key_bits:
            raise ArtifactError(f"sum {number + 1} was called under a key of another length than all agreed to: nothing is sent")
    if subject is not None and replace(terms, subject=subject).tree != terms.tree:
        raise ArtifactError(f"sum {number + 1} was called of something else than follows from the sums before: nothing is sent")
    for path in CALL_FILES:
        write_file(board.folder / path, files[path])


def read_opened(board: Board, invitation: Invitation, number: int) -> Opened:
    """Return what the key holder signed of a total's answer. Raises: ArtifactError when it did not, or of another run."""
    opened: Opened = read_signed(board.folder / OPENED_FILE, OPENED, invitation.holder_key)
    if opened.run != read_called(board, invitation, number).digest:
        raise ArtifactError(f"{board.folder / OPENED_FILE} is of another run: call a new one")
    return opened
