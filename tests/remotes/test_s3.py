"""`dvc push` and `dvc pull` against a server that speaks S3: moto's, on 127.0.0.1, with real DVC, git and HTTP."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.keys.keyfile import save_public
from ppdl.crypto.keys.keypair import PrivateKey, generate_keypair
from tests.crypto.artifacts import decrypted, random_images, write
from tests.secrets_search import find_private_key

boto3 = pytest.importorskip("boto3", reason="no S3 client: pip install 'ppdl[s3]'")
pytest.importorskip("dvc_s3", reason="DVC cannot speak S3: pip install 'ppdl[s3]'")
moto_server = pytest.importorskip("moto.server", reason="no S3 server: pip install 'ppdl[dev]'")

BUCKET, KEY_ID, SECRET = "hospital", "AKIAPPDLTESTTESTTEST", "not-a-secret-of-anybody"


@dataclass(frozen=True)
class Bucket:
    """A bucket of a running server."""

    endpoint: str
    client: Any

    def objects(self) -> dict[str, bytes]:
        """Return every object by its key."""
        keys = [entry["Key"] for entry in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
        return {key: self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET, region_name="us-east-1")
        client.create_bucket(Bucket=BUCKET)
        yield Bucket(endpoint, client)
    finally:
        server.stop()


def run(folder: Path, *command: str) -> str:
    """Run git or DVC as a user who has no other account at any S3 server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DVC_", "GIT_"))}
    author = {f"GIT_{who}_{what}": f"test@{who}.org".lower() for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    words = [sys.executable, "-m", *command] if command[0] == "dvc" else command
    done = subprocess.run(words, cwd=folder, env={**kept, **author}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def hospital(tmp_path: Path, bucket: Bucket) -> tuple[Path, PrivateKey, np.ndarray]:
    """Set up a checkout with an artifact and with its images in the clear, as docs/howto/remote.md says."""
    root, images = tmp_path / "hospital", random_images(num_images=40, height=32, width=32)
    private = generate_keypair(256, allow_insecure_key=True)
    root.mkdir()
    run(root, "git", "init", "-q", "-b", "main")
    run(root, "dvc", "init", "-q")
    artifact = write(tmp_path / "work", "dense", images, private.public)
    shutil.move(artifact.path, root / "encrypted")
    np.save(root / "images.npy", images)
    save_public(root / "public.json", private.public)
    run(root, "dvc", "add", "-q", "encrypted", "images.npy", "public.json")
    run(root, "dvc", "remote", "add", "archive", f"s3://{BUCKET}/ppdl")
    run(root, "dvc", "remote", "modify", "archive", "endpointurl", bucket.endpoint)
    for name, value in (("access_key_id", KEY_ID), ("secret_access_key", SECRET)):
        run(root, "dvc", "remote", "modify", "--local", "archive", name, value)
    run(root, "git", "add", "-A")
    run(root, "git", "commit", "-qm", "encrypted")
    return root, private, images


def test_another_machine_pulls_what_was_pushed_by_name_and_nothing_else_is_there(hospital, bucket, tmp_path):
    root, private, images = hospital
    run(root, "dvc", "push", "-q", "-r", "archive", "encrypted", "public.json")
    cache = (root / ".dvc/cache").rename(tmp_path / "cache")  # what is pulled comes from the bucket

    other = tmp_path / "archive"
    run(tmp_path, "git", "clone", "-q", str(root), str(other))
    assert not (other / ".dvc/config.local").exists() and KEY_ID not in run(root, "git", "grep", "-I", "", "HEAD")
    shutil.copy(root / ".dvc/config.local", other / ".dvc/config.local")
    run(other, "dvc", "pull", "-q", "-r", "archive", "encrypted", "public.json")
    artifact = open_artifact(other / "encrypted")
    artifact.verify()
    assert np.array_equal(decrypted(artifact, private), images)

    objects, clear = bucket.objects(), (root / "images.npy").read_bytes()
    assert sum(map(len, objects.values())) > len(clear)
    assert not any(images[0].tobytes() in content for content in objects.values())
    copies = tmp_path / "bucket"
    for key, content in objects.items():
        (copies / key).parent.mkdir(parents=True, exist_ok=True)
        (copies / key).write_bytes(content)
    assert find_private_key(private, [copies, root, other]) == []

    cache.rename(root / ".dvc/cache")
    run(root, "dvc", "push", "-q", "-r", "archive")
    assert clear in bucket.objects().values()  # why the how-to says: never push without names
