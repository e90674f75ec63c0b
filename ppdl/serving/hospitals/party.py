"""The folder of a party: who it is, its keys, and the runs that it agreed to. Mode 0700, and nobody else's.

card.json             {"format": "ppdl card v2", "role": ROLE, "name": NAME, ...} what others may know of it: the key holder gets a copy
films                 of a hospital: a link to its prepared images
node.key              hospital, key holder: private key that Flower knows it by, ECDSA P-384, PEM
seal.key              hospital: private key that the head is sealed for, X25519, PEM
signing-*.json        hospital, key holder: private key that it signs statements with, Ed25519
tls.key, tls.crt      server: private key and certificate of its address
agreed.json           {"format": "ppdl pin v1", "sha256": DIGEST} of the invitation that it agreed to last
runs/DIGEST/          of each such invitation: it, the party's copies of the boards, and at last the head or network

Beside these lie what a hospital and the key holder write down for themselves, see `hospital`, `contributions` and `opening`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import NameOID
from filelock import FileLock, Timeout

from ppdl.crypto.artifact.shards import hash_file
from ppdl.crypto.keys.jwk import public_members
from ppdl.crypto.keys.keyfile import create_private_dir, only_writer, read_file, replace_private, save_public, write_public
from ppdl.crypto.keys.keystore import check_private_dir
from ppdl.errors import ConfigError, KeyStoreError
from ppdl.pooling.board import Board
from ppdl.pooling.opening import check_terms, left_keys
from ppdl.pooling.pins import FORMAT as PIN
from ppdl.pooling.rehearsal import call_run, hospital_key
from ppdl.pooling.subjects.counts import ClassCounts
from ppdl.pooling.subjects.head import HeadSums
from ppdl.pooling.terms import NAME, Member, Terms
from ppdl.private_head.head import backbone_facts
from ppdl.records.reading import read_object
from ppdl.serving.hospitals.invitation import HOSPITAL, KEY_HOLDER, SERVER, Invitation, check_certificate, software

FORMAT = "ppdl card v2"
_MEMBERS = {
    SERVER: ("name", "address", "certificate"),
    HOSPITAL: ("name", "node_key", "sealing_key", "signing_key", "num_films", "num_train_films", "class_names"),
    KEY_HOLDER: ("name", "node_key", "signing_key"),
}
_KINDS = {"num_films": int, "num_train_films": int, "class_names": list}  # of values; all others are texts


@dataclass(frozen=True)
class Party:
    """One party's folder, and its card."""

    folder: Path
    card: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Party:
        """Open a party's folder. Raises: ConfigError when it is none; KeyStoreError when others may enter it."""
        card = read_card(folder / "card.json")
        create_private_dir(folder)
        return cls(folder, card)

    @property
    def role(self) -> str:
        return str(self.card["role"])

    @property
    def name(self) -> str:
        return str(self.card["name"])

    def key(self, name: str) -> Any:
        """Load a private key: "node", that Flower knows the party by, or "seal". Raises: KeyStoreError."""
        path = self.folder / f"{name}.key"
        try:
            return serialization.load_pem_private_key(read_file(path, 4096), None)
        except (ValueError, TypeError):
            raise KeyStoreError(f"{path} holds no private key: restore it, or make the party anew in another folder") from None

    def run_folder(self, invitation: Invitation) -> Path:
        return self.folder / "runs" / invitation.digest[:16]

    def call(
        self,
        cards: Sequence[Mapping[str, Any]],
        model: Mapping[str, Any],
        rules: Mapping[str, Any],
        *,
        allow_insecure_key: bool,
        project: Path,
    ) -> Invitation:
        """Call a run, as the key holder: a key pair for it alone, whose private part stays in this folder.

        Args:
            cards: the server's and the hospitals'.
            model: what is said of backbone or network, see `facts_of`.
            rules: of a head, all of its terms that follow from neither cards nor backbone; of a federation `plan`, see `Invitation`.

        Raises:
            ConfigError: a card is missing or twice there, or the terms break a rule; no key is made then, nor where
                Flower is missing. KeyStoreError: see `call_run`.
        """
        servers = [card for card in cards if card["role"] == SERVER]
        hospitals = {card["name"]: card for card in cards if card["role"] == HOSPITAL}
        if len(servers) != 1 or len(hospitals) + 1 < len(cards):
            got = ", ".join(f"{card['role']} {card['name']}" for card in cards)
            raise ConfigError(f"a run needs the cards of one server and of each hospital, once; got {got}")
        own, versions = dict(rules), software()  # of Flower too, which is missed before a key is made
        key_bits, plan = own.pop("key_bits"), own.pop("plan", None)
        count = "num_train_films" if plan else "num_films"
        roster = {name: Member(card["signing_key"], card[count]) for name, card in sorted(hospitals.items())}
        names = class_names(cards)
        subject = ClassCounts(names) if plan else HeadSums(class_names=names, backbone_sha256=model["sha256"], **own)
        with tempfile.TemporaryDirectory(dir=self.folder) as root:
            board, wanted = Board(Path(root)), Terms("", key_bits, subject, roster)
            terms = call_run(board, wanted, self.folder, allow_insecure_key=allow_insecure_key, project=project)
            public_key = public_members(board.public_key(terms))
        node_keys = {card["name"]: card["node_key"] for card in (*hospitals.values(), self.card)}
        sealing_keys = {name: card["sealing_key"] for name, card in hospitals.items()}
        place = servers[0]["address"], servers[0]["certificate"]
        return Invitation(terms, public_key, model, plan, *place, self.card["signing_key"], node_keys, sealing_keys, versions)

    def left_keys(self, besides: Invitation) -> list[str]:
        """Name the private keys of the runs that the key holder called and never opened, all but one's."""
        return [str(path) for path in left_keys(self.folder) if path.stem != besides.terms.fingerprint]

    def agree(self, source: Path) -> Invitation:
        """Check an invitation against what this party knows of itself, and keep it for `agreed`.

        Args:
            source: folder of the invitation and its backbone.

        Raises:
            ConfigError, KeyStoreError: see `check`; nothing is kept then.
        """
        invitation = Invitation.read(source)
        self.check(invitation)
        folder = self.run_folder(invitation)
        invitation.write(folder, source / invitation.file)
        save_public(folder / "board/0/public.json", invitation.key)
        Board(folder / "board/0").write_terms(invitation.terms)
        with only_writer(self.folder):
            replace_private(self.folder / "agreed.json", {"format": PIN, "sha256": invitation.digest})
        return invitation

    def agreed(self) -> Invitation:
        """Return the invitation that this party agreed to last. Raises: as `agree`; ConfigError when the party's copy was changed."""
        first = "agree to an invitation first (`ppdl hospitals agree`)"
        digest = read_object(self.folder / "agreed.json", ConfigError, missing=first, damaged=first, form=PIN).get("sha256")
        folder = self.folder / "runs" / str(digest)[:16]
        if (found := Invitation.read(folder)).digest != digest:
            raise ConfigError(f"{folder} holds another invitation than {self.name} agreed to: {first}")
        self.check(found)
        return found

    def check(self, invitation: Invitation) -> None:
        """Hold an invitation to what this party is: before it agrees, and each time before it connects.

        Raises:
            ConfigError: other versions, a certificate that is not valid today, or not this party's keys, films or address.
            KeyStoreError: the key holder called another run, or none.
        """
        if (wanted := dict(invitation.software)) != (own := software()):
            versions, here = (", ".join(f"{name} {number}" for name, number in found.items()) for found in (wanted, own))
            raise ConfigError(f"the invitation is for {versions}, and here is {here}: install what it names")
        check_certificate(invitation.certificate)
        member = invitation.terms.roster.get(self.name)
        if self.role == SERVER:
            says: tuple[Any, ...] = invitation.address, invitation.certificate
        elif self.role == KEY_HOLDER:
            check_terms(self.folder, invitation.terms)
            says = invitation.node_keys[KEY_HOLDER], invitation.holder_key
        else:
            keys = invitation.node_keys.get(self.name), invitation.sealing_keys.get(self.name)
            says = *keys, *((member.signing_key, member.num_films) if member else (None, None))
        known = {**self.card, "num_films": self.card["num_train_films"]} if self.role == HOSPITAL and invitation.averaging else self.card
        if says != tuple(known[key] for key in _MEMBERS[self.role][1:5]):
            raise ConfigError(
                f"the invitation is not for {self.name} as {self.folder / 'card.json'} has it (keys, address, number of films): send the "
                "key holder that card, for a new run"
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep a second process of this party out. Raises: ConfigError when there is one."""
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                yield
        except Timeout:
            raise ConfigError(f"another process works for {self.name} in {self.folder} already: end it first") from None


def make_party(folder: Path, card: Mapping[str, Any], project: Path, *, films: Path | None = None, days: int = 90) -> Path:
    """Make a party's folder with its keys, and return the file of its card.

    Args:
        card: role, name, and of a hospital `num_films`, `num_train_films` and `class_names`, of the server `address`.
        project: that no private key may lie in.
        films: a hospital's prepared images.
        days: that the server's certificate is valid.

    Raises:
        ConfigError: there is a party already, or name or address break their rules.
        KeyStoreError: the folder lies in the project, or others may enter it.
    """
    role, name, path = card["role"], card["name"], folder / "card.json"
    if path.exists():
        raise ConfigError(f"{folder} is a party's folder already, and its keys are kept: name another")
    if not re.fullmatch(NAME, name) or (name != role and name in (SERVER, KEY_HOLDER)):
        rule = f"1 to 40 lower-case letters, digits, - and _, the first no sign, and not {SERVER} or {KEY_HOLDER}"
        raise ConfigError(f"the name of a hospital must be {rule}, got {ascii(name)[:60]}; rename it")
    check_private_dir(folder, project)
    create_private_dir(folder)
    key = ec.generate_private_key(ec.SECP384R1())  # the curve of Flower's own keys
    _write_private(folder / ("tls.key" if role == SERVER else "node.key"), key)
    if role == SERVER:
        own = {"certificate": _certificate(key, card["address"], days)}
        (folder / "tls.crt").write_text(own["certificate"], encoding="ascii")
    else:
        public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        own = {"node_key": public.decode("ascii"), "signing_key": hospital_key(folder).public_key().public_bytes_raw().hex()}
    if role == HOSPITAL:
        sealing = X25519PrivateKey.generate()
        _write_private(folder / "seal.key", sealing)
        own["sealing_key"] = sealing.public_key().public_bytes_raw().hex()
    if films is not None:
        (folder / "films").unlink(missing_ok=True)
        (folder / "films").symlink_to(films.resolve())
    write_public(path, {"format": FORMAT, **card, **own})
    return path


def class_names(cards: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of all classes that hospitals have, in order."""
    return sorted({name for card in cards for name in card.get("class_names", ())})


def facts_of(node: Mapping[str, Any], prepared_px: int, path: Path) -> dict[str, Any]:
    """Return what is said of the backbone or network that a configuration gave and a file holds, for `Party.call`."""
    return backbone_facts(node, prepared_px, hash_file(path))


def read_card(path: Path) -> dict[str, Any]:
    """Read a card that `make_party` wrote. Raises: ConfigError."""
    again = "`ppdl hospitals make` makes a party's own; get another party's from that party"
    tree = read_object(path, ConfigError, missing=again, damaged=again, form=FORMAT)
    members = _MEMBERS.get(str(tree.get("role")), ("role",))
    if bad := [key for key in members if type(tree.get(key)) is not _KINDS.get(key, str)]:
        raise ConfigError(f"{path} is no party's card: its {bad[0]} is missing, or no {_KINDS.get(bad[0], str).__name__}: {again}")
    return tree


def split_address(address: str) -> tuple[str, int]:
    """Return host and port. Raises: ConfigError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"an address is HOST:PORT, such as pool.example.org:9443, got {ascii(address)[:60]}")
    return host.strip("[]"), int(port)


def _write_private(path: Path, key: ec.EllipticCurvePrivateKey | X25519PrivateKey) -> None:
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(text)


def _certificate(key: ec.EllipticCurvePrivateKey, address: str, days: int) -> str:
    """Return a certificate of an address by its own key, PEM (X.509, RFC 5280): who has it needs no other authority."""
    host, _ = split_address(address)
    try:
        name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        name = x509.DNSName(host)
    own, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]), datetime.now(UTC)
    builder = x509.CertificateBuilder(own, own, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=days))
    builder = builder.add_extension(x509.SubjectAlternativeName([name]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode("ascii")
