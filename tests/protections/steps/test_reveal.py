"""The key holder: no decryption oracle, exact results, noise before anything is written."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ppdl.crypto.arithmetic.paillier import add_plaintext, encrypt_batch
from ppdl.crypto.artifact.fields import Protection
from ppdl.crypto.artifact.header_file import HEADER_FILE, write_text
from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.artifact.shards import write_shard
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.errors import ArtifactError, ConfigError, KeyStoreError
from ppdl.protections.context import KeyHolder
from ppdl.protections.steps import reveal as reveal_module
from ppdl.protections.steps.filters import Filters, filters_sha256
from ppdl.protections.steps.noise import NOISE_FILE
from ppdl.protections.steps.recheck import Recheck
from ppdl.protections.steps.release import Release
from ppdl.protections.steps.reveal import Reveal
from ppdl.protections.steps.revealed import VIEW_FILE, read_header, read_revealed
from ppdl.protections.steps.stem import FilterStep, Stem, header_sha256
from tests.protections.conftest import DCT, MEAN, plain_outputs

IDENTITY = {"filters": [[1, 0, 0, 0]], "channels": 1, "weight_bits": 4}


@pytest.fixture(autouse=True)
def decryptions(monkeypatch):
    """Count decryptions: a refusal must come before the first."""
    calls = []
    real = reveal_module.decrypt_planes
    monkeypatch.setattr(reveal_module, "decrypt_planes", lambda *args, **kwargs: calls.append(1) or real(*args, **kwargs))
    return calls


def refuses(chain, decryptions, message, *, sums="stem", error=ArtifactError, **options):
    with pytest.raises(error, match=message):
        chain.decrypt(sums=sums, **options)
    assert not decryptions and not (chain.root / "revealed").exists()


def rewrite(sums_dir, *, name=None, params=None, **changes):
    """Edit the header of an artifact as somebody with a text editor and a hash function would."""
    header = open_artifact(sums_dir).header
    if params is not None:
        changes["protection"] = Protection(header.protection.name, header.protection.params | params)
    (sums_dir / HEADER_FILE).write_text(write_text(replace(header, **changes)))


def exchange(sums_dir, index, rows):
    """Put other ciphertexts into a shard, with a header that fits."""
    header = open_artifact(sums_dir).header
    old = header.shards[index]
    (sums_dir / old.file).unlink()
    shard = write_shard(sums_dir / old.file, rows, old.first_image, old.num_images)
    rewrite(sums_dir, shards=(*header.shards[:index], shard, *header.shards[index + 1 :]))


def test_what_is_revealed_is_the_plain_integer_computation_bit_for_bit(chain):
    chain.encrypt(), chain.filter()
    revealed = read_revealed(chain.decrypt())
    outputs = plain_outputs(chain.images, chain.stem.matrix(2), 2)
    centred = outputs - np.array([510, 0, 0])[:, None, None]
    expected = np.floor(centred * 32767 / 510 + 0.5).astype(np.int16).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(revealed.array, expected)
    assert revealed.array.dtype == np.int16 and revealed.array.shape == (7, 4, 4, 3)
    assert (revealed.header.scale, revealed.header.offset) == (1 / 32767, 0.0)


def test_clipping_is_the_plain_computation_too(chain):
    chain = chain.another(reveal=replace(chain.reveal, clip=0.5, clip_detail=0.25))
    chain.encrypt(), chain.filter()
    outputs = plain_outputs(chain.images, chain.stem.matrix(2), 2) - np.array([510, 0, 0])[:, None, None]
    limit = np.array([255, 127, 127])[:, None, None]
    clipped = np.clip(outputs, -limit, limit)
    expected = np.floor(clipped * 32767 / limit + 0.5).astype(np.int16).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(read_revealed(chain.decrypt()).array, expected)


def test_the_header_accounts_for_what_was_done(chain):
    chain.encrypt(), chain.filter()
    header = read_header(chain.decrypt())
    assert header.params["stride"] == 2 and header.params["stem"] == DCT
    assert header.params["reveal"] == {"approved": [DCT, MEAN], "check_fraction": 1.0, "clip": 1.0, "clip_detail": 1.0, "noise": 0.0}
    assert header.key_fingerprint == chain.private_key.public.fingerprint
    assert header.source_sha256 == header_sha256(open_artifact(chain.root / "encrypted"))
    assert header.sums_sha256 == header_sha256(open_artifact(chain.root / "stem"))
    assert header.num_checked == header.num_columns == open_artifact(chain.root / "stem").header.num_ciphertexts // 3
    assert header.noise_secret is None
    assert not (chain.private_dir / NOISE_FILE).exists()  # no noise, no secret


def test_nothing_but_the_view_and_its_header_is_written(chain):
    chain.encrypt(), chain.filter()
    assert sorted(path.name for path in chain.decrypt().iterdir()) == ["header.json", "view.npy"]
    assert not (chain.root / "partial-reveal").exists()


class SumUpper(FilterStep):
    """A step of the compute side with arguments of its own."""

    def filters_at(self, stride):
        return Filters([[1, 1, 0, 0]], 1, 4)

    def spec(self):
        return {"half": "upper"}


def test_a_step_with_arguments_of_its_own_names_its_filters_and_they_must_be_approved(chain, decryptions):
    chain = chain.another(stem=SumUpper())
    chain.encrypt(), chain.filter()
    refuses(chain, decryptions, r"computed with the filters .*\[\[1, 1, 0, 0\]\].* not approved at stride 2. Nothing was decrypted")
    upper = {"filters": [[1, 1, 0, 0]], "channels": 1, "weight_bits": 4}
    header = read_header(chain.another(reveal=replace(chain.reveal, approved=(upper,))).decrypt())
    assert header.params["stem"] == {"half": "upper"} and header.filters == [[1, 1, 0, 0]]


@pytest.mark.parametrize("stem", [DCT, {"half": ["upper"]}, {"half": 0.5}, "upper", None])
def test_arguments_beside_filters_are_plain_and_claim_no_other_filters(chain, decryptions, stem):
    """Outputs of the approved mean under arguments that would have the trainer take them for others, or carry something to it."""
    chain = chain.another(stem=Stem(**MEAN))
    chain.encrypt()
    rewrite(chain.filter(), params={"stem": stem, "filters": MEAN})
    refuses(chain, decryptions, "beside `filters`, `stem` must have whole numbers and texts that are no filters themselves")


def test_filters_that_are_not_approved_are_refused(chain, decryptions):
    """A compute side that asks for single pixels, by its own and honest header."""
    chain = chain.another(stem=Stem(**IDENTITY))
    chain.encrypt(), chain.filter()
    refuses(chain, decryptions, r"computed with the filters .*\[\[1, 0, 0, 0\]\].* not approved at stride 2. Nothing was decrypted")


def test_identity_outputs_under_the_name_of_approved_filters_are_refused(chain, decryptions):
    """The same outputs, with a header that claims the mean."""
    honest = chain.another(stem=Stem(**MEAN))
    chain = chain.another(stem=Stem(**IDENTITY))
    chain.encrypt()
    sums = chain.filter()
    digest = filters_sha256(honest.stem.matrix(2))
    rewrite(sums, params={"stem": MEAN, "filters_sha256": digest})
    refuses(chain, decryptions, "column 0 is not what the approved filters give .* substituted or damaged. Nothing was decrypted")


def test_a_digest_and_a_name_that_differ_are_refused(chain, decryptions):
    chain.encrypt()
    rewrite(chain.filter(), params={"stem": MEAN})
    refuses(chain, decryptions, "the header names other filters than its digest does: it was edited")


def test_a_header_with_no_filters_is_refused(chain, decryptions):
    chain.encrypt()
    rewrite(chain.filter(), params={"stem": "all"})
    refuses(chain, decryptions, "the header's filters are invalid")


def test_the_sources_ciphertexts_in_place_of_outputs_are_refused(chain, decryptions):
    """The plainest abuse of a decryption oracle: hand in the images themselves."""
    source = open_artifact(chain.encrypt())
    sums = chain.filter()
    for index, shard in enumerate(open_artifact(sums).header.shards):
        exchange(sums, index, np.array(source.shard(source.header.shards[index].file)[: shard.shape[0]]))
    refuses(chain, decryptions, "is not what the approved filters give")


def test_one_substituted_ciphertext_is_found(chain, decryptions):
    chain.encrypt()
    sums = chain.filter()
    artifact = open_artifact(sums)
    shard = artifact.header.shards[-1]
    rows = np.array(artifact.shard(shard.file))
    rows[-1:] = add_plaintext(chain.private_key.public, rows[-1:], [1])
    exchange(sums, len(artifact.header.shards) - 1, rows)
    refuses(chain, decryptions, f"{shard.file}: column {shard.shape[0] // 3 - 1} is not what")


def test_a_sample_finds_it_as_often_as_stated(chain, monkeypatch):
    """The sample is drawn without replacement; here every draw of one column out of all is tried."""
    chain = chain.another(reveal=replace(chain.reveal, check_fraction=0.01))
    chain.encrypt()
    sums = chain.filter()
    artifact = open_artifact(sums)
    rows = np.array(artifact.shard(artifact.header.shards[0].file))
    rows[:1] = add_plaintext(chain.private_key.public, rows[:1], [1])  # column 0
    exchange(sums, 0, rows)
    num_columns = artifact.header.num_ciphertexts // 3
    found = 0
    for column in range(num_columns):
        monkeypatch.setattr("secrets.SystemRandom.sample", lambda self, columns, k, column=column: [columns[column]] * (k == 1))
        try:
            chain.decrypt(name=f"revealed-{column}")
        except ArtifactError as error:
            assert "column 0 is not what" in str(error)
            found += 1
    assert found == 1
    assert Recheck(num_columns, 1).detection(1) == pytest.approx(1 / num_columns)


@pytest.mark.parametrize(
    ("total", "checked", "substituted", "expected"),
    [(100, 100, 1, 1.0), (100, 10, 1, 0.1), (4, 2, 2, 1 - 1 / 6), (100, 10, 91, 1.0), (10, 0, 3, 0.0)],
)
def test_the_stated_probability_is_hypergeometric(total, checked, substituted, expected):
    assert Recheck(total, checked).detection(substituted) == pytest.approx(expected)


def test_the_statement_names_sample_and_probabilities():
    text = str(Recheck(1000, 100))
    assert "100 of 1000 columns" in text and "probability 0.1000" in text and "10 (1 %) with 0.65" in text


def test_outputs_of_an_older_artifact_are_refused(chain, decryptions):
    """The images were encrypted again; the compute side hands in what it computed before."""
    chain.encrypt("older")
    chain.encrypt()
    chain.filter("older")
    refuses(chain, decryptions, "the outputs of another or of an older artifact. Nothing was decrypted")


def test_outputs_of_an_older_artifact_with_an_edited_header_are_refused(chain, decryptions):
    chain.encrypt("older")
    source = open_artifact(chain.encrypt())
    sums = chain.filter("older")
    rewrite(sums, params={"source_header_sha256": header_sha256(source)})
    refuses(chain, decryptions, "canary must be as in .* found others: the header was edited")
    rewrite(sums, canary=source.header.canary)
    refuses(chain, decryptions, "column 0 is not what the approved filters give")


def test_outputs_of_another_stem_are_refused(chain, decryptions):
    """Outputs of the mean, replayed as if they were those of three filters."""
    chain.encrypt()
    honest = open_artifact(chain.filter(name="honest")).header.protection.params
    sums = chain.another(stem=Stem(**MEAN)).filter()
    rewrite(sums, params={"stem": honest["stem"], "filters_sha256": honest["filters_sha256"]})
    refuses(chain, decryptions, "packing must be as in")


def test_an_artifact_of_another_kind_is_refused(chain, decryptions):
    sums = chain.encrypt("stem")
    chain.encrypt()
    rewrite(sums, params={"stem": DCT, "filters_sha256": filters_sha256(chain.stem.matrix(2))})
    refuses(chain, decryptions, "outputs of a stem are an artifact of kind 'sums', found 'slots'")


def test_another_private_key_is_refused(chain, decryptions):
    chain.encrypt(), chain.filter()
    other = generate_keypair(256, allow_insecure_key=True)
    refuses(chain.another(private_key=other), decryptions, "use the key pair with the artifact's fingerprint")


def test_a_wrong_canary_is_refused(chain, decryptions):
    """Fingerprint and header say one key, the ciphertexts are of another."""
    chain.encrypt()
    public = chain.private_key.public
    rows = encrypt_batch(public, [1] * len(open_artifact(chain.root / "encrypted").header.canary), _obfuscators(public))
    rewrite(chain.root / "encrypted", canary=tuple(row.tobytes().hex() for row in rows))
    chain.filter()
    refuses(chain, decryptions, "the canary does not decrypt to its tag")


def _obfuscators(public):
    from ppdl.crypto.arithmetic.obfuscators import build_obfuscators

    return build_obfuscators(public, "standard")


def test_a_damaged_shard_is_refused(chain, decryptions):
    chain.encrypt()
    path = sorted(chain.filter().glob("*.npy"))[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    refuses(chain, decryptions, "damaged: SHA-256 must be")


def test_outputs_that_no_pixels_give_are_refused(chain):
    """A source that encrypts larger numbers than pixels would get more out of the filters than was approved."""
    source = open_artifact(chain.encrypt())
    rows = np.array(source.shard(source.header.shards[0].file))
    rows[:1] = add_plaintext(chain.private_key.public, rows[:1], [255])  # the first pixel of image 0, which is 0, ...
    rows[1:2] = add_plaintext(chain.private_key.public, rows[1:2], [300])  # ... and its right neighbour, now 300
    rows[2:4] = add_plaintext(chain.private_key.public, rows[2:4], [255, 255])
    exchange(chain.root / "encrypted", 0, rows)
    chain.filter()
    with pytest.raises(ArtifactError, match=r"1 outputs lie outside what the filters can give on pixels 0\.\.255"):
        chain.decrypt()
    assert not (chain.root / "revealed").exists()


def test_the_owners_own_list_takes_the_place_of_the_configured_one(chain, decryptions):
    chain.encrypt(), chain.filter()
    chain.private_dir.mkdir(mode=0o700)
    own = chain.private_dir / "approved.json"
    own.write_text(json.dumps([MEAN]))
    own.chmod(0o600)
    refuses(chain, decryptions, "has not approved at stride 2")
    own.write_text(json.dumps([DCT]))
    assert chain.decrypt().is_dir()


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (json.dumps([DCT]), 0o622, "others may change what you approve: chmod 600"),
        ("dct", 0o600, "must be a JSON list of filters"),
        (json.dumps(DCT), 0o600, "approved must be a list of filters"),
        (json.dumps([{"filters": "dct"}]), 0o600, "each approved entry must have exactly channels, filters, weight_bits"),
    ],
)
def test_a_list_of_the_owner_that_cannot_be_used(chain, decryptions, content, mode, message):
    chain.encrypt(), chain.filter()
    chain.private_dir.mkdir(mode=0o700)
    (chain.private_dir / "approved.json").write_text(content)
    (chain.private_dir / "approved.json").chmod(mode)
    refuses(chain, decryptions, message, error=KeyStoreError)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"approved": ()}, "approved must list the filters whose outputs may be decrypted, got none"),
        ({"approved": ("dct",)}, "each approved entry must have exactly"),
        ({"check_fraction": 0.0}, r"check_fraction must be above 0 and at most 1 \(all outputs\), got 0.0"),
        ({"noise": -1}, "noise must be a standard deviation >= 0"),
    ],
)
def test_a_reveal_that_breaks_a_rule(changes, message):
    with pytest.raises(ConfigError, match=message):
        Reveal(**({"approved": (DCT,), "check_fraction": 1.0, "clip": 1.0, "clip_detail": 1.0, "noise": 0.0} | changes))


def test_noise_comes_before_writing_and_a_rerun_cannot_average_it_away(chain):
    chain.encrypt(), chain.filter()
    exact = np.array(read_revealed(chain.decrypt(name="exact")).array, np.int64)
    noisy = chain.another(reveal=replace(chain.reveal, noise=6.0))
    first = read_revealed(noisy.decrypt(name="first"))
    noise = (np.array(first.array) - exact)[2:] / 32767 * 127.5  # images 0 and 1 lie at the end of the range
    assert 4 < noise.std() < 8
    assert first.header.sigma == [24.0, 24.0, 24.0] and first.header.noise_secret
    noisy.encrypt("again")  # other ciphertexts of the same images
    noisy.filter("again", "again-stem")
    second = read_revealed(noisy.decrypt("again", "again-stem", "second"))
    np.testing.assert_array_equal(first.array, second.array)


def test_noise_follows_the_image_when_rows_move(chain):
    noisy = chain.another(reveal=replace(chain.reveal, noise=6.0))
    noisy.encrypt(), noisy.filter()
    first = np.array(read_revealed(noisy.decrypt()).array)
    moved = noisy.another(images=np.ascontiguousarray(chain.images[::-1]))
    moved.encrypt("moved"), moved.filter("moved", "moved-stem")
    np.testing.assert_array_equal(read_revealed(moved.decrypt("moved", "moved-stem", "moved-view")).array[::-1], first)


def test_the_configuration_alone_cannot_subtract_the_noise(chain):
    """Everything in the project and the view, but another secret: the noise stays."""
    noisy = chain.another(reveal=replace(chain.reveal, noise=6.0))
    noisy.encrypt(), noisy.filter()
    first = np.array(read_revealed(noisy.decrypt()).array, int)
    holder = KeyHolder(chain.root / "other-private", chain.root / "project")
    other = np.array(read_revealed(noisy.decrypt(name="other", key_holder=holder)).array, int)
    assert (first - other)[2:].std() > 1000


def test_an_interrupted_reveal_goes_on_and_gives_the_same(chain, monkeypatch, decryptions):
    noisy = chain.another(reveal=replace(chain.reveal, noise=6.0))
    noisy.encrypt(), noisy.filter()
    expected = np.array(read_revealed(noisy.decrypt(name="expected")).array)
    num_shards = len(decryptions)
    assert num_shards >= 3
    decryptions.clear()
    real = Release.reveal

    def fails_at_the_third(self, *args):
        if len(decryptions) == 3:
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(Release, "reveal", fails_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        noisy.decrypt()
    assert not (chain.root / "revealed").exists()
    decryptions.clear()
    monkeypatch.setattr(Release, "reveal", real)
    np.testing.assert_array_equal(read_revealed(noisy.decrypt()).array, expected)
    assert len(decryptions) == num_shards - 2  # what was finished was not decrypted again


def test_an_interrupted_reveal_of_another_level_starts_over(chain, monkeypatch, decryptions):
    chain.encrypt(), chain.filter()
    real = Release.reveal
    monkeypatch.setattr(Release, "reveal", lambda self, *args: real(self, *args) if len(decryptions) < 3 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        chain.decrypt()
    decryptions.clear()
    monkeypatch.setattr(Release, "reveal", real)
    chain.another(reveal=replace(chain.reveal, clip=0.5)).decrypt()
    assert len(decryptions) == len(open_artifact(chain.root / "stem").header.shards)


def test_a_folder_in_use_is_not_overwritten(chain):
    chain.encrypt(), chain.filter(), chain.decrypt()
    with pytest.raises(ArtifactError, match="a view is written to a new or empty folder, found one in use"):
        chain.decrypt()


def damaged_view(folder, change):
    header = json.loads((folder / "header.json").read_text())
    change(folder, header)
    if (folder / "header.json").exists():
        (folder / "header.json").write_text(json.dumps(header))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder, header: (folder / "header.json").unlink(), "header.json is missing: nothing was revealed here to the end"),
        (lambda folder, header: (folder / VIEW_FILE).unlink(), "view.npy is missing"),
        (lambda folder, header: header.update(format="PPDL-VIEW/2"), 'must have "format": .PPDL-VIEW/1., got .PPDL-VIEW/2.'),
        (lambda folder, header: header.pop("scale"), "header.json: fields must be"),
        (lambda folder, header: header.update(view_sha256="0" * 64), "view.npy: damaged: SHA-256 must be 0000"),
        (lambda folder, header: header.update(shape=[7, 4, 4, 1]), r"must hold one int16 array \[7, 4, 4, 1\]"),
    ],
)
def test_a_damaged_view_is_refused(chain, change, message):
    chain.encrypt(), chain.filter()
    folder = chain.decrypt()
    damaged_view(folder, change)
    with pytest.raises(ArtifactError, match=message):
        read_revealed(folder)


def test_a_view_header_that_is_no_json_is_named(tmp_path):
    (tmp_path / "header.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"header\.json cannot be read"):
        read_header(tmp_path)


def test_two_workers_check_and_decrypt_as_one(chain):
    from ppdl.crypto.workers.parallel import Executor

    chain.encrypt(), chain.filter()
    two = chain.another(executor=Executor(num_workers=2, shard_mib=1, min_shards=3, table_mib=4))
    one, other = read_revealed(chain.decrypt(name="one")), read_revealed(two.decrypt(name="two"))
    assert one.header == other.header
