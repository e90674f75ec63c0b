"""The client's half of docs/protocol.md over HTTP. It sends a public key with a proof, ciphertexts, a token; nothing depends on an answer.

A query that got no answer (no connection, 429, 503) is sent again, with pauses that grow, under the same request id, so that it is charged
once. Everything that comes from the server is of limited size and checked before it is used. What decides on the next request is status
codes, lengths and headers, which the server knows; nothing here decrypts, and nothing is sent once the conversation is closed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from ppdl.crypto.artifact.fields import quote
from ppdl.crypto.keys.keypair import PrivateKey
from ppdl.errors import ConfigError, DataError, ServerError
from ppdl.serving import protocol
from ppdl.serving.addresses import is_loopback
from ppdl.serving.problems import ProblemError
from ppdl.serving.protocol import Query, Reply
from ppdl.serving.registration import registration
from ppdl.serving.statement import LARGEST_BYTES, Statement

CONNECT_S, ANSWER_S = 10.0, 120.0
RETRIES = 8  # after 0, 1, 2, 4, 8, 15, 15, 15 s: a server that restarts is waited for
_LONGEST_PAUSE_S = 15


class Conversation:
    """Hold one conversation with a `ppdl serve`. A context manager: it keeps a connection open.

    Args:
        url: of the server, without a path.
        token: what its operator gave out.
        ca_file: PEM certificates to trust instead of the usual authorities.
        insecure_http: admit http:// to another machine, which shows the token to the network and lets it forge answers.
        retries: of a request that got no answer.

    Raises:
        ConfigError: the URL is none, or is not safe.
    """

    def __init__(
        self, url: str, *, token: str | None = None, ca_file: Path | None = None, insecure_http: bool = False, retries: int = RETRIES
    ) -> None:
        self._url = _check_url(url, insecure_http)
        if ca_file is not None and not ca_file.is_file():
            raise ConfigError(f"--ca-file {ca_file} is missing")
        self._closed = False
        self._session = requests.Session()
        self._session.trust_env = False  # no password from ~/.netrc in place of the token, no proxy that nobody asked for
        self._session.verify = True if ca_file is None else str(ca_file)
        if token is not None:
            self._session.headers["authorization"] = f"Bearer {token}"
        self._retries = retries
        adapter = HTTPAdapter(max_retries=_retries(retries))
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the conversation for good. Whoever decrypts an answer closes first, since what is sent after it may depend on it."""
        self._closed = True
        self._session.close()

    def statement(self) -> Statement:
        """Return what the server says of its head. Raises: ServerError, also for a statement that breaks a rule."""
        try:
            return Statement.from_json(self._json("GET", "/v1/head"))
        except DataError as error:
            raise ServerError(f"{self._url}: {error}") from None

    def register(self, private_key: PrivateKey) -> None:
        """Register the public key of a pair, with the proof that only its owner can make; again it changes nothing. Raises: ServerError."""
        found = self._json("POST", "/v1/keys", registration(private_key), "application/json").get("fingerprint")
        if found != private_key.public.fingerprint:
            raise ServerError(f"{self._url} registered the key {quote(found)}, sent was {private_key.public.fingerprint}")

    def infer(self, query: Query, *, num_classes: int) -> Reply:
        """Send a query and return its reply, of `num_classes` ciphertexts.

        Raises:
            ServerError: the server cannot be reached or refuses, or the reply is not of this query.
        """
        body = query.encode()
        largest = protocol.REPLY_HEADER_BYTES + num_classes * query.ciphertexts.shape[1]
        try:
            reply = Reply.decode(self._send("POST", "/v1/infer", largest, body, protocol.MEDIA_TYPE))
        except ProblemError as error:
            raise ServerError(f"{self._url} did not answer with a reply: {error}") from None
        found = (reply.query_sha256, reply.mode, reply.num_images, reply.ciphertexts.shape)
        if found != (protocol.sha256(body), query.mode, query.num_images, (num_classes, query.ciphertexts.shape[1])):
            raise ServerError(f"{self._url} answered another query than was sent")
        return reply

    def _json(self, method: str, path: str, body: bytes | None = None, media_type: str | None = None) -> Mapping[str, Any]:
        data = self._send(method, path, LARGEST_BYTES, body, media_type)
        try:
            tree = json.loads(data)
        except (ValueError, RecursionError):
            tree = None
        if not isinstance(tree, Mapping):
            raise ServerError(f"{self._url}{path} must answer with a JSON object: this is no `ppdl serve`, or one of another version")
        return tree

    def _send(self, method: str, path: str, largest: int, body: bytes | None, media_type: str | None) -> bytes:
        if self._closed:
            raise ServerError(f"the conversation with {self._url} is over, and answers may have been decrypted: nothing more is sent")
        headers = {} if media_type is None else {"content-type": media_type}
        for tries_left in reversed(range(self._retries + 1)):
            try:
                status, data = self._exchange(method, path, largest, body, headers)
                break
            except (requests.RequestException, OSError) as error:
                # The session repeats what got no answer; an answer that breaks off is repeated here.
                if not isinstance(error, requests.exceptions.ChunkedEncodingError) or not tries_left:
                    raise ServerError(f"{self._url} cannot be reached: {_reason(error)}; is `ppdl serve` running there?") from None
        if status != HTTPStatus.OK:
            raise ServerError(f"{self._url} refused: {_problem(data, status)}")
        if len(data) > largest:
            raise ServerError(f"{self._url}{path} answered with more than {largest} bytes, which no answer has")
        return data

    def _exchange(self, method: str, path: str, largest: int, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        """Send a request, and read of its answer not much more than `largest` bytes, of a refusal LARGEST_BYTES."""
        url, timeout = self._url + path, (CONNECT_S, ANSWER_S)
        data = bytearray()
        with self._session.request(
            method, url, data=body, headers=headers, timeout=timeout, allow_redirects=False, stream=True
        ) as response:
            most = largest if response.status_code == HTTPStatus.OK else LARGEST_BYTES
            for chunk in response.iter_content(1 << 16):
                data += chunk
                if len(data) > most:
                    break
        return response.status_code, bytes(data)


def _check_url(url: str, insecure_http: bool) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
        raise ConfigError(f"--server must be a URL such as https://HOST:8443, without path or password, got {url!r}")
    if parts.scheme == "http" and not is_loopback(parts.hostname) and not insecure_http:
        raise ConfigError(
            f"--server {url}: beyond this machine use https://; --insecure-http shows the token and lets others forge answers"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _retries(retries: int) -> Retry:
    return Retry(
        retries,
        status_forcelist=(429, 503),
        allowed_methods=None,  # POST too: registering twice changes nothing, a query is charged once for its request id
        backoff_factor=0.5,
        backoff_max=_LONGEST_PAUSE_S,
        backoff_jitter=0.5,
        retry_after_max=_LONGEST_PAUSE_S,  # a server must not make its clients sleep for hours
        raise_on_status=False,
        redirect=0,
    )


def _problem(data: bytes, status: int) -> str:
    """Say what a problem document says. It is another's text: shortened, and without control characters."""
    try:
        tree = json.loads(data)
        name, detail = (str(tree[key]) for key in ("type", "detail"))
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"HTTP status {status}"
    return f"{_clean(detail)} ({_clean(name.rpartition(':')[2])}, HTTP status {status})"


def _clean(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:300]


def _reason(error: BaseException) -> str:
    """Return the innermost reason of an error of requests, which wraps several."""
    while (inner := getattr(error, "reason", None) or (error.args[0] if error.args else None)) is not None:
        if not isinstance(inner, BaseException):
            break
        error = inner
    return _clean(str(error)) or type(error).__name__
