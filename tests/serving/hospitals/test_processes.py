"""The commands of docs/howto/hospitals.md, given by five parties as processes on 127.0.0.1 with TLS."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ppdl.cli import main
from ppdl.crypto.artifact.shards import hash_file
from ppdl.serving.hospitals import party as parties
from ppdl.serving.hospitals.invitation import Invitation
from ppdl.serving.hospitals.party import Party, read_card
from tests.serving.hospitals.parties import NAMES, PARTIES, SMALL, VENV, Films, Parties

pytestmark = pytest.mark.skipif(not (VENV / "bin/ppdl").exists(), reason="`make hospitals` makes the environment that these need")

# Python runs this at the start of each party's process: it notes the files that are opened and the addresses that are connected to.
WATCH = """\
import os, sys
def watch(event, arguments, note=os.open(os.environ["WATCHED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)):
    if event == "open" or (event == "socket.connect" and isinstance(arguments[1], tuple)):
        os.write(note, f"{event} {arguments[0 if event == 'open' else 1]}\\n".encode())
sys.addaudithook(watch)
"""


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("films")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        yield Films(root / "films")


@pytest.fixture(scope="module")
def agreed(films, tmp_path_factory):
    """All commands of the page but the last."""
    parties = Parties(tmp_path_factory.mktemp("agreed") / "parties", films)
    parties.invite()
    return parties


@pytest.fixture(scope="module")
def ended(agreed, tmp_path_factory):
    """The run, in which a hospital was killed at work and started again."""
    root = tmp_path_factory.mktemp("ended")
    parties = Parties(root / "parties", None, agreed)
    (root / "watch").mkdir()
    (root / "watch/sitecustomize.py").write_text(WATCH)
    try:
        for party in PARTIES:
            parties.more_env = {"PYTHONPATH": str(root / "watch"), "WATCHED": str(parties.root / party / "watched")}
            parties.start(party)
        parties.wait_for("anna", "asked to commit")
        parties.kill("anna")
        parties.more_env["WATCHED"] = str(parties.root / "anna/watched")
        parties.start("anna")
        parties.codes = parties.ends()
        yield parties
    finally:
        parties.stop()


def test_all_agreed_to_one_invitation(agreed):
    digests = {party: said.splitlines()[-1] for party, said in agreed.said.items()}
    assert digests.keys() == set(PARTIES) and len(set(digests.values())) == 1 and len(digests["anna"]) == 64
    for party in PARTIES[:-1]:
        assert f"anna {json.loads((agreed.folder('anna') / 'card.json').read_text())['num_films']} films" in agreed.said[party]


def test_each_has_the_head_of_the_pipelines_stage_though_one_was_killed(ended, films):
    assert ended.codes == dict.fromkeys(PARTIES, 0), {party: ended.printed(party)[-1000:] for party in PARTIES}
    digests = ended.digests()
    assert len(set(digests.values())) == 1
    stage = films.head_of_the_stages(ended.run_folder("server") / "backbone.keras")
    assert hash_file(stage / "head.json") == digests["clara"]
    assert hash_file(stage / "head.npz") == hash_file(ended.run_folder("clara") / "head/head.npz")
    weights = (stage / "head.npz").read_bytes()
    assert not [path for path in ended.folder("server").rglob("*") if path.is_file() and weights in path.read_bytes()]
    assert ended.printed("anna").count("asked to commit") == 2
    assert all(ended.printed(name).count("asked to commit") == 1 for name in NAMES[1:])


def test_a_party_reads_no_file_of_another_and_connects_to_the_server_alone(ended):
    host, _, port = ended.address.rpartition(":")
    for party in PARTIES:
        lines = (ended.root / party / "watched").read_text().splitlines()
        opened = {Path(line.split(" ", 1)[1]) for line in lines if line.startswith("open /")}
        own = ended.root / party
        assert own / "pool/card.json" in opened
        assert not [path for path in opened if path.is_relative_to(ended.root) and not path.is_relative_to(own)]
        assert not [path for path in opened if path.name == ".flwr" or ".flwr" in path.parts]
        connected = {line for line in lines if line.startswith("socket.connect")}
        assert connected == (set() if party == "server" else {f"socket.connect {(host, int(port))}"}), party


def test_no_private_key_is_left_that_opens_what_was_released(ended):
    assert not [path for path in ended.folder("key-holder").glob("*.json") if len(path.stem) == 64]


@pytest.fixture(scope="module")
def federated(agreed, tmp_path_factory):
    """The same parties' federation, in which a hospital and the server are killed at work and started again."""
    root = tmp_path_factory.mktemp("federated")
    parties = Parties(root / "parties", None, agreed)
    parties.invite(SMALL)
    try:
        for party in PARTIES:
            parties.start(party)
        for party, said in [("anna", "asked to commit 2/5"), ("server", "keep 4/5 ")]:
            parties.wait_for(party, said)
            parties.kill(party)
            parties.start(party)
        parties.codes = parties.ends()
        yield parties
    finally:
        parties.stop()


def test_all_hospitals_have_the_network_of_the_pipelines_stage_though_two_parties_were_killed(federated, films, agreed):
    parties = federated
    assert parties.codes == dict.fromkeys(PARTIES, 0), {party: parties.printed(party)[-1000:] for party in PARTIES}
    assert "a network in 2 rounds, 1 passes each" in parties.said["anna"]
    expected = variables(films.network_of_the_stage())
    for name in NAMES:
        folder = parties.run_folder(name)
        found = variables(folder / "network/model.keras")
        assert len(found) == len(expected) and all(map(np.array_equal, found, expected)), name
        assert not (folder / "trained.npz").exists()
        assert "round 2 of 2: " in parties.printed(name)
    keys = ({path.name for path in of.folder("key-holder").glob("*.json") if len(path.stem) == 64} for of in (parties, agreed))
    assert next(keys) == next(keys)  # that of the head, which was called and not run
    weights = [value.tobytes() for value in expected if value.size > 20]
    files = [path for path in parties.folder("server").rglob("*") if path.is_file()]
    assert weights and not [path for path in files if any(weight in path.read_bytes() for weight in weights)]


def test_a_hospital_asks_the_network(federated, films):
    image = next((films.root / "data/raw").rglob("*.png"))
    done = CliRunner().invoke(main, ["predict", str(image), "--model", str(federated.run_folder("clara") / "network"), "--json"])
    assert done.exit_code == 0, done.output
    assert "Viral Pneumonia" in done.output


def variables(path: Path) -> list[np.ndarray]:
    import keras

    return [np.array(v) for v in keras.models.load_model(path).variables if "seed" not in v.name]


@pytest.fixture
def server(agreed, tmp_path):
    """The server alone, waiting."""
    parties = Parties(tmp_path / "parties", None, agreed)
    parties.start("server")
    parties.wait_for("server", "listening at")
    yield parties
    parties.stop()


STRANGER = """\
import socket, ssl, sys, threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric import ec
from ppdl.errors import ServerError
from ppdl.serving.hospitals import party as parties
from ppdl.serving.hospitals.link import join
folder, change = Path(sys.argv[1]), sys.argv[2]
party = parties.Party.load(folder)
found = party.agreed()
if change == "key":
    key = ec.generate_private_key(ec.SECP384R1())
    public = key.public_key().public_bytes(parties.serialization.Encoding.PEM, parties.serialization.PublicFormat.SubjectPublicKeyInfo)
    keys = {**found.node_keys, party.name: public.decode()}
    found = replace(found, node_keys=keys)
    parties.Party.key = lambda self, name: key
elif change == "certificate":
    key = ec.generate_private_key(ec.SECP384R1())
    found = replace(found, certificate=parties._certificate(key, found.address, 1))
elif change == "expired":  # and its owner serves it all the same
    key, listener = ec.generate_private_key(ec.SECP384R1()), socket.create_server(("127.0.0.1", 0))
    found = replace(found, address=f"127.0.0.1:{listener.getsockname()[1]}", certificate=parties._certificate(key, found.address, -1 / 48))
    parties._write_private(folder / "late.key", key)
    (folder / "late.crt").write_text(found.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "late.crt", folder / "late.key")

    def answer():
        while True:
            with suppress(OSError):
                context.wrap_socket(listener.accept()[0], server_side=True)

    threading.Thread(target=answer, daemon=True).start()
elif change == "claimed":
    parties.Party.key = lambda self, name: ec.generate_private_key(ec.SECP384R1())
try:
    join(party, found, type("Desk", (), {"finished": False}), print, patience_s=2)
except ServerError as error:
    print(error)
"""
CONTROL = """\
import base64, ssl, sys
from pathlib import Path
import httpx
from ppdl.serving.hospitals.party import Party
found = Party.load(Path(sys.argv[1])).agreed()
context = ssl.create_default_context(cadata=found.certificate)
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER
invited = {FLEET_HTTP_PUBLIC_KEY_HEADER: base64.b64encode(found.node_keys["anna"].encode()).decode()}
paths = "control/start-run", "control/register-node", "runtime/acquire-task", "../docs", "../openapi.json", "fleet/pull-messages"
with httpx.Client(verify=context, base_url=f"https://{found.address}") as client:
    for headers in ({}, invited):
        print(*(client.post(f"/v1/{path}", headers=headers | {"content-type": "application/protobuf"}).status_code for path in paths))
"""


def python(parties: Parties, party: str, code: str, *arguments: str) -> str:
    command = [VENV / "bin/python", "-c", code, parties.folder(party), *arguments]
    done = subprocess.run(command, env=parties.environment(party), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_strangers_are_turned_away_with_one_line_and_the_control_api_is_not_there(server):
    address = server.address
    assert python(server, "clara", STRANGER, "key") == f"{address} does not know this party's key: it runs another invitation"
    said = python(server, "clara", STRANGER, "certificate")
    assert said.startswith(f"{address} shows another certificate than the invitation's, or an expired one: ") and "\n" not in said
    said = python(server, "clara", STRANGER, "expired")
    assert said.endswith(" shows another certificate than the invitation's, or an expired one: certificate has expired")
    said = python(server, "clara", STRANGER, "claimed")
    assert said.startswith(f"{address} does not know this party's key") or "let nobody in for 2 s" in said
    nobody, invited = python(server, "clara", CONTROL).splitlines()
    assert set(nobody.split()) == {"403"}
    assert invited.split() == ["404"] * 5 + ["401"]
    assert server.running["server"].poll() is None


def test_who_waits_says_for_whom(agreed, tmp_path):
    parties = Parties(tmp_path / "parties", None, agreed)
    parties.start("clara", "--patience", "1")
    assert parties.ends() == {"clara": 1}
    missing = "nothing listens there: is the server started?"
    assert parties.printed("clara").splitlines() == [
        f"waits for {parties.address}: {missing}",
        f"Error: {parties.address} let nobody in for 1 s: {missing}",
    ]
    parties.start("server", "--patience", "7")
    assert parties.ends() == {"server": 1, "clara": 1}
    assert parties.printed("server").splitlines()[1:] == [
        "commit: waits for anna, berta, clara",
        "Error: anna was away for 7 s, and commit needs anna, berta, clara: start all, then this",
    ]


def test_the_head_can_be_asked_without_what_the_pipeline_needs(agreed, tmp_path):
    (tmp_path / "x-ray.png").touch()
    command = [VENV / "bin/ppdl", "predict", "x-ray.png", "--server", "http://127.0.0.1:1"]
    done = subprocess.run(command, cwd=tmp_path, env=agreed.environment("anna"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.startswith("Error: keys/inference.json is missing: make a pair with `ppdl key make")


def test_another_run_is_refused_by_the_party_and_all_others_hear_of_it(server, monkeypatch):
    holder, first = Party.load(server.folder("key-holder")), Invitation.read(server.root / "key-holder/invitation")
    monkeypatch.setattr(parties, "software", lambda: dict(first.software))
    cards = [read_card(server.root / f"key-holder/{name}.json") for name in PARTIES[:-1]]
    called = first.terms.tree | first.terms.tree["subject"]
    rules = {key: value for key, value in called.items() if key in ("key_bits", "num_features", "feature_bits", "strengths")}
    options = {"allow_insecure_key": False, "project": server.root / "project"}
    other = holder.call(cards, first.model, rules | {"accept_membership": True}, **options)
    other.write(server.root / "clara/invitation", server.root / "key-holder/invitation/backbone.keras")
    server.type("clara", "agree")
    for party in ("key-holder", "clara"):
        server.start(party)
    assert server.ends() == {"server": 1, "key-holder": 1, "clara": 1}
    assert "Error: the server runs another invitation: roster, key, versions or address differ" in server.printed("clara")
    for party in ("server", "key-holder"):
        said = server.printed(party).splitlines()[-1]
        assert said.startswith("Error: ") and "clara answers for another run: it must agree to this one's invitation" in said


def test_other_versions_are_named_before_anything_leaves(agreed, tmp_path):
    parties = Parties(tmp_path / "parties", None, agreed)
    path = parties.root / "anna/invitation/invitation.json"
    tree = json.loads(path.read_text())
    path.write_text(json.dumps(tree | {"software": tree["software"] | {"flwr": "1.41.0"}}))
    command = [*parties.words("anna", "agree")]
    done = subprocess.run(command, cwd=parties.root / "anna", env=parties.environment("anna"), capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("Error: the invitation is for ") and done.stderr.count("\n") == 1
    assert len(list((parties.folder("anna") / "runs").iterdir())) == 1
