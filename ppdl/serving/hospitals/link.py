"""Flower between the parties: its message queue with registered keys and heartbeats at the server, its client at all others, TLS between.

The one module that imports flwr. It takes Flower's parts and leaves out what `flower-superlink` and `flower-supernode` put around them in
1.42: a control API on the nodes' port that asks nobody who he is, app bundles that the server hands to nodes to be installed and run, and
a process for each message, which loads TensorFlow anew. So there is nothing here that could run what came over the network.

Flower delivers a message once. A party that was killed, or lost the connection in the middle, activates its node again, and the server
sends what that node had not answered once more: all steps are such that a repetition changes nothing.
"""

from __future__ import annotations

import logging
import math
import re
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, NOOP_ACCOUNT_NAME, NOOP_FLWR_AID, SUPERLINK_NODE_ID
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import ActivateNodeRequest, DeactivateNodeRequest, PullMessagesRequest, PushMessagesRequest
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import PullObjectRequest, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID, TaskType
from flwr.supercore.error import http_error_translator
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree, iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.protobuf.translation import ProtobufTranslationMiddleware
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.routers.fleet.node_auth import NodeAuthMiddleware
from flwr.superlink.routers.fleet.router import router
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

from ppdl.errors import ArtifactError, ConfigError, PpdlError, ServerError
from ppdl.serving.hospitals.desk import END, Desk, Files
from ppdl.serving.hospitals.invitation import Invitation
from ppdl.serving.hospitals.party import Party, split_address

logging.getLogger("flwr").setLevel(logging.CRITICAL)  # what a person should know is raised
_POLL_S = 0.2
_LEAVE_S = 5.0
_AWAY_S = 5.0  # after which the server says who is away
Say = Callable[[str], None]


