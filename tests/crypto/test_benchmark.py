"""The benchmark runs, and what it compares is equal; how fast it is depends on the machine and is no test."""

import re

import numpy as np
import pytest

from benchmarks import crypto, crypto_rivals
from benchmarks.crypto_cases import Bench, Sizes, measure


class Tiny(Sizes):
    def at(self, key_bits: int) -> Sizes:
        return self


@pytest.fixture(scope="module")
def tiny_bench(tmp_path_factory) -> Bench:
    sizes = Tiny(repeats=1, encryptions=12, decryptions=4, stem_groups=2, phe_encryptions=2, phe_stems=1, worker_shards=2)
    bench = Bench(512, sizes, tmp_path_factory.mktemp("bench"), allow_insecure_key=True)
    bench.prepare()
    return bench


def test_figures_are_those_of_json(tiny_bench):
    seconds = tiny_bench.seconds()
    figures = tiny_bench.figures(seconds)
    assert [*figures, "two_workers_over_one"] == list(crypto.TARGETS)
    assert figures["dense_encrypt_public_over_phe"] == seconds["phe_encrypt"] / seconds["dense_encrypt_public"]
    assert 128 / 63 < figures["bytes_per_pixel_dense"] <= (12 * 128 + 128) / (12 * 63)  # 128 bytes begin an .npy file
    crypto.show(tiny_bench, figures | {"two_workers_over_one": 1.0}, crypto.detail_rows(tiny_bench, seconds))


def test_wrong_results_are_not_timed(tiny_bench, monkeypatch):
    monkeypatch.setattr(tiny_bench, "weights", tiny_bench.weights + 1)
    with pytest.raises(AssertionError):
        tiny_bench.check()


def test_measure_takes_medians_per_unit():
    times = iter([0, 10, 10, 30, 30, 31, 31, 35, 35, 45, 45, 50])
    got = measure({"a": (lambda: None, 2), "b": (lambda: None, 1)}, 3, lambda: next(times))
    assert got == {"a": 5, "b": 5}


def test_sizes_shrink_with_the_key_length():
    assert Sizes(9, 100, 100, 100, 100, 100, 16).at(4096) == Sizes(9, 12, 12, 12, 12, 12, 16)


def test_missing_rivals_say_so(monkeypatch):
    monkeypatch.setattr(crypto_rivals, "find_spec", lambda name: None)
    rows = crypto_rivals.rows(np.zeros(10, np.uint8), 2048, 1, float)
    assert [text for _, text in rows] == ["not installed (pip install 'ppdl[bench]')"] * 3


def test_arguments(capsys):
    assert crypto.parse_arguments([]).bits == [2048, 3072]
    assert crypto.parse_arguments(["--bits", "4096", "--json", "--quick"]).json
    with pytest.raises(SystemExit):
        crypto.parse_arguments(["--bits", "512"])
    assert re.search("invalid choice: '?512", capsys.readouterr().err)
