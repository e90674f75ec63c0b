"""What `ppdl serve` does with a body, apart from HTTP: register a key, answer a query."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ppdl.crypto.keys.jwk import parse_members, read_public
from ppdl.crypto.keys.keypair import PublicKey, check_purpose
from ppdl.crypto.keys.purpose import INFERENCE
from ppdl.errors import CryptoError, KeyStoreError
from ppdl.serving.problems import ProblemError
from ppdl.serving.protocol import MODES, SINGLE, Query, Reply, sha256
from ppdl.serving.registration import decode_proof
from ppdl.serving.server.compute import check_key, check_query, evaluate

if TYPE_CHECKING:
    from ppdl.serving.http.limits import Client
    from ppdl.serving.server.compute import Workers
    from ppdl.serving.server.store import State
    from ppdl.serving.statement import Statement


@dataclass(frozen=True)
class Service:
    """Hold the parts of a server.

    Attributes:
        statement: its budget is how many images are answered for one key, ever.
        max_keys: that one client may register.
    """

    statement: Statement
    store: State
    workers: Workers
    max_keys: int

    async def register(self, client: Client, body: bytes, fields: dict[str, Any]) -> dict[str, Any]:
        """Register the public key of a JSON Web Key for a client, when its `modulus_proof` shows that masks will hide what they must.

        Raises:
            ProblemError: `not-json`, `bad-key`, `bad-proof`, `too-many-keys`, `too-fast` or `busy`.
        """
        members, key = await asyncio.to_thread(self._read_key, body)
        fields["key"] = key.fingerprint[:16]
        if not await asyncio.to_thread(self.store.knows, client.owner, key, max_keys=self.max_keys):
            proof = decode_proof(members, key)
            with self.workers.room.place(client.name):
                try:
                    await self.workers.run(check_key, key, proof)
                except KeyStoreError as error:
                    raise ProblemError("bad-key", str(error)) from None
                except CryptoError as error:
                    raise ProblemError("bad-proof", str(error)) from None
            await asyncio.to_thread(self.store.register, client.owner, key, max_keys=self.max_keys)
        return {"fingerprint": key.fingerprint, "key_bits": key.key_bits, "max_queries": self.statement.budget}

    async def infer(self, client: Client, body: bytes, fields: dict[str, Any]) -> bytes:
        """Answer a query: check its lengths, take a place, check its numbers, charge it, compute.

        Raises:
            ProblemError: see docs/protocol.md; nothing is charged unless the query is whole and there is room for it.
        """
        query = Query.decode(body)
        fields |= {"key": query.fingerprint.hex()[:16], "mode": MODES[query.mode], "num_images": query.num_images}
        key = await asyncio.to_thread(self._check, client.owner, query)
        digest = sha256(body)
        asked = sha256(self.workers.head_sha256 + body)  # another head gives another answer, which is not free
        charge = (client.owner, query.fingerprint, query.request_id, asked, query.num_images)
        with self.workers.room.place(client.name):
            try:
                await self.workers.run(check_query, key, body)
            except CryptoError as error:
                raise ProblemError("bad-ciphertext", str(error)) from None
            fields["new"] = await asyncio.to_thread(self.store.charge, *charge, budget=self.statement.budget)
            answer = await self.workers.run(evaluate, key, body)
        return Reply(digest, query.mode, query.num_images, answer).encode()

    def _read_key(self, body: bytes) -> tuple[dict[str, Any], PublicKey]:
        """Read a key and look at its length. What costs time, a primality test above all, is left to a worker."""
        try:
            members = parse_members(body, "the public key")
        except KeyStoreError:
            raise ProblemError("not-json", "a key is registered with one JSON object, the content of its public key file") from None
        try:
            key = read_public(members, "the public key")
            if key.key_bits not in self.statement.key_bits:
                lengths = ", ".join(map(str, self.statement.key_bits))
                raise KeyStoreError(f"this server takes keys of {lengths} bits, got one of {key.key_bits}")
            check_purpose(key, INFERENCE, "the public key")
        except KeyStoreError as error:
            raise ProblemError("bad-key", str(error)) from None
        return members, key

    def _check(self, owner: str, query: Query) -> PublicKey:
        """Refuse a query that does not fit its key and the head by its counts and lengths; return the key."""
        if query.head_sha256 != self.statement.sha256:
            raise ProblemError("other-head", "the head of this server has changed, or is another: read /v1/head again, and encrypt for it")
        key = self.store.key(owner, query.fingerprint)
        single, batch = self.statement.packing(key.key_bits), self.statement.batch_packing(key.key_bits)
        expected = (single if query.mode == SINGLE else batch).num_ciphertexts
        if query.ciphertexts.shape != (expected, key.ciphertext_bytes):
            found = " of ".join(map(str, query.ciphertexts.shape))
            raise ProblemError("wrong-count", f"this mode takes {expected} ciphertexts of {key.ciphertext_bytes} bytes, got {found}")
        if query.num_images > (most := 1 if query.mode == SINGLE else batch.capacity):
            raise ProblemError("wrong-count", f"a query of this mode and key holds at most {most} images, got {query.num_images}")
        return key