class Queue:
    """The server's message queue, in the memory of this process: what must outlive it lies on the board.

    Attributes:
        traffic: by name, bytes of the bodies that came from a party and went to it, polling and heartbeats included.
    """

    def __init__(self, invitation: Invitation, say: Say, patience_s: float) -> None:
        self._digest, self._say, self._patience_s, self._until = invitation.digest, say, patience_s, math.inf
        self._labelled = invitation.labelled
        factory = LinkStateFactory(
            FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(simulation=False), ObjectStoreFactory(FLWR_IN_MEMORY_DB_NAME)
        )
        self._state = factory.state()
        keys = {name: pem.encode("ascii") for name, pem in invitation.node_keys.items()}
        self._nodes = {name: self._state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key, 0) for name, key in keys.items()}
        self._names = {b64encode(key).decode("ascii"): name for name, key in keys.items()}
        self.traffic = {name: [0, 0] for name in keys}
        self._run = self._state.create_run(None, None, None, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP)
        task = self._state.get_run_info(run_ids=[self._run])[0].primary_task_id
        self._state.claim_task(task)
        self._state.activate_task(task)
        HeartbeatSender(lambda: self._state.acknowledge_task_heartbeat(task)).start()
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = self._run, SUPERLINK_NODE_ID, task
        inner = [Middleware(BaseHTTPMiddleware, dispatch=http_error_translator), Middleware(ProtobufTranslationMiddleware)]
        self.app = FastAPI(
            openapi_url=None, middleware=[Middleware(BaseHTTPMiddleware, dispatch=self._admit), *inner, Middleware(NodeAuthMiddleware)]
        )
        self.app.state.linkstate_factory, self.app.state.enable_supernode_auth = factory, True
        self.app.include_router(router)

    async def _admit(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Turn strangers away before anything of theirs is read; that an invited key is really its owner's, Flower checks next."""
        name = self._names.get(request.headers.get(FLEET_HTTP_PUBLIC_KEY_HEADER, ""))
        if name is None:
            return Response(status_code=403)
        response = await call_next(request)
        for number, headers in enumerate((request.headers, response.headers)):
            self.traffic[name][number] += int(headers.get("content-length", 0))
        return response

    def ask(
        self, phase: str, files: Mapping[str, Files], may_stay_away: bool, number: int = 0, text: str = ""
    ) -> Iterator[tuple[str, Files]]:
        """Send a phase's files to parties by name, and give the answers as they come. See `conduct.Ask`.

        Raises:
            ServerError: a party declines; or it was away for longer than the server's patience, and may not.
        """
        seen = dict.fromkeys(files, time.monotonic())
        sent: dict[str, tuple[str, str]] = {}  # name: the message, and when the node that it went to had been activated
        began, came, told = time.monotonic(), dict[str, Message](), list[str]()
        label = phase if phase == END else self._labelled(phase, number)
        while seen and time.monotonic() < self._until:
            found = {node.node_id: node for node in self._state.get_node_info(node_ids=[self._nodes[name] for name in seen])}
            away = [name for name in seen if found[self._nodes[name]].status != "online"]
            late = [name for name in away if time.monotonic() - seen[name] > _AWAY_S]
            if late and late != told:
                self._say(f"{label}: waits for {', '.join(told := late)}")
            for name in list(seen):
                node = found[self._nodes[name]]
                if name not in away:
                    seen[name] = time.monotonic()
                    if sent.get(name, ("", ""))[1] != node.last_activated_at:
                        came.pop(name, None)
                        sent[name] = self._push(name, phase, files[name], str(number), text), node.last_activated_at
                elif time.monotonic() - seen[name] > self._patience_s:
                    if not may_stay_away:
                        raise ServerError(
                            f"{name} was away for {self._patience_s:.0f} s, and {label} needs {', '.join(away)}: start all, then this"
                        )
                    self._say(f"{label} {name}: away, and left out")
                    del seen[name]
            pending = {message: name for name, (message, _) in sent.items() if name in seen and name not in came}
            for reply in self._state.get_message_res(set(pending), self._run) if pending else ():
                name = pending[reply.metadata.reply_to_message_id]
                if reply.has_error():  # Flower's own word for a node that is away
                    sent.pop(name)
                else:
                    came[name] = reply
            for name, reply in list(came.items()):
                if (parts := self._parts(reply)) is not None:
                    del came[name], seen[name]
                    self._say(f"{label} {name}: {time.monotonic() - began:.2f} s")
                    yield name, self._opened(reply, parts, name, phase)
            time.sleep(_POLL_S)

    def _push(self, name: str, phase: str, files: Files, number: str, text: str) -> str:
        message = Message(_record(files, run=self._digest, phase=phase, number=number, text=text), self._nodes[name], "query")
        message.metadata.__dict__["_message_id"] = message.object_id
        session = self._state.start_session(self._run)
        self._state.store_message_and_object_tree(remove_content_from_message(message), get_object_tree(message), session)
        for object_id, part in get_all_nested_objects(message).items():
            self._state.store_object(self._run, session, object_id, part.deflate())
        return message.metadata.message_id

    def _parts(self, reply: Message) -> dict[str, bytes] | None:
        """Return the parts of a reply, once all are here."""
        tree = self._state.object_store.get_object_tree(reply.metadata.message_id)
        parts = {part.object_id: self._state.get_object(self._run, part.object_id) for part in iterate_object_tree(tree)}
        return parts if all(parts.values()) else None

    def _opened(self, reply: Message, parts: dict[str, bytes], name: str, phase: str) -> Files:
        self._state.delete_messages({reply.metadata.reply_to_message_id})
        about, files = _unpacked(_inflated(reply.metadata.message_id, parts))
        if about.get("run") != self._digest:
            raise ServerError(f"{name} answers for another run: it must agree to this one's invitation")
        if about.get("refused"):
            raise ServerError(f"{name} declined to {phase}: what it printed says why")
        return files

    def end(self, text: str) -> None:
        """Tell the parties that come within seconds that the run ends: `text` says why, and is empty when all have what comes of it."""
        self._until = time.monotonic() + _LEAVE_S
        with suppress(ServerError):
            for _ in self.ask(END, {name: {} for name in self._nodes}, True, text=text):
                pass


@contextmanager
def serving(party: Party, invitation: Invitation, say: Say, *, listen: str, patience_s: float) -> Iterator[Queue]:
    """Listen for the parties with TLS, and give the queue to ask them by.

    Args:
        listen: HOST:PORT. patience_s: that a party may be away for.

    Raises:
        ServerError: the address cannot be listened at.
    """
    queue, (host, port) = Queue(invitation, say, patience_s), split_address(listen)
    files: Any = {"ssl_certfile": party.folder / "tls.crt", "ssl_keyfile": party.folder / "tls.key"}
    server = uvicorn.Server(uvicorn.Config(queue.app, host, port, log_level="critical", timeout_graceful_shutdown=2, **files))
    thread = threading.Thread(target=_quietly, args=(server.run,), daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise ServerError(f"cannot listen at {listen}: another program may, or the address is not this machine's; see --listen")
        time.sleep(0.05)
    say(f"listening at {listen}, run {invitation.digest[:16]}")
    try:
        yield queue
        queue.end("")
    except PpdlError as error:
        queue.end(str(error) if isinstance(error, ServerError) else type(error).__name__)
        raise
    finally:
        server.should_exit = True
        thread.join(_LEAVE_S)


def join(party: Party, invitation: Invitation, desk: Desk, say: Say, *, patience_s: float) -> None:
    """Take part in a run until all have what comes of it: a server that was killed before it knew so must find this party here.

    Args:
        patience_s: that the server may be away for.

    Raises:
        ServerError: the server is away, is another, does not know this party, or ended the run.
        PpdlError: what this party declined, see `Desk`.
    """
    node = _Member(party, invitation, patience_s, say)
    if desk.finished:
        say(f"the {invitation.outcome} is here; the server may not know that, and is told")
    while True:
        try:
            node.activate()
        except ServerError:
            if desk.finished:
                return
            raise
        try:
            while True:
                if (message := node.pull()) is None:
                    time.sleep(_POLL_S)
                elif _answered(node, message, invitation, desk, say):
                    return  # and do not deactivate the node: Flower throws away what a node answered that has left since
        except httpx.HTTPError:
            time.sleep(_POLL_S)


def _answered(node: _Member, message: Message, invitation: Invitation, desk: Desk, say: Say) -> bool:
    """Answer a message, and tell whether it was the last. Raises: PpdlError, after the server was told that there is no answer."""
    began, (about, files) = time.monotonic(), _unpacked(message)
    phase = str(about.get("phase"))
    try:
        if about.get("run") != invitation.digest:
            raise ConfigError("the server runs another invitation: roster, key, versions or address differ; nothing is sent")
        answer = {}
        if phase != END:
            number = _number(about)
            label = invitation.labelled(_plain(phase), number)
            say(f"asked to {label}")
            answer = desk.answer(phase, files, number)
    except PpdlError:
        with suppress(httpx.HTTPError):
            node.push(message, _record({}, run=invitation.digest, refused="declined"))  # why may follow from what was decrypted
        raise
    if phase == END:
        with suppress(httpx.HTTPError):  # the server leaves
            node.push(message, _record(answer, run=invitation.digest, refused=""))
        if about.get("text") or not desk.finished:
            raise ServerError(
                f"the server ended the run: {_plain(about.get('text') or f'the {invitation.outcome} was made without this party')}"
            )
        return True
    node.push(message, _record(answer, run=invitation.digest, refused=""))
    say(f"{label}: {time.monotonic() - began:.2f} s")
    return False


class _Member:
    """A node of Flower without its machinery for apps."""

    def __init__(self, party: Party, invitation: Invitation, patience_s: float, say: Say) -> None:
        key, self._say = party.key("node"), say
        self._address, self._patience_s, self._id_file = invitation.address, patience_s, party.folder / "node.id"
        self._public = invitation.node_keys[party.name].encode("ascii")
        self._client = FleetHttpClient.from_server_address(
            invitation.address, False, invitation.certificate.encode("ascii"), [NodeAuthHttpInterceptor(key, key.public_key())]
        )
        self._node = Node()
        HeartbeatSender(self._beat).start()

    def _beat(self) -> bool:
        with suppress(httpx.HTTPError):
            if self._node.node_id:
                self._client.SendNodeHeartbeat(SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL))
        return True

    def activate(self) -> None:
        """Make this node active, anew if it was: Flower refuses that for a minute after a kill, unless the former node is ended by name."""
        deadline, told = time.monotonic() + self._patience_s, ""
        while True:
            try:
                with suppress(httpx.HTTPStatusError, FileNotFoundError, ValueError):
                    self._client.DeactivateNode(DeactivateNodeRequest(node_id=int(self._id_file.read_text())))
                found = self._client.ActivateNode(
                    ActivateNodeRequest(public_key=self._public, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
                )
                self._node = Node(node_id=found.node_id)
                self._id_file.write_text(str(found.node_id))
                return
            except httpx.HTTPStatusError as error:
                if error.response.status_code == 403:
                    raise ServerError(f"{self._address} does not know this party's key: it runs another invitation") from None
                reason = f"it answers HTTP {error.response.status_code}, as it may for a minute after a connection was cut"
                if error.response.status_code == 401:
                    reason = "it does not take this party's signature: do the clocks of both machines agree?"
            except httpx.TransportError as error:
                reason = _reason(error, self._address)
            if time.monotonic() > deadline:
                raise ServerError(f"{self._address} let nobody in for {self._patience_s:.0f} s: {reason}") from None
            if not told:
                self._say(f"waits for {self._address}: {(told := reason)}")
            time.sleep(_POLL_S)

    def pull(self) -> Message | None:
        """Return the next message, None where there is none. Raises: httpx.HTTPError; ArtifactError for what is none."""
        found = self._client.PullMessages(PullMessagesRequest(node=self._node))
        if not found.messages_list:
            return None
        run, parts = message_from_proto(found.messages_list[0]).metadata.run_id, dict[str, bytes]()
        tree = found.message_object_trees[0]
        for part in iterate_object_tree(tree):
            request = PullObjectRequest(node=self._node, run_id=run, object_id=part.object_id)
            while not (content := self._client.PullObject(request).object_content):  # the server may be storing it still
                time.sleep(_POLL_S)
            parts[part.object_id] = content
        message: Any = _inflated(tree.object_id, parts)
        message.metadata.__dict__["_message_id"] = tree.object_id
        return message

    def push(self, message: Message, content: RecordDict) -> None:
        """Send the answer to a message. Raises: httpx.HTTPError."""
        reply = Message(content, reply_to=message)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        proto, tree, run = message_to_proto(remove_content_from_message(reply)), get_object_tree(reply), reply.metadata.run_id
        request = PushMessagesRequest(node=self._node, messages_list=[proto], message_object_trees=[tree], clientapp_runtime_list=[0.0])
        taken = self._client.PushMessages(request)
        for object_id, part in get_all_nested_objects(reply).items():
            if object_id in taken.objects_to_push:
                own = {"node": self._node, "run_id": run, "session_id": taken.session_id}
                self._client.PushObject(PushObjectRequest(object_id=object_id, object_content=part.deflate(), **own))


def _number(about: Mapping[str, Any]) -> int:
    """Return the number of the sum that a message is of. Raises: ArtifactError."""
    with _none_of_a_run():
        if not re.fullmatch("[0-9]{1,6}", str(about["number"])):
            raise ValueError
        return int(about["number"])


def _record(files: Files, **about: str) -> RecordDict:
    arrays = {path: Array(np.frombuffer(content, np.uint8)) for path, content in files.items()}
    return RecordDict({"about": ConfigRecord(dict(about)), "files": ArrayRecord(arrays)})


def _unpacked(message: Any) -> tuple[Mapping[str, Any], Files]:
    """Return what a message says and the files that it brings. Raises: ArtifactError."""
    with _none_of_a_run():
        content = message.content
        return dict(content["about"]), {str(path): array.numpy().tobytes() for path, array in content["files"].items()}


def _inflated(object_id: str, parts: dict[str, bytes]) -> Any:
    with _none_of_a_run():
        return inflate_object_from_contents(object_id, parts)


@contextmanager
def _none_of_a_run() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Flower's reader and numpy's let through nearly every kind
        raise ArtifactError(f"what came is no message of a run ({type(error).__name__}): nothing is done with it") from None


def _reason(error: BaseException | None, address: str) -> str:
    """Say why nothing was reached, and what to look at. Raises: ServerError when it shows a certificate that is not the server's."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            raise ServerError(
                f"{address} shows another certificate than the invitation's, or an expired one: {error.verify_message}"
            ) from None
        if isinstance(error, socket.gaierror):
            return "no address is known for that name here: is it the server's?"
        if isinstance(error, ConnectionRefusedError):
            return "nothing listens there: is the server started?"
        error = error.__cause__ or error.__context__
    return "no answer: is the server started, and does a firewall let this machine in?"


def _plain(text: object) -> str:
    """Return what another party says as it may be printed here."""
    return ascii(str(text))[1:-1][:300]


def _quietly(run: Callable[[], None]) -> None:
    with suppress(SystemExit):  # uvicorn's word for an address that it cannot have
        run()
