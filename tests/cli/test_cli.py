"""The `ppdl` command: what it prints, where it writes, and one line for every mistake."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ppdl.cli import COMMANDS, RENAMED, main
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.keys.keystore import load_private, load_public, save_private, save_public
from tests.attacks.build import set_field
from tests.crypto.artifacts import random_images, write

IMAGES = random_images(11)
KINDS = ("codebook", "dense", "slots")


@pytest.fixture(scope="module")
def key():
    return generate_keypair(256, allow_insecure_key=True)


@pytest.fixture
def artifact(key, tmp_path):
    write(tmp_path, "dense", IMAGES, key.public)
    save_public(tmp_path / "public.json", key.public)
    return tmp_path / "artifact"


@pytest.fixture
def private_file(key, tmp_path):
    return save_private(tmp_path / "private", key)


def run(*arguments, input=None):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=input)


def refused(*arguments):
    """Run a command that must fail with one line on standard error, and give that line."""
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1 and "Traceback" not in result.output
    return lines[0]


def every_command(group, before=()):
    """Return the words that call each command, those of groups included."""
    found = []
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        found += every_command(command, (*before, name)) if isinstance(command, click.Group) else [(*before, name)]
    return found


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True).stdout


def test_help_imports_nothing_slow():
    out = python("import sys; from ppdl.cli import main; main(['--help'], standalone_mode=False); print(sorted(sys.modules))")
    assert all(name in out for name in COMMANDS)
    loaded = out.splitlines()[-1]
    assert "'click'" in loaded
    for slow in ("numpy", "gmpy2", "phe", "joblib", "rich", "tqdm", "PIL", "mlflow", "keras", "tensorflow", "hydra", "pandas"):
        assert f"'{slow}'" not in loaded


@pytest.mark.parametrize("command", every_command(main))
def test_every_command_has_help(command):
    for option in ("--help", "-h"):
        result = run(*command, option)
        assert result.exit_code == 0
        assert f"{' '.join(command)} [OPTIONS]" in result.stdout


@pytest.mark.parametrize("command", ["key make", "artifact inspect", "artifact verify", "artifact decrypt", "estimate"])
def test_help_has_an_example(command):
    assert f"  ppdl {command} " in run(*command.split(), "--help").stdout + " "


@pytest.mark.parametrize(("option", "level"), [("-v", "INFO"), ("-vv", "DEBUG"), ("-q", "ERROR"), (None, "NOTSET")])
def test_the_log_says_more_or_less(artifact, option, level):
    own = logging.getLogger("ppdl")
    own.setLevel(logging.NOTSET)
    try:
        result = run(*([option] if option else []), "artifact", "verify", artifact)
        assert result.exit_code == 0 and logging.getLevelName(own.level) == level
    finally:
        own.setLevel(logging.NOTSET)


def test_the_shell_completes_commands_and_options():
    """By click's own protocol, which docs/howto/tools.md turns on."""
    words = {"ppdl art": "artifact", "ppdl artifact au": "audit", "ppdl artifact audit --fa": "--fail-on"}
    for typed, expected in words.items():
        variables = {"_PPDL_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
        result = CliRunner().invoke(main, [], prog_name="ppdl", env=variables)
        assert f"plain,{expected}" in result.output.splitlines()


def test_there_are_eleven_commands_at_most():
    assert len(COMMANDS) <= 11


@pytest.mark.parametrize("name", RENAMED)
def test_an_old_name_answers_with_the_new_one(name):
    for options in ([], ["--help"], ["x", "--out", "y"]):
        result = run(name, *options)
        assert (result.exit_code, result.output) == (2, f"Error: `ppdl {name}` is now `ppdl {RENAMED[name]}`\n")
    assert tuple(RENAMED[name].split()) in every_command(main)


def test_python_m_ppdl_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "ppdl", "artifact", "verify", "/nowhere"], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 1
    assert done.stderr == "Error: /nowhere: an artifact is a folder, found nothing; restore the artifact (dvc pull) or encrypt again\n"
    assert done.stdout == ""


def test_an_unknown_command_is_named():
    result = run("encrypt")
    assert result.exit_code == 2
    assert "No such command 'encrypt'" in result.stderr


