"""What the stem and what is done with its outputs will cost."""

import time

import numpy as np

from ppdl.crypto.arithmetic.linear import LinearPlan, apply_linear, plan_linear
from ppdl.crypto.artifact.fields import NPY_HEADER_BYTES
from ppdl.crypto.estimate.images import Job, Step, any_ciphertexts, decryption_step
from ppdl.crypto.keys.keypair import PublicKey

_SAMPLE_COLUMNS = 256  # four times what apply_linear works on at a time
_SAMPLE_S = 1.0


def _measure_stem(task: tuple[PublicKey, LinearPlan]) -> tuple[float, float, float, float]:
    """Return when this began (time.time) and CPU time of the process until then; wall and CPU seconds a column (in a worker)."""
    began, start_core_s = time.time(), time.process_time()
    public_key, plan = task
    planes = any_ciphertexts(public_key, plan.num_inputs, _SAMPLE_COLUMNS)
    apply_linear(public_key, planes, plan)  # what happens once: compilation, the plan's program
    wall_s, core_s, count = 0.0, 0.0, 0
    while wall_s < _SAMPLE_S:
        start, core_start = time.perf_counter(), time.process_time()
        apply_linear(public_key, planes, plan)
        wall_s += time.perf_counter() - start
        core_s += time.process_time() - core_start
        count += _SAMPLE_COLUMNS
    return began, start_core_s, wall_s / count, core_s / count


def stem_step(job: Job, weights: np.ndarray) -> Step:
    """Predict the stem: filters `weights` (num_filters, stride^2) on the artifact of `job`, which is of kind `slots`.

    Cost: about a second in each worker.
    """
    plan, workers = plan_linear(weights), min(job.executor.workers, job.plan.num_shards)
    start = time.time()
    samples = list(job.executor.map_unordered(_measure_stem, [(job.private_key.public, plan)] * workers))
    began, start_core_s, wall_s, core_s = np.mean(samples, axis=0).tolist()
    num_columns = job.plan.num_ciphertexts // job.plan.packing.planes
    size = num_columns * len(weights) * job.private_key.public.ciphertext_bytes + job.plan.num_shards * NPY_HEADER_BYTES
    detail = f"{plan.num_multiplications} multiplications for {len(weights)} outputs: {core_s * 1e3:.3f} ms a core, {workers} workers"
    start_core_s = start_core_s if job.executor.workers > 1 else 0.0  # a single worker is this process, which runs already
    wall_s = began - start + wall_s * num_columns / workers
    core_s = start_core_s * workers + core_s * num_columns
    return Step("stem", wall_s, core_s, size, detail)


def reveal_steps(job: Job, weights: np.ndarray, *, check_fraction: float) -> tuple[Step, Step]:
    """Predict what the key holder does: compute a fraction of the outputs again, and decrypt them all.

    Cost: about a second in each worker, and another for decryption.
    """
    stem, every = stem_step(job, weights), decryption_step(job)
    share = len(weights) / job.plan.packing.planes  # outputs for each ciphertext of the artifact
    source, packing = job.plan.source, job.plan.packing
    size = source.num_images * packing.plane_height * packing.plane_width * len(weights) * 2
    check = Step("recheck", stem.wall_s * check_fraction, stem.core_s * check_fraction, 0, f"{check_fraction:.0%} of the outputs again")
    return check, Step("reveal", every.wall_s * share, every.core_s * share, size, every.detail)
