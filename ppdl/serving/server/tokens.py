"""Bearer tokens: 256 random bits each, of which the server's file holds names and SHA-256 digests alone.

A file has one `NAME DIGEST` a line. Several lines may have one name, so that a client can change its token and keep its budget. A slow
password hash would add nothing: nobody guesses 256 bits.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from ppdl.errors import ConfigError

TOKEN_BYTES = 32
_LINE = re.compile(r"(?P<name>[a-z0-9][a-z0-9_.-]{0,63}) (?P<digest>[0-9a-f]{64})")
_RULE = "a line is NAME, one space, and 64 hexadecimal digits, as `ppdl serve --new-token NAME` writes it"


@dataclass(frozen=True)
class Tokens:
    """Hold clients' names and the digests of their tokens."""

    digests: tuple[tuple[str, bytes], ...] = field(repr=False)

    def owner(self, token: str | None) -> str | None:
        """Return the name of the client that a token belongs to, None for no or an unknown one.

        All digests are compared, each in constant time: neither the time nor a collision of prefixes tells anything of a token.
        """
        digest = hashlib.sha256((token or "").encode()).digest()
        found = None
        for name, known in self.digests:
            if hmac.compare_digest(digest, known):
                found = name
        return found


def load_tokens(path: Path) -> Tokens:
    """Read a file of tokens' digests.

    Raises:
        ConfigError: it is missing, empty, may be changed by others, or a line breaks its rule.
    """
    try:
        mode, text = path.stat().st_mode, path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} must be a file of tokens, and cannot be read ({error}): `ppdl serve --token-file FILE --new-token NAME` makes one"
        ) from None
    if mode & 0o022:
        raise ConfigError(f"{path}: others may write to it, and so let themselves in: chmod 600 {path}")
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ConfigError(f"{path}, line {number}: {_RULE}")
        entries.append((match["name"], bytes.fromhex(match["digest"])))
    if not entries:
        raise ConfigError(f"{path} holds no token, so nobody could be let in: `ppdl serve --token-file FILE --new-token NAME` adds one")
    return Tokens(tuple(entries))


def add_token(path: Path, name: str) -> str:
    """Add a new token for a client to a file, made with mode 0600 where it is missing, and return it: the file cannot give it back.

    Raises:
        ConfigError: the name breaks its rule.
    """
    token = secrets.token_urlsafe(TOKEN_BYTES)
    line = f"{name} {hashlib.sha256(token.encode()).hexdigest()}"
    if _LINE.fullmatch(line) is None:
        raise ConfigError(f"a client's name has 1 to 64 of a-z, 0-9, _, . and -, and begins with a letter or digit, got {name!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a") as file:
        file.write(line + "\n")
    return token
