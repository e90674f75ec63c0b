"""Key files: where they lie, who may read them, and what happens when one of the two is missing.

The public part is a file of the project, one for each purpose (PUBLIC_PATHS). The private part lies outside of it, in a folder of the user
(mode 0700), as FINGERPRINT.json (mode 0600): PPDL_PRIVATE_KEY_DIR, else $XDG_DATA_HOME/ppdl/keys, else ~/.local/share/ppdl/keys. A
private file is never overwritten, and never deleted but by ppdl.pooling.opening, whose keys serve one run.
keyfile.py reads and writes them, jwk.py describes the contents.

What `ensure_keypair` does:

public.json     private key here                      outcome
missing         none that was made for this project   "made": a new pair; an error where the pipeline has recorded a public key
there           there                                 "kept"
there           missing                               "kept_public_only": encryption works, decryption says whom to ask
missing         the newest of this project, purpose   "rebuilt_public" from it; an error where the pipeline has recorded another
                and size
another length  there, and none of the wanted length  "made_other_length": a new pair; the old key stays in the private folder
another length  there, and one of the wanted length   "found_other_length": the newest of these is taken up again
another length  missing                               an error: somebody handed the public key over, and it is never replaced
unreadable, or  any                                   an error; nothing is written
another purpose

A public key without h, made by another program, is kept like any other; obfuscator `djn` is refused for it where it
is used.
"""

import os
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from ppdl.crypto.keys.jwk import parse_public
from ppdl.crypto.keys.keyfile import (
    create_private,
    load_private,
    load_public,
    private_path,
    project_root,
    public_md5,
    read_members,
    save_private,
    save_public,
)
from ppdl.crypto.keys.keypair import PrivateKey, PublicKey, check_key_bits, check_purpose, generate_keypair
from ppdl.crypto.keys.purpose import ARCHIVE
from ppdl.errors import KeyStoreError

__all__ = [
    "KeyOutcome",
    "create_private",
    "default_private_dir",
    "ensure_keypair",
    "load_private",
    "load_public",
    "private_path",
    "require_private",
    "save_private",
    "save_public",
]

PRIVATE_DIR_VARIABLE = "PPDL_PRIVATE_KEY_DIR"


@dataclass(frozen=True)
class KeyOutcome:
    """Say what ensure_keypair found and did. private_path is None when the private key is not on this machine."""

    case: str
    public_key: PublicKey
    private_path: Path | None
    message: str


def default_private_dir() -> Path:
    """Return PPDL_PRIVATE_KEY_DIR, else $XDG_DATA_HOME/ppdl/keys, else ~/.local/share/ppdl/keys."""
    if chosen := os.environ.get(PRIVATE_DIR_VARIABLE):
        return Path(chosen).expanduser()
    data_home = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (data_home if data_home.is_absolute() else Path.home() / ".local/share") / "ppdl/keys"


def check_private_dir(private_dir: Path, project: Path) -> None:
    """Refuse a folder of private keys inside the project, or inside a git work tree around it: one `git add` would publish them.

    Raises: KeyStoreError.
    """
    root, private_dir = project_root(project), Path(private_dir).resolve()
    for tree in (root, *(parent for parent in root.parents if (parent / ".git").exists())):
        if private_dir.is_relative_to(tree):
            raise KeyStoreError(
                f"{private_dir}: private keys must not lie inside the project or its git work tree {tree}; set "
                f"{PRIVATE_DIR_VARIABLE} or keygen.private_dir to a folder outside of it"
            )


def ensure_keypair(
    public_path: Path,
    private_dir: Path | None,
    *,
    key_bits: int,
    allow_insecure_key: bool,
    project: Path,
    passphrase: str | None = None,
    purpose: str = ARCHIVE,
    recorded_md5: str | None = None,
) -> KeyOutcome:
    """Keep, complete or make the key pair of a project for a purpose (the table at the top of this module).

    Args:
        private_dir: None means default_private_dir(). passphrase: of a new private file, see `save_private`.
        recorded_md5: of the public file that the pipeline has recorded here: no other takes its place while it is missing.
    Raises: ConfigError for a bad key_bits; KeyStoreError when public.json is unreadable, for another purpose, of another length and not of
        a private key here, or missing and recorded, or private_dir unsafe. Nothing is lost then.
    """
    check_key_bits(key_bits, allow_insecure_key=allow_insecure_key)
    own = f"`ppdl key make --purpose {purpose} --bits {key_bits}" + (
        f" --private-dir {shlex.quote(str(private_dir))}`" if private_dir else "`"
    )
    public_path, private_dir = Path(public_path), Path(default_private_dir() if private_dir is None else private_dir)
    check_private_dir(private_dir, project)
    before = _present(public_path, private_dir, key_bits, purpose, own) if public_path.exists() else None
    if before is not None and before.key_bits == key_bits:
        return _keep(before, private_dir)
    found = _newest(private_dir, project, key_bits, purpose)
    if before is None and recorded_md5 and (found is None or public_md5(found[1]) != recorded_md5):
        stage = "keygen" if purpose == ARCHIVE else f"keygen_{purpose}"
        raise KeyStoreError(
            f"{public_path} is missing, and dvc.lock records it: a new pair would encrypt everything anew. To have it back: "
            f"`dvc checkout {stage}`, or `dvc pull {stage}` where DVC's cache does not have it; to make a pair of your own: {own}"
        )
    if found is not None:
        path, public = found
        save_public(public_path, public)
        case, message = "rebuilt_public", f"{public_path} was missing: rebuilt it from the newest private key of this project, {path}."
        if before is not None:
            case, message = "found_other_length", f"took up {path} again, the newest private key of this project with {key_bits} bits."
        outcome = KeyOutcome(case, public, path, message)
    else:
        case = "made" if before is None else "made_other_length"
        outcome = _make(case, public_path, private_dir, key_bits, project, passphrase, purpose)
    if before is None:
        return outcome
    old = private_path(private_dir, before.fingerprint)
    message = (
        f"{public_path} had {before.key_bits} bits, keygen.key_bits is {key_bits}: {outcome.message} "
        f"The old key {before.fingerprint} stays in {old}; ciphertexts under this one come from DVC's cache, or are made anew."
    )
    return replace(outcome, message=message)


