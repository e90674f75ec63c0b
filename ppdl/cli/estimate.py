"""`ppdl estimate`."""

import json
from dataclasses import asdict

import click

from ppdl.cli.table import print_table


@click.command(short_help="Predict time, bytes and core-hours on this machine.")
@click.option("--images", type=click.IntRange(min=1), required=True, help="Number of images.")
@click.option("--px", type=click.IntRange(min=1), required=True, help="Side of the square images, in px.")
@click.option("--bits", type=int, default=3072, show_default=True, help="Length of the key.")
@click.option("--protection", "kind", type=click.Choice(["dense", "slots"]), default="dense", show_default=True, help="Packing of pixels.")
@click.option("--stride", type=click.IntRange(min=1), default=2, show_default=True, help="Side of a patch, in px; slots only.")
@click.option("--channels", type=click.IntRange(1, 3), default=3, show_default=True, help="DCT filters of the stem; slots only.")
@click.option("--weight-bits", type=click.IntRange(2, 16), default=4, show_default=True, help="Length of a filter's weights; slots only.")
@click.option(
    "--slot-bits", type=click.IntRange(9, 32), show_default="the least that fits the filters", help="Width of a slot; slots only."
)
@click.option("--check-fraction", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="As reveal.check_fraction; slots only.")
@click.option("--obfuscator", type=click.Choice(["djn", "standard"]), default="djn", show_default=True)
@click.option("--workers", type=click.IntRange(min=1), show_default="all cores", help="Processes.")
@click.option("--shard-mib", type=click.FloatRange(0, min_open=True), default=4, show_default=True, help="As executor.shard_mib.")
@click.option("--min-shards", type=click.IntRange(min=1), default=16, show_default=True, help="As executor.min_shards.")
@click.option("--table-mib", type=click.FloatRange(0, min_open=True), default=512, show_default=True, help="As executor.table_mib.")
@click.option("--allow-insecure-key", is_flag=True, help="Admit other key lengths, for tests only.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def estimate(
    images: int,
    px: int,
    bits: int,
    kind: str,
    stride: int,
    channels: int,
    weight_bits: int,
    slot_bits: int | None,
    check_fraction: float,
    obfuscator: str,
    workers: int | None,
    shard_mib: float,
    min_shards: int,
    table_mib: float,
    allow_insecure_key: bool,
    as_json: bool,
) -> None:
    """Predict time, bytes and core-hours of encrypting and decrypting images on this machine; with slots, of stem and reveal too.

    Measures for some seconds what a run would do, with a key pair of that length that is thrown away. Run it on an idle machine.

    \b
    ppdl estimate --images 21165 --px 96
    ppdl estimate --images 21165 --px 192 --protection slots --stride 2 --bits 2048
    """
    from ppdl.crypto.arithmetic.engine import engine
    from ppdl.crypto.arithmetic.linear import dct_filters
    from ppdl.crypto.arithmetic.packing import smallest_slot_bits
    from ppdl.crypto.estimate.images import estimate as measure
    from ppdl.crypto.estimate.images import plan_job
    from ppdl.crypto.estimate.stem import reveal_steps, stem_step
    from ppdl.crypto.keys.keypair import generate_keypair
    from ppdl.crypto.workers.parallel import Executor
    from ppdl.protections.steps.filters import LARGEST_PIXEL

    key = generate_keypair(bits, allow_insecure_key=allow_insecure_key)
    packing = {"stride": 1, "slot_bits": 8}
    if kind == "slots":
        weights = dct_filters(stride, channels, weight_bits)
        packing = {"stride": stride, "slot_bits": slot_bits or smallest_slot_bits(weights, LARGEST_PIXEL)}
    executor = Executor(workers, shard_mib, min_shards, table_mib)
    job = plan_job(images, px, key, kind=kind, obfuscator=obfuscator, executor=executor, **packing)
    steps = list(measure(job))
    if kind == "slots":
        steps += [stem_step(job, weights), *reveal_steps(job, weights, check_fraction=check_fraction)]
    if as_json:
        plan = {
            "engine": engine(),
            "num_ciphertexts": job.plan.num_ciphertexts,
            "num_shards": job.plan.num_shards,
            "workers": executor.workers,
        }
        click.echo(json.dumps({**plan, "steps": [asdict(step) for step in steps]}, indent=2))
    else:
        numbers = ("time", "core-hours", "bytes written")
        print_table(
            f"{images} images of {px} x {px} px, {bits} bits, {kind}",
            ["step", *numbers, "measured"],
            ([step.name, duration(step.wall_s), f"{step.core_s / 3600:.3f}", f"{step.bytes:,}", step.detail] for step in steps),
            right=numbers,
            caption=f"{job.plan.num_ciphertexts} ciphertexts of {job.plan.packing.slots} slots; engine {engine()}",
        )


def duration(seconds: float) -> str:
    """Write a duration in the unit a person would use, with two digits or more."""
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86400:.1f} days"
