"""Each limit is where it is said to be: its value is accepted, the next one is refused."""

from dataclasses import replace

import pytest

from ppdl.config.components import construct
from ppdl.crypto.arithmetic.linear import dct_filters
from ppdl.crypto.arithmetic.packing import DensePacking, SlotPacking
from ppdl.crypto.artifact.fields import Key, Protection, Shard, Source
from ppdl.crypto.artifact.layout import Packing
from ppdl.crypto.encryption.plan import plan_packing
from ppdl.crypto.inner_product.batch import BatchPacking
from ppdl.crypto.inner_product.checks import MOST_FEATURES
from ppdl.crypto.inner_product.single import InnerPacking
from ppdl.crypto.keys.jwk import decode_int, encode_int, parse_members
from ppdl.crypto.keys.keypair import check_key_bits
from ppdl.crypto.workers.parallel import Executor
from ppdl.errors import PpdlError

PACKING, INNER = Packing(9, 5, 1, 2, 2, 1), InnerPacking(2**16, 8)
SOURCE, KEY = Source(10, 8, 12), Key("0" * 64, 256, "djn")
SHARD = Shard("codebook.npy", (1, 1), "|u1", 129, "0" * 64, 0, 0)
EXECUTOR = Executor(1, 8, 4, 4)
PLAN = {"kind": "slots", "key_bits": 256, "stride": 1, "slot_bits": 12, "images_per_group": None, "executor": EXECUTOR}


def shard_of_length(length):
    return replace(SHARD, shape=(length, 1), bytes=128 + length)


def planned(field):
    return lambda value: plan_packing(SOURCE, **PLAN | {field: value})


def changed(good, field):
    return lambda value: replace(good, **{field: value})


def executor(field):
    return lambda value: construct(Executor, vars(EXECUTOR) | {field: value}, "executor")


LIMITS = {
    # what is limited: (how it is made, the least and the greatest good value, None where there is none), at steps of 1
    "packing.slot_bits": (changed(PACKING, "slot_bits"), 8, 32),
    **{f"packing.{name}": (changed(PACKING, name), 1, 2**16) for name in ("slots", "planes", "plane_height", "plane_width")},
    "packing.images_per_group": (changed(PACKING, "images_per_group"), 1, 2**40),
    "key.key_bits": (changed(KEY, "key_bits"), 64, 16384),
    "source.num_images": (changed(SOURCE, "num_images"), 1, 2**40),
    "source.height": (changed(SOURCE, "height"), 1, 2**16),
    "source.width": (changed(SOURCE, "width"), 1, 2**16),
    "shard.first_image": (changed(SHARD, "first_image"), 0, 2**40),
    "shard.num_images": (changed(SHARD, "num_images"), 0, 2**40),
    "shard.shape": (shard_of_length, 1, 2**40),
    "shard.ndim": (lambda ndim: replace(SHARD, shape=(1,) * ndim), 2, 3),
    "digits of a shard's name": (lambda digits: replace(SHARD, file=f"indices-{'0' * digits}.npy"), 5, 7),
    "length of a protection's name": (lambda length: Protection("x" * length, {}), 1, 64),
    "inner.num_features": (changed(INNER, "num_features"), 1, MOST_FEATURES),
    "inner.feature_bits": (changed(INNER, "feature_bits"), 1, 8),
    "inner.weight_bits": (changed(INNER, "weight_bits"), 2, 8),
    "inner.mask_bits": (changed(INNER, "mask_bits"), 40, 128),
    "inner.key_bits": (changed(INNER, "key_bits"), INNER.slot_bits + 8, None),
    "batch.key_bits": (changed(BatchPacking(256, 8), "key_bits"), BatchPacking(256, 8).slot_bits + 8, None),
    "slot packing's slot_bits": (lambda bits: SlotPacking(256, bits), 2, 32),
    "slot packing's key_bits": (lambda bits: SlotPacking(bits, 32), 40, None),
    "dense packing's key_bits": (DensePacking, 16, None),
    "num_filters": (lambda num_filters: dct_filters(3, num_filters, 8), 1, 9),
    "weight_bits of filters": (lambda bits: dct_filters(2, 1, bits), 2, 16),
    "executor.num_workers": (executor("num_workers"), 1, None),
    "executor.min_shards": (executor("min_shards"), 1, None),
    "planned slot_bits": (planned("slot_bits"), 9, 32),
    "planned images_per_group": (planned("images_per_group"), 1, None),
    "planned key_bits": (planned("key_bits"), 20, None),
    "planned stride": (planned("stride"), 1, 2),
    "bits of a number in a key file": (lambda bits: decode_int({"n": encode_int((1 << bits) >> 1)}, "n", "file"), 1, 2**14),
    "bytes of a key file": (lambda size: parse_members(b"{}".ljust(size)[:size], "file"), 2, 2**16),
    "key_bits by 16": (lambda sixteens: check_key_bits(16 * sixteens, allow_insecure_key=True), 4, 256),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_where_they_are_said_to_be(name):
    make, least, greatest = LIMITS[name]
    for good, bad in ((least, least - 1), (greatest, None if greatest is None else greatest + 1)):
        if good is not None:
            make(good)
            with pytest.raises(PpdlError):
                make(bad)