def test_an_error_of_ours_keeps_its_traceback(artifact, monkeypatch):
    """Only a user's mistakes are one line: a bug must show where it is."""
    monkeypatch.setattr("ppdl.crypto.artifact.reading.read_header", lambda path: 1 / 0)
    assert isinstance(run("artifact", "inspect", artifact).exception, ZeroDivisionError)


def test_a_missing_extra_is_named_with_the_command_that_installs_it(artifact, monkeypatch):
    def lacks(module):
        def read(_):
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)

        monkeypatch.setattr("ppdl.crypto.artifact.reading.read_header", read)
        return run("artifact", "inspect", artifact)

    result = lacks("keras.layers")
    assert result.exit_code == 1 and "keras.layers" in result.stderr and "ppdl-paillier[train]" in result.stderr
    assert isinstance(lacks("no_such_module").exception, ModuleNotFoundError)


# keygen


def keygen(tmp_path, *more):
    options = ["--bits", 256, "--allow-insecure-key", "--public", tmp_path / "p/keys/public.json", "--private-dir", tmp_path / "k"]
    return run("key", "make", *options, *more)


def test_keygen_makes_a_pair_once(tmp_path):
    result = keygen(tmp_path)
    assert result.exit_code == 0, result.output
    public = load_public(tmp_path / "p/keys/public.json")
    assert public.key_bits == 256
    assert public.fingerprint in result.stdout
    (path,) = (tmp_path / "k").iterdir()
    assert path.name == f"{public.fingerprint}.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert str(load_private(path).p) not in result.output
    assert "kept" in keygen(tmp_path).stdout
    assert load_public(tmp_path / "p/keys/public.json") == public


def test_keygen_rebuilds_a_lost_public_file(tmp_path):
    keygen(tmp_path)
    path = tmp_path / "p/keys/public.json"
    public = load_public(path)
    path.unlink()
    assert "rebuilt" in keygen(tmp_path).stdout
    assert load_public(path) == public


def test_keygen_without_bits_keeps_the_length_of_the_key(tmp_path):
    keygen(tmp_path)
    options = ["--allow-insecure-key", "--public", tmp_path / "p/keys/public.json", "--private-dir", tmp_path / "k"]
    assert "kept the 256-bit key pair" in run("key", "make", *options).stdout


def test_keygen_makes_3072_bits_unless_told(tmp_path, monkeypatch):
    asked = []

    def generate(key_bits, **options):
        asked.append(key_bits)
        return generate_keypair(256, allow_insecure_key=True)

    monkeypatch.setattr("ppdl.crypto.keys.keystore.generate_keypair", generate)
    assert run("key", "make", "--public", tmp_path / "p/public.json", "--private-dir", tmp_path / "k").exit_code == 0
    assert asked == [3072]


def test_keygen_asks_for_a_passphrase_twice(tmp_path, monkeypatch):
    monkeypatch.setattr("ppdl.crypto.keys.jwk._SCRYPT", {"kdf": "scrypt", "log2_n": 4, "r": 8, "p": 1, "cipher": "AES-256-GCM"})
    options = [
        "--bits",
        256,
        "--allow-insecure-key",
        "--public",
        tmp_path / "p/public.json",
        "--private-dir",
        tmp_path / "k",
        "--passphrase",
    ]
    result = run("key", "make", *options, input="swordfish\nswordfish\n")
    assert result.exit_code == 0, result.output
    assert "swordfish" not in result.output
    (path,) = (tmp_path / "k").iterdir()
    assert load_private(path, "swordfish").public == load_public(tmp_path / "p/public.json")


def test_keygen_refuses_insecure_lengths(tmp_path):
    message = refused("key", "make", "--bits", 256, "--public", tmp_path / "p/public.json", "--private-dir", tmp_path / "k")
    assert "must be one of 2048, 3072, 4096, got 256" in message
    assert not (tmp_path / "p").exists()


def test_keygen_keeps_private_keys_out_of_the_checkout(tmp_path):
    (tmp_path / "p/.git").mkdir(parents=True)
    options = ["--bits", 256, "--allow-insecure-key", "--public", tmp_path / "p/keys/public.json"]
    assert "private keys must not lie inside the project" in refused("key", "make", *options, "--private-dir", tmp_path / "p/private")


