"""What `ppdl serve` must not forget: registered public keys, the queries charged to them, the secret of the masks. One sqlite file.

A query is charged in a transaction that is on disk before anything is computed, under the client's request id. So a crash loses no charge,
and a retry (same id, bytes and head) is charged no second time: the same answer is computed again, under masks that the secret gives.
Several server processes of one machine may share the file.

The secret lies in this file, since each is worth nothing without the other: under a new secret, a query that was charged before would get
a second answer for nothing. Whoever has it can take the masks off answers that he can decrypt.

A key belongs to the client that registered it. Two clients may register the same one; each has a budget of its own, so that nobody can
spend another's.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from ppdl.crypto.arithmetic.derived import SECRET_BYTES
from ppdl.crypto.keys.keypair import PublicKey
from ppdl.crypto.keys.purpose import INFERENCE
from ppdl.errors import ConfigError
from ppdl.serving.problems import ProblemError

VERSION = 2
_BUSY_TIMEOUT_S = 10.0
KeyRow = tuple[bytes, bytes | None, int]  # n, h, images charged
_KEYS_TABLE = """
CREATE TABLE keys (
    owner TEXT NOT NULL, fingerprint BLOB NOT NULL, n BLOB NOT NULL, h BLOB, num_images INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL,
    PRIMARY KEY (owner, fingerprint)
) STRICT, WITHOUT ROWID
"""
_QUERIES_TABLE = """
CREATE TABLE queries (
    owner TEXT NOT NULL, fingerprint BLOB NOT NULL, request_id BLOB NOT NULL, sha256 BLOB NOT NULL, num_images INTEGER NOT NULL,
    created REAL NOT NULL,
    PRIMARY KEY (owner, fingerprint, request_id), FOREIGN KEY (owner, fingerprint) REFERENCES keys
) STRICT, WITHOUT ROWID
"""
_MASKS_TABLE = "CREATE TABLE secret (id INTEGER PRIMARY KEY CHECK (id = 1), value BLOB NOT NULL) STRICT"


class State:
    """Keep keys and charges in a file, for any number of threads and processes.

    Args:
        path: made with mode 0600 where it is missing.

    Attributes:
        is_new: the secret was made now, with the file or in place of a lost one.

    Raises:
        ConfigError: the file is of another program or version, others may read it, or it cannot be used.
    """

    is_new: bool

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            if path.stat().st_mode & 0o077:
                raise ConfigError(f"{path}: others may read this file, which holds the secret of the masks: chmod 600 {path}")
            self._db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # a charge survives a power cut, too
            self._db.execute("PRAGMA foreign_keys = ON")
            self._create_tables(path)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"{path} cannot hold the server's state ({error}): choose another file with --state") from None

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def check(self) -> None:
        """Raise sqlite3.Error when the file cannot be read."""
        with self._lock:
            self._db.execute("SELECT count(*) FROM keys").fetchone()

    def register(self, owner: str, key: PublicKey, *, max_keys: int) -> None:
        """Keep a public key. Doing so again changes nothing.

        Raises:
            ProblemError: `too-many-keys`.
        """
        with self._transaction() as db:
            if _knows(db, owner, key, max_keys):
                return
            row = (owner, bytes.fromhex(key.fingerprint), _to_bytes(key.n), None if key.h is None else _to_bytes(key.h), time.time())
            db.execute("INSERT INTO keys (owner, fingerprint, n, h, created) VALUES (?, ?, ?, ?, ?)", row)

    def knows(self, owner: str, key: PublicKey, *, max_keys: int) -> bool:
        """Tell whether a client has registered a key.

        Raises:
            ProblemError: `too-many-keys` when it has not, and may not.
        """
        with self._lock:
            return _knows(self._db, owner, key, max_keys)

    def secret(self) -> bytes:
        """Return the secret that masks are derived from."""
        with self._lock:
            (value,) = self._db.execute("SELECT value FROM secret").fetchone()
        return bytes(value)

    def key(self, owner: str, fingerprint: bytes) -> PublicKey:
        """Return a registered key. Raises: ProblemError `unknown-key`."""
        with self._lock:
            n, h, _ = _key_row(self._db, owner, fingerprint)
        return PublicKey(int.from_bytes(n, "big"), None if h is None else int.from_bytes(h, "big"), INFERENCE)

    def charge(self, owner: str, fingerprint: bytes, request_id: bytes, digest: bytes, num_images: int, *, budget: int) -> bool:
        """Charge a query to its registered key, once however often it is sent; return whether it is new.

        Args:
            digest: of head and bytes; another one under the same id is another query.
            num_images: that it holds.
            budget: images that the key may have in all.

        Raises:
            ProblemError: `unknown-key`, `budget-spent` or `request-id-reused`.
        """
        query = (owner, fingerprint, request_id)
        with self._transaction() as db:
            left = budget - _key_row(db, owner, fingerprint)[2]
            known = db.execute("SELECT sha256 FROM queries WHERE (owner, fingerprint, request_id) = (?, ?, ?)", query).fetchone()
            if known is not None:
                if known[0] != digest:
                    raise ProblemError(
                        "request-id-reused",
                        "another query, or one to another head, had this request id: draw 16 random bytes for each query",
                    )
                return False
            if num_images > left:
                raise ProblemError("budget-spent", f"{max(left, 0)} of {budget} images are left to this key, the query holds {num_images}")
            db.execute("INSERT INTO queries VALUES (?, ?, ?, ?, ?, ?)", (*query, digest, num_images, time.time()))
            update = "UPDATE keys SET num_images = num_images + ? WHERE (owner, fingerprint) = (?, ?)"
            db.execute(update, (num_images, owner, fingerprint))
            return True

    def _create_tables(self, path: Path) -> None:
        with self._transaction() as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            (num_tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if version == 0 and num_tables == 0:
                db.execute(_KEYS_TABLE)
                db.execute(_QUERIES_TABLE)
                db.execute(_MASKS_TABLE)
                db.execute(f"PRAGMA user_version = {VERSION}")
            elif version != VERSION:
                raise ConfigError(
                    f"{path} is a database of another program or version ({version}, not {VERSION}): choose another with --state"
                )
            self.is_new = db.execute("SELECT value FROM secret").fetchone() is None
            if self.is_new:
                db.execute("DELETE FROM queries")  # under other masks a second answer is not free
                db.execute("INSERT INTO secret VALUES (1, ?)", (secrets.token_bytes(SECRET_BYTES),))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")  # what is read here cannot change before it is written
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")


def _knows(db: sqlite3.Connection, owner: str, key: PublicKey, max_keys: int) -> bool:
    known = [row[0] for row in db.execute("SELECT fingerprint FROM keys WHERE owner = ?", (owner,))]
    if bytes.fromhex(key.fingerprint) in known:
        return True
    if len(known) >= max_keys:
        raise ProblemError("too-many-keys", f"a client may register {max_keys} keys; ask the server's operator for more (--max-keys)")
    return False


def _key_row(db: sqlite3.Connection, owner: str, fingerprint: bytes) -> KeyRow:
    found = db.execute("SELECT n, h, num_images FROM keys WHERE (owner, fingerprint) = (?, ?)", (owner, fingerprint)).fetchone()
    if found is None:
        raise ProblemError("unknown-key", f"key {fingerprint.hex()[:16]}... is not registered by this client: send it to /v1/keys first")
    return cast("KeyRow", found)


def _to_bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
