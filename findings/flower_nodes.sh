#!/usr/bin/env bash
# Flower 1.42.0, a SuperLink with TLS and --enable-supernode-auth, SuperNodes with registered keys:
#   1. A SuperNode that was killed and is started again, with the same key, is refused and ends, for a minute: the SuperLink takes the
#      former process for alive until two heartbeats of 30 s are missed. Expected: the same key may come back, as its owner is known by it.
#   2. A reply that the SuperLink has stored is thrown away, and the app gets "node unavailable", when the node leaves (as `flower-supernode`
#      does when it is stopped) before the app asks for the reply. Expected: what was delivered is handed over.
#   3. Whoever reaches the nodes' port, with nothing but the CA certificate, registers a node of his own: the Control API is on that port
#      and its plugin for accounts is not in the open distribution. Expected of a server that authenticates nodes: that it asks who adds one.
# Exits non-zero when one of them changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check flwr==1.42.0
export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1 FLWR_HOME="$folder/flwr"
PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import datetime
import ipaddress
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message, RecordDict
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID, SUPERLINK_NODE_ID
from flwr.proto.control_pb2 import RegisterNodeRequest
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID, TaskType
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager

folder, changed = Path(sys.argv[1]), []


def report(name, expected, seen, is_so):
    print(f"{name}\n  expected: {expected}\n  seen:     {seen}")
    if not is_so:
        changed.append(name)


def private(path, form):
    key = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    path.chmod(0o600)
    return key


key = private(folder / "tls.key", serialization.PrivateFormat.PKCS8)
name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")]), datetime.datetime.now(datetime.UTC)
builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
certificate = folder / "tls.crt"
certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
node_key = private(folder / "node.key", serialization.PrivateFormat.OpenSSH)
with socket.create_server(("127.0.0.1", 0)) as listener:
    port = listener.getsockname()[1]

tls = ["--ssl-ca-certfile", certificate, "--ssl-certfile", certificate, "--ssl-keyfile", folder / "tls.key"]
link = subprocess.Popen(
    ["flower-superlink", *tls, "--enable-supernode-auth", "--isolation", "process", "--host", "127.0.0.1", "--port", str(port)],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
)


def node():
    """Start a SuperNode, and return it and what it said until it was in, had ended, or 30 s were over."""
    log = folder / f"{time.monotonic()}.log"
    command = ["flower-supernode", "--root-certificates", certificate, "--superlink", f"127.0.0.1:{port}"]
    command += ["--auth-supernode-private-key", folder / "node.key", "--isolation", "process", "--port", str(port + 1)]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    for _ in range(300):
        if process.poll() is not None or "SuperNode ID" in log.read_text():
            break
        time.sleep(0.1)
    return process, log.read_text()


try:
    with httpx.Client(verify=ssl.create_default_context(cafile=str(certificate)), base_url=f"https://127.0.0.1:{port}") as client:
        for _ in range(300):
            try:
                answer = client.post(
                    "/v1/control/register-node",
                    content=RegisterNodeRequest(public_key=public_key_to_bytes(node_key.public_key())).SerializeToString(),
                    headers={"content-type": "application/protobuf", "accept": "application/protobuf"},
                )
                break
            except httpx.TransportError:
                time.sleep(0.1)
    report("3. a node that anybody registers", "401 or 403", f"HTTP {answer.status_code}", answer.status_code == 200)
    first, said = node()
    assert "SuperNode ID" in said, said
    first.kill()
    first.wait()
    again, said = node()
    why = " ".join(line.strip() for line in said.splitlines() if "code:" in line or "Failed" in line or "activat" in line)
    report("1. killed and started again at once", "it is in", f"exit code {again.poll()}: {why}", again.poll() not in (None, 0))
    time.sleep(65)
    later, said = node()
    report("1. a minute later", "it is in", "it is in" if "SuperNode ID" in said else said, "SuperNode ID" in said)
    later.terminate()
    later.wait()
finally:
    link.terminate()
    link.wait()

factory = LinkStateFactory(FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(simulation=False), ObjectStoreFactory(FLWR_IN_MEMORY_DB_NAME))
state = factory.state()
node_id = state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, b"key", 0)
run = state.create_run(None, None, None, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP)
task = state.get_run_info(run_ids=[run])[0].primary_task_id
state.claim_task(task)
state.activate_task(task)
TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run, SUPERLINK_NODE_ID, task
state.activate_node(node_id, 30)
asked = Message(RecordDict(), node_id, "query")
asked.metadata.__dict__["_message_id"] = "asked"
state.store_message_ins(asked)
(pulled,) = state.get_message_ins(node_id, 1)
reply = Message(RecordDict(), reply_to=pulled)
reply.metadata.__dict__["_message_id"] = "reply"
assert state.store_message_res(reply) == "reply"
state.deactivate_node(node_id)
time.sleep(0.1)
(found,) = state.get_message_res({"asked"}, run)
seen = f"error {found.error.code}: {found.error.reason}" if found.has_error() else "the reply"
report("2. a stored reply of a node that left since", "the reply", seen, found.has_error())
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