# inspect


@pytest.mark.parametrize("kind", KINDS)
def test_inspect_says_what_is_revealed(key, tmp_path, kind):
    header = write(tmp_path, kind, IMAGES, key.public).header
    result = run("artifact", "inspect", tmp_path / "artifact", "--json")
    content = json.loads(result.stdout)
    assert (content["format"], content["kind"], content["confidential"]) == ("PPDL/1", kind, kind != "codebook")
    assert content["key"]["fingerprint"] == key.public.fingerprint
    assert content["source"] == {"num_images": 11, "height": 8, "width": 12}
    assert content["total_bytes"] == sum(path.stat().st_size for path in (tmp_path / "artifact").glob("*.npy")) == header.total_bytes
    assert content["bytes_per_pixel"] == pytest.approx(header.total_bytes / (11 * 96))
    expected = "equal pixels have equal ciphertexts" if kind == "codebook" else "nothing about the pixels, if decisional composite"
    assert expected in content["reveals"]
    assert "number and size of the images" in content["in_the_clear"]
    assert content["authenticated"] is False


def test_inspect_prints_a_table(artifact, key):
    result = run("artifact", "inspect", artifact)
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.replace("│", " ").split())
    for expected in ("PPDL/1, dense", "11 of 8 x 12 px", "256 bits (insecure length, for tests only), djn obfuscators", "confidential yes"):
        assert expected in text
    assert key.public.fingerprint in text.replace(" ", "")


def test_inspect_shows_brackets_in_params_as_they_are(key, tmp_path):
    from ppdl.crypto.artifact.fields import Protection

    write(tmp_path, "dense", IMAGES, key.public, protection=Protection("x", {"a": "[red]b[/red]"}))
    assert '{"a": "[red]b[/red]"}' in run("artifact", "inspect", tmp_path / "artifact").stdout


def test_inspect_refuses_a_bad_header(artifact):
    set_field("source.num_images", 12)(artifact)
    assert "header.json: shards must hold source.num_images = 12 images, got 11" in refused("artifact", "inspect", artifact)


# verify


def test_verify_passes(artifact, key):
    result = run("artifact", "verify", artifact, "--public", artifact.parent / "public.json")
    assert result.exit_code == 0, result.output
    assert "intact: 4 shards" in result.stdout and key.public.fingerprint in result.stdout


def test_verify_finds_damage(artifact):
    path = artifact / "ciphertexts-00001.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert f"{path}: damaged: SHA-256 must be" in refused("artifact", "verify", artifact)


def test_verify_refuses_another_public_key(artifact, tmp_path):
    save_public(tmp_path / "other.json", generate_keypair(256, allow_insecure_key=True).public)
    assert "use the key pair with the artifact's fingerprint" in refused(
        "artifact", "verify", artifact, "--public", tmp_path / "other.json"
    )
    assert "cannot read this key file" in refused("artifact", "verify", artifact, "--public", tmp_path / "missing.json")


# decrypt


@pytest.mark.parametrize("kind", KINDS)
def test_decrypt_writes_the_same_images(key, tmp_path, private_file, kind):
    write(tmp_path, kind, IMAGES, key.public)
    result = run(
        "artifact", "decrypt", tmp_path / "artifact", "--private-key", private_file, "--out", tmp_path / "new/images", "--threads", 2
    )
    assert result.exit_code == 0, result.output
    files = sorted((tmp_path / "new/images").iterdir())
    assert [file.name for file in files] == [f"image-{i:06d}.png" for i in range(11)]
    assert all(Image.open(file).mode == "L" for file in files)
    assert np.array_equal([np.asarray(Image.open(file)) for file in files], IMAGES)
    assert (tmp_path / "new/images").stat().st_mode & 0o077 == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["images"]
    assert "11 images, equal to those that were encrypted" in result.stdout


def test_decrypt_refuses_another_key_and_writes_nothing(artifact, tmp_path):
    other = save_private(tmp_path / "other", generate_keypair(256, allow_insecure_key=True))
    message = refused("artifact", "decrypt", artifact, "--private-key", other, "--out", tmp_path / "new/images")
    assert "use the private key with the artifact's fingerprint" in message
    assert list((tmp_path / "new").iterdir()) == []