def _present(public_path: Path, private_dir: Path, key_bits: int, purpose: str, own: str) -> PublicKey:
    """Load a public key that is kept, or may be replaced by one of key_bits bits, for its private key is here.

    Args:
        own: the command that makes a pair of one's own.
    Raises: KeyStoreError when it is for another purpose, or of another length and handed over.
    """
    public = load_public(public_path, None)
    if public.purpose != purpose:
        raise KeyStoreError(
            f"{public_path}: holds a key for {public.purpose}, and one for {purpose} is asked for: name another file, or move it away"
        )
    if public.key_bits != key_bits and not private_path(private_dir, public.fingerprint).exists():
        raise KeyStoreError(
            f"{public_path} has {public.key_bits} bits, keygen.key_bits is {key_bits}, and its private key is not in {private_dir}: "
            f"somebody handed this public key over, and it is not replaced. To use it set keygen.key_bits={public.key_bits} "
            f"(`ppdl keep keygen.key_bits={public.key_bits}`); if its private key is yours, set {PRIVATE_DIR_VARIABLE} or "
            f"keygen.private_dir to its folder; to make a pair of your own, move the file away and call {own}"
        )
    return public


def require_private(
    public: Path | PublicKey, private_dir: Path | None = None, passphrase: str | None = None, *, purpose: str = ARCHIVE
) -> PrivateKey:
    """Load the private key of a public key.

    Raises: KeyStoreError when it is not on this machine (with the fingerprint and whom to ask), is for another purpose, or load_private
        refuses it.
    """
    if isinstance(public, PublicKey):
        check_purpose(public, purpose)
    else:
        public = load_public(public, purpose)
    path = private_path(default_private_dir() if private_dir is None else private_dir, public.fingerprint)
    if not path.exists():
        raise KeyStoreError(
            f"this needs the private key with fingerprint {public.fingerprint}, and there is no {path}. Ask its holder, who made the pair "
            f"(`ppdl key make`, stage keygen), to run this step, or to hand you the file {path.name}; put it there with chmod 600, or set "
            f"{PRIVATE_DIR_VARIABLE} or keygen.private_dir to its folder"
        )
    key = load_private(path, passphrase, purpose=None)
    if key.public != public:  # the purpose is a part of it
        raise KeyStoreError(f"{path}: holds the private key of {key.public.fingerprint}, not of {public.fingerprint}")
    return key


def _keep(public: PublicKey, private_dir: Path) -> KeyOutcome:
    path = private_path(private_dir, public.fingerprint)
    if path.exists():
        return KeyOutcome("kept", public, path, f"kept the {public.key_bits}-bit key pair {public.fingerprint}.")
    message = (
        f"kept the {public.key_bits}-bit public key {public.fingerprint}; its private key is not in {private_dir}: encryption works, "
        "decryption is for the holder of that file."
    )
    return KeyOutcome("kept_public_only", public, None, message)


def _make(
    case: str, public_path: Path, private_dir: Path, key_bits: int, project: Path, passphrase: str | None, purpose: str
) -> KeyOutcome:
    key = generate_keypair(key_bits, purpose=purpose, allow_insecure_key=True)  # the caller has checked key_bits
    path = save_private(private_dir, key, passphrase=passphrase, project=project)
    save_public(public_path, key.public)  # after the private file: a crash between the two is the case "rebuilt_public"
    message = (
        f"made a {key_bits}-bit key pair {key.public.fingerprint}; its private key is {path}: back it up, nothing decrypts without it."
    )
    return KeyOutcome(case, key.public, path, message)


def _newest(private_dir: Path, project: Path, key_bits: int, purpose: str) -> tuple[Path, PublicKey] | None:
    """Find the newest private key that was made for project and purpose with key_bits bits, and its public part."""
    root, found = str(project_root(project)), []
    for path in sorted(private_dir.glob("*.json")):
        if not re.fullmatch(r"[0-9a-f]{64}\.json", path.name):
            continue
        members = read_members(path, private=True)
        record = members.get("ppdl")
        if not isinstance(record, dict) or record.get("project") != root:
            continue
        public = parse_public(members.get("pub"), path)
        if (public.key_bits, public.purpose) == (key_bits, purpose) and path == private_path(private_dir, public.fingerprint):
            found.append((str(record.get("created")), path, public))
    return max(found)[1:] if found else None
