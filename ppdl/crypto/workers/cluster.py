"""Run tasks on a Ray cluster, through joblib's Ray backend. Conf: conf/executor/ray.yaml.

What a worker is sent are the tasks of `Executor`: public keys and, for encryption, plain images. Private keys refuse to be pickled, so
nothing here can send one: whatever decrypts runs in threads of the key holder's own process.

A worker that dies is started again and its task done again from the beginning, elsewhere: all randomness is drawn anew from the operating
system of wherever the task runs, and the shard that was cut off never got its name (ppdl.crypto.artifact.shards).
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import joblib

from ppdl.crypto.workers.parallel import Executor, count_core_seconds
from ppdl.errors import ConfigError, PpdlError, install_extra

_BACKEND = "ppdl-ray"
_RETRIES = 3  # of one task; a task that kills every worker that it meets would otherwise never end
_REMOTE = {"max_restarts": -1, "max_task_retries": _RETRIES}


@dataclass(frozen=True)
class RayExecutor(Executor):
    """Run shards in worker processes of a Ray cluster that runs already.

    All nodes must see the checkout under the same path (a shared file system), with the same Python environment: workers read and write
    shards there.

    Args:
        num_workers: processes, each of which takes one CPU of the cluster; None: all CPUs. 1 runs in this process.
        table_mib: memory in MiB for the obfuscator tables of each worker.
        address: of the cluster: `auto` (RAY_ADDRESS, else the one that was started on this machine), or `HOST:PORT`.

    Raises:
        ConfigError: a value out of range; when it runs, Ray is missing, no cluster answers, or it has too few CPUs.
    """

    address: str

    def __post_init__(self) -> None:
        if not self.address or self.address.startswith("local"):
            raise ConfigError(f"executor.address must be auto or HOST:PORT of a cluster that runs, got {self.address!r}")

    @property
    def workers(self) -> int:
        """Count the processes that will run. Connects to the cluster."""
        cpus = self._cpus()
        if (self.num_workers or 1) > cpus:
            raise ConfigError(f"executor.num_workers must be at most the {cpus} CPUs of the Ray cluster, got {self.num_workers}")
        return self.num_workers or cpus

    @property
    def threads(self) -> int:
        """Count the threads of what stays on this machine."""
        return int(joblib.cpu_count())

    @property
    def table_bytes(self) -> int:
        """Memory for the tables of one worker."""
        return int(self.table_mib * 2**20)

    def map_unordered(self, function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        """Yield function(task) for each task, as results come; at most two tasks a worker are prepared ahead.

        Raises:
            PpdlError: a task lost its worker more often than can be chance.
        """
        workers = self.workers
        if workers == 1:
            yield from map(function, tasks)
            return
        from ray.exceptions import RayError

        options = {"return_as": "generator_unordered", "batch_size": 1, "pre_dispatch": "2 * n_jobs", "max_nbytes": None}
        parallel = joblib.Parallel(n_jobs=workers, backend=_BACKEND, ray_remote_args=_REMOTE, **options)
        try:
            with contextlib.closing(parallel(joblib.delayed(_timed)(function, task) for task in tasks)) as results:
                for result, core_s in results:
                    count_core_seconds(core_s)
                    yield result
        except RayError as error:
            first_line = str(error).strip().split("\n")[0][:300]
            raise PpdlError(
                f"the Ray cluster at executor.address={self.address} lost a task {_RETRIES + 1} times, or went away ({first_line}). "
                "`ray status` and the logs of its nodes say why: too little memory for executor.table_mib, most often. What is finished "
                "is kept: run the same command again"
            ) from None

    def _cpus(self) -> int:
        ray = _ray()
        if not ray.is_initialized():
            try:
                ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, ValueError, RuntimeError) as error:
                first_line = str(error).strip().split("\n")[0][:300]
                raise ConfigError(
                    f"no Ray cluster answers at executor.address={self.address} ({first_line}): start one with `ray start --head`, or set "
                    "executor=local"
                ) from None
        return int(ray.cluster_resources().get("CPU", 0))


@cache
def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when ray is imported
    try:
        import ray
        from ray.util.joblib import register_ray
        from ray.util.joblib.ray_backend import RayBackend
    except ImportError:
        raise ConfigError(f"executor=ray needs Ray, which is not installed: {install_extra('ray')}, or set executor=local") from None

    class Backend(RayBackend):
        """Say what Ray's backend can do: it reports results one by one, so joblib may hand them out one by one."""

        supports_return_generator = True

    register_ray()  # type: ignore[no-untyped-call]  # Ray says that it is typed, and this function is not
    joblib.register_parallel_backend(_BACKEND, Backend)
    return ray


def _timed(function: Callable[[Any], Any], task: Any) -> tuple[Any, float]:
    """Return the result and the CPU seconds that it took (in a worker)."""
    start = time.process_time()
    return function(task), time.process_time() - start
