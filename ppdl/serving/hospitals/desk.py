"""What a hospital and the key holder do when the server asks: the pipeline's own functions, on the party's own copy of the board.

A message names a phase and brings files of the board; the answer is the file that the phase makes. No message brings code, terms or a key.

The head goes to each hospital whose sums are in it, sealed for that one, so that the server, which carries it, does not have it.

Source: HPKE, RFC 9180 (DHKEM(X25519), HKDF-SHA256, AES-256-GCM), through pyca's. Its `info` is the invitation's digest and the file's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from ppdl.crypto.artifact.shards import hash_file
from ppdl.errors import ArtifactError
from ppdl.pooling.board import Board
from ppdl.pooling.hospital import Hospital
from ppdl.pooling.opening import open_total
from ppdl.pooling.rehearsal import hospital_key
from ppdl.pooling.statements import OPENED, Opened, read_signed, write_signed
from ppdl.pooling.subjects.head import Films
from ppdl.private_head.head import ARRAYS_FILE, JSON_FILE, load_head
from ppdl.records.atomic import replacing
from ppdl.serving.hospitals.invitation import BACKBONE, HOSPITAL, Invitation
from ppdl.serving.hospitals.party import Party

COMMIT, RELEASE, COUNTERSIGN, OPEN, KEEP, END = "commit", "release", "countersign", "open", "keep", "end"
OPENED_FILE = "opened.json"
_PARTS = ARRAYS_FILE, JSON_FILE  # of a head; the one that names the other comes last
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
Files = Mapping[str, bytes]


def commitment(name: str) -> str:
    """Return where a hospital's commitment lies on the board; so `released` and `tally` for its ciphertexts and signature."""
    return f"commitments/{name}.json"


def released(name: str) -> str:
    return f"ciphertexts/{name}.npy"


def tally(name: str) -> str:
    return f"tallies/{name}.json"


def sealed(name: str) -> list[str]:
    return [f"sealed/{name}/{part}" for part in _PARTS]


def brought(phase: str, names: Iterable[str], name: str) -> set[str]:
    """Return the files of the board that a phase's message may bring to one party, in a run of these hospitals."""
    commitments, signed = set(map(commitment, names)), set(map(tally, names))
    return {
        RELEASE: commitments,
        COUNTERSIGN: {"tally.json", *map(released, names)},
        OPEN: {"tally.json", "sum.npy"} | commitments | signed,
        KEEP: {OPENED_FILE, *(sealed(name) if name in names else ())},
    }.get(phase, set())


class Desk:
    """Answer what the server asks of one party.

    Args:
        party: a hospital or the key holder. films: gives a hospital's; asked once at most.
    """

    def __init__(self, party: Party, invitation: Invitation, films: Callable[[], Films]) -> None:
        self.party, self.invitation, self.folder = party, invitation, party.run_folder(invitation)
        self.board, self._films = Board(self.folder / "board"), cache(films)
        if party.role == HOSPITAL:
            self._hospital = Hospital(party.name, invitation.terms, self.board, party.folder, hospital_key(party.folder))

    @property
    def has_head(self) -> bool:
        return (self.folder / "head" / JSON_FILE).exists()

    def answer(self, phase: str, files: Files) -> dict[str, bytes]:
        """Do a phase with the files that came, and return those that go.

        Raises:
            ArtifactError: this party has no such phase, or files came that it takes from nobody.
            PpdlError: see `Hospital` and `open_total`.
        """
        name, names = self.party.name, self.invitation.terms.roster
        phases = {COMMIT, RELEASE, COUNTERSIGN, KEEP} if self.party.role == HOSPITAL else {OPEN, KEEP}
        if phase not in phases or not files.keys() <= brought(phase, names, name):
            raise ArtifactError(f"the server asked for {phase!r} with files that {name} does not take for it: nothing is done")
        for path in files.keys() - {commitment(name), released(name)}:
            write_file(self.board.folder / path, files[path])
        return {path: (self.board.folder / path).read_bytes() for path in getattr(self, f"_{phase}")()}

    def _commit(self) -> list[str]:
        self._hospital.commit(self._films())
        return [commitment(self.party.name)]

    def _release(self) -> list[str]:
        self._hospital.release()
        return [released(self.party.name)]

    def _countersign(self) -> list[str]:
        self._hospital.countersign()
        return [tally(self.party.name)]

    def _open(self) -> list[str]:
        terms, own = self.invitation.terms, self.board.folder / "head"
        load_head(open_total(self.board, terms, self.party.folder, self.invitation.subject.solver(self.invitation.backbone))).save(own)
        opened = Opened(terms.digest, hash_file(own / JSON_FILE))
        write_signed(self.board.folder / OPENED_FILE, OPENED, opened, hospital_key(self.party.folder))
        paths = [path for name in self.board.read_tally().contributors for path in sealed(name)]
        for path in paths:
            key = X25519PublicKey.from_public_bytes(bytes.fromhex(self.invitation.sealing_keys[Path(path).parent.name]))
            write_file(self.board.folder / path, _SUITE.encrypt((own / Path(path).name).read_bytes(), key, self._info(path)))
        return [OPENED_FILE, *paths]

    def _keep(self) -> list[str]:
        """Put the head into `head`, with its backbone, as `ppdl serve` takes it, if it is the one that the key holder signed."""
        own = self.board.folder / "head"
        if self.party.role == HOSPITAL:
            for path in sealed(self.party.name):
                try:
                    content = _SUITE.decrypt((self.board.folder / path).read_bytes(), self.party.key("seal"), self._info(path))
                except (OSError, InvalidTag, ValueError):
                    raise ArtifactError(f"{path} of {self.board.folder} is no head that was sealed for this party in this run") from None
                write_file(own / Path(path).name, content)
        if read_opened(self.board, self.invitation).head_sha256 != hash_file(own / JSON_FILE):
            raise ArtifactError(f"{own} is not the head that the key holder signed in this run: nothing is kept of it")
        load_head(own)
        write_file(self.folder / "head" / BACKBONE, (self.folder / BACKBONE).read_bytes())
        for part in _PARTS:
            write_file(self.folder / "head" / part, (own / part).read_bytes())
        return [OPENED_FILE]

    def _info(self, path: str) -> bytes:
        return f"PPDL-POOL/1 {self.invitation.digest} {path}".encode("ascii")


def read_opened(board: Board, invitation: Invitation) -> Opened:
    """Return what the key holder signed of the head. Raises: ArtifactError when it did not, or of another run."""
    opened: Opened = read_signed(board.folder / OPENED_FILE, OPENED, invitation.holder_key)
    if opened.run != invitation.terms.digest:
        raise ArtifactError(f"{board.folder / OPENED_FILE} is of another run: call a new one")
    return opened


def write_file(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)