def test_decrypt_shows_no_image_that_was_exchanged(key, tmp_path, private_file):
    """All images decrypt; only at the end it is known that they are others."""
    from tests.attacks.build import change_array

    write(tmp_path, "codebook", IMAGES, key.public)
    change_array(1, lambda indices: indices[::-1].copy())(tmp_path / "artifact")
    message = refused("artifact", "decrypt", tmp_path / "artifact", "--private-key", private_file, "--out", tmp_path / "new/images")
    assert "to other images than were encrypted" in message
    assert list((tmp_path / "new").iterdir()) == []


def test_decrypt_refuses_a_folder_that_exists(artifact, tmp_path, private_file):
    (tmp_path / "images").mkdir()
    assert "images are written to a new folder" in refused(
        "artifact", "decrypt", artifact, "--private-key", private_file, "--out", tmp_path / "images"
    )


def test_decrypt_refuses_a_key_that_others_can_read(artifact, tmp_path, private_file):
    private_file.chmod(0o644)
    assert f"chmod 600 {private_file}" in refused(
        "artifact", "decrypt", artifact, "--private-key", private_file, "--out", tmp_path / "images"
    )


def test_decrypt_needs_a_private_key(artifact, tmp_path):
    message = refused("artifact", "decrypt", artifact, "--private-key", tmp_path / "missing.json", "--out", tmp_path / "images")
    assert "missing.json: cannot read this key file" in message


def test_decrypt_asks_for_the_passphrase(artifact, key, tmp_path, monkeypatch):
    monkeypatch.setattr("ppdl.crypto.keys.jwk._SCRYPT", {"kdf": "scrypt", "log2_n": 4, "r": 8, "p": 1, "cipher": "AES-256-GCM"})
    path = save_private(tmp_path / "protected", key, passphrase="swordfish")
    arguments = ["artifact", "decrypt", artifact, "--private-key", path, "--out", tmp_path / "images"]
    wrong = run(*arguments, input="halibut\n")
    assert wrong.exit_code == 1 and "wrong passphrase" in wrong.stderr and "halibut" not in wrong.output
    assert run(*arguments, input="swordfish\n").exit_code == 0
    assert len(list((tmp_path / "images").iterdir())) == 11
    monkeypatch.setenv("PPDL_PRIVATE_KEY_PASSPHRASE", "swordfish")
    assert run(*arguments[:-1], tmp_path / "again").exit_code == 0


# estimate

SMALL = ["--bits", 256, "--allow-insecure-key", "--images", 30, "--px", 8, "--workers", 1, "--table-mib", 1]


def test_estimate_prints_a_table():
    result = run("estimate", *SMALL)
    assert result.exit_code == 0, result.output
    for expected in ("30 images of 8 x 8 px, 256 bits, dense", "encrypt", "decrypt", "core-hours", "75 ciphertexts of 31 slots"):
        assert expected in result.stdout


def test_estimate_prints_json():
    content = json.loads(run("estimate", *SMALL, "--protection", "slots", "--stride", 4, "--slot-bits", 10, "--json").stdout)
    assert [step["name"] for step in content["steps"]] == ["encrypt", "decrypt", "stem", "recheck", "reveal"]
    assert content["num_ciphertexts"] == 15 * 16  # 24 slots: 2 images of 4 patches in each of 15 shards, for each of 16 places
    assert content["steps"][0]["bytes"] == 240 * 64 + 15 * 128


def test_estimate_refuses_what_does_not_fit():
    assert "stride must divide the images' 8 x 8 px, got 3" in refused("estimate", *SMALL, "--protection", "slots", "--stride", 3)
    assert "must be one of 2048, 3072, 4096, got 1024" in refused("estimate", "--images", 1, "--px", 8, "--bits", 1024)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (119.94, "119.9 s"), (120, "2.0 min"), (7200, "2.0 h"), (48 * 3600, "2.0 days"), (1e7, "115.7 days")],
)
def test_durations_are_readable(seconds, text):
    from ppdl.cli.estimate import duration

    assert duration(seconds) == text
