"""The same steps on a real Ray cluster of two worker processes, one of which is killed in the middle."""

import os
import shutil
import signal
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import joblib
import numpy as np
import psutil
import pytest
import yaml

from ppdl.config.components import construct
from ppdl.crypto.artifact.reading import open_artifact
from ppdl.crypto.keys.keypair import generate_keypair
from ppdl.crypto.workers.cluster import RayExecutor
from ppdl.crypto.workers.parallel import Executor, away_core_seconds
from ppdl.errors import ArtifactError, ConfigError, PpdlError
from ppdl.protections.steps.revealed import read_revealed
from tests.crypto.artifacts import decrypted, write
from tests.protections.conftest import Chain
from tests.secrets_search import find_in_bytes, find_private_key

FIELDS = {"num_workers": None, "shard_mib": 8, "min_shards": 20, "table_mib": 4, "address": "auto"}
CHAIN_IMAGES = np.random.default_rng(0).integers(0, 256, (7, 8, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def key():
    return generate_keypair(512, allow_insecure_key=True)


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two CPUs, and the folder of its logs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
        folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # the paths of its sockets must be short
        options = {"include_dashboard": False, "object_store_memory": 80 * 2**20, "log_to_driver": False, "logging_level": "ERROR"}
        before = set(psutil.Process().children(recursive=True))
        ray.init(num_cpus=2, _temp_dir=str(folder), **options)
        started = set(psutil.Process().children(recursive=True)) - before
        try:
            yield folder
        finally:
            ray.shutdown()
            shutil.rmtree(folder)
            assert not psutil.wait_procs(started, timeout=20)[1]


def ray_workers() -> list[psutil.Process]:
    """Processes of the pool, busy ones first."""
    found = [(child, title_of(child)) for child in psutil.Process().children(recursive=True)]
    pool = [(child, title) for child, title in found if title.startswith("ray::PoolActor")]
    return [child for child, title in sorted(pool, key=lambda pair: "run_batch" not in pair[1])]


def title_of(process: psutil.Process) -> str:
    """Command line of a process, empty once it has ended."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


class Killing(RayExecutor):
    """Kill a worker that is at work, once two results have come."""

    def map_unordered(self, function, tasks):
        for count, result in enumerate(super().map_unordered(function, tasks), 1):
            if count == 2:
                killed.append(ray_workers()[0].pid)
                os.kill(killed[-1], signal.SIGKILL)
            yield result


killed: list[int] = []


def busy(number):
    import time

    begin = time.process_time()
    while time.process_time() - begin < 0.1:
        pass
    return number, os.getpid()


def test_tasks_of_a_killed_worker_are_done_again(cluster):
    executor = Killing(**FIELDS)
    assert executor.workers == 2
    before = away_core_seconds()
    results = list(executor.map_unordered(busy, range(12)))
    assert sorted(number for number, _ in results) == list(range(12))
    assert len({pid for _, pid in results} - {killed[-1]}) == 2  # one of them took the dead one's place
    assert os.getpid() not in {pid for _, pid in results}
    assert 1.1 < away_core_seconds() - before < 4
    _, alive = psutil.wait_procs(ray_workers(), timeout=20)
    assert not alive  # nobody keeps tables


def test_an_artifact_survives_a_killed_worker_and_reuses_no_randomness(cluster, key, tmp_path):
    images = np.full((400, 16, 16), 7, np.uint8)  # equal plaintexts, so that an obfuscator that is used twice shows
    artifact = write(tmp_path, "dense", images, key.public, executor=Killing(**FIELDS), obfuscator="standard", images_per_group=1)
    artifact.verify(key.public)
    assert len(artifact.header.shards) == 20
    assert np.array_equal(decrypted(artifact, key), images)
    rows = {row.tobytes() for row in artifact.ciphertexts[:]}
    assert len(rows) == artifact.header.num_ciphertexts
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact"]


def test_a_task_that_kills_every_worker_ends_in_a_message(cluster, monkeypatch):
    monkeypatch.setattr("ppdl.crypto.workers.cluster._REMOTE", {"max_restarts": -1, "max_task_retries": 1})
    with pytest.raises(PpdlError, match=r"the Ray cluster at executor\.address=auto lost a task"):
        list(RayExecutor(**FIELDS).map_unordered(os._exit, [1, 1]))


def fail(number):
    raise ConfigError(f"task {number} is wrong")


def test_an_error_in_a_worker_is_the_callers(cluster):
    with pytest.raises(ConfigError, match=r"task \d is wrong"):
        list(RayExecutor(**FIELDS).map_unordered(fail, range(3)))
    assert not psutil.wait_procs(ray_workers(), timeout=20)[1]


@pytest.mark.filterwarnings("ignore:.*have been cancelled:UserWarning")
def test_tasks_are_made_when_they_are_needed(cluster):
    made = []
    results = RayExecutor(**FIELDS).map_unordered(busy, (made.append(number) or number for number in range(40)))
    next(results)
    assert len(made) < 20
    results.close()
    assert not psutil.wait_procs(ray_workers(), timeout=20)[1]


class Recording(RayExecutor):
    """Keep what workers are sent, pickled as Ray does it, and what they answer."""

    def map_unordered(self, function, tasks):
        import cloudpickle

        def recorded():
            for task in tasks:
                sent.append(cloudpickle.dumps((function, task)))
                yield task

        for result in super().map_unordered(function, recorded()):
            sent.append(cloudpickle.dumps(result))
            yield result


sent: list[bytes] = []


def test_all_steps_give_what_they_give_here_and_send_no_private_key(cluster, key, tmp_path):
    """Encrypt, stem and reveal; the outputs are deterministic functions of the ciphertexts, and equal byte by byte."""
    sent.clear()
    chain = Chain(tmp_path, CHAIN_IMAGES, key, executor=Recording(**FIELDS))
    chain.encrypt()
    chain.filter()
    view = read_revealed(chain.decrypt()).array
    here = chain.another(executor=Executor(num_workers=1, shard_mib=1, min_shards=3, table_mib=4))
    here.filter(name="stem-here")
    assert open_artifact(tmp_path / "stem").header.shards == open_artifact(tmp_path / "stem-here").header.shards
    assert np.array_equal(read_revealed(here.decrypt(sums="stem-here", name="revealed-here")).array, view)
    assert len(sent) == 2 * 3 * 7  # every shard of three steps, and every answer
    assert find_in_bytes(key, b"".join(sent)) == []
    assert any(cluster.rglob("*.log"))
    shared = [path for path in tmp_path.iterdir() if path.name != "private"]  # which is the key holder's
    assert len(shared) > 3 and find_private_key(key, [cluster, *shared]) == []


def test_a_private_key_can_be_sent_nowhere(cluster, key):
    with pytest.raises(Exception, match="private") as caught:
        list(RayExecutor(**FIELDS).map_unordered(busy, [key, key]))
    assert find_in_bytes(key, repr(caught.value).encode()) == []


def test_workers_that_share_no_file_system_are_named(key, tmp_path, monkeypatch):
    from ppdl.crypto.encryption import ciphertexts

    images = np.zeros((8, 8, 8), np.uint8)
    original = ciphertexts.encrypt_shard
    monkeypatch.setattr(ciphertexts, "encrypt_shard", lambda task: (original(task), task.path.unlink())[0])
    with pytest.raises(ArtifactError, match="a worker wrote this shard, but it is not here; all workers must share one file system"):
        write(tmp_path, "dense", images, key.public)
    monkeypatch.setattr(ciphertexts, "encrypt_shard", lambda task: original(replace(task, path=tmp_path / "no/such/folder/x.npy")))
    with pytest.raises(ArtifactError, match="no such folder on the machine of this worker; all workers must share one file system"):
        write(tmp_path, "dense", images, key.public)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("address", "", r"executor\.address must be auto or HOST:PORT of a cluster that runs, got ''"),
        ("address", "local", r"executor\.address must be auto or HOST:PORT of a cluster that runs, got 'local'"),
        ("address", None, r"executor\.address must be auto or HOST:PORT of a cluster that runs, got None"),
        ("min_shards", 0, r"executor\.min_shards: must be >= 1, got 0"),
    ],
)
def test_parameters_are_checked(field, value, message):
    with pytest.raises(ConfigError, match=message):
        construct(RayExecutor, FIELDS | {field: value}, "executor")


def test_more_workers_than_the_cluster_has_are_refused(cluster):
    with pytest.raises(ConfigError, match=r"executor\.num_workers must be at most the 2 CPUs of the Ray cluster, got 3"):
        _ = RayExecutor(**FIELDS | {"num_workers": 3}).workers


def test_a_cluster_that_does_not_answer_is_named(monkeypatch):
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")

    def refuse(**options):
        raise ConnectionError("\nCould not find any running Ray instance.\nMore")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    message = (
        r"no Ray cluster answers at executor\.address=auto \(Could not find any running Ray instance\.\): start one with `ray start --head`"
    )
    with pytest.raises(ConfigError, match=message):
        _ = RayExecutor(**FIELDS).workers


def test_it_connects_to_the_address_that_it_was_given(monkeypatch):
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    asked = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: asked.append(options))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 3.0})
    executor = RayExecutor(**FIELDS | {"address": "127.0.0.1:1"})
    assert (executor.workers, executor.threads, executor.table_bytes) == (3, joblib.cpu_count(), 4 * 2**20)
    assert asked[0] == {"address": "127.0.0.1:1", "log_to_driver": False, "logging_level": "ERROR"}  # quiet: None would mean the default
    monkeypatch.setattr(ray, "cluster_resources", dict)
    for num_workers in (None, 1):
        with pytest.raises(ConfigError, match=r"executor\.num_workers must be at most the 0 CPUs of the Ray cluster, got"):
            _ = RayExecutor(**FIELDS | {"num_workers": num_workers}).workers


def test_a_lost_cluster_is_named_with_the_first_line_of_what_ray_says(monkeypatch):
    exceptions = pytest.importorskip("ray.exceptions", reason="the extra `ray` is not installed")
    asked = []

    def lost(**options):
        asked.append(options)

        def run(tasks):
            yield next((function(*arguments) for function, arguments, _ in tasks))
            raise exceptions.RayError("\nThe actor died. See the logs.\nMore")

        return run

    monkeypatch.setattr(RayExecutor, "_cpus", lambda self: 2)
    monkeypatch.setattr(joblib, "Parallel", lost)
    results = RayExecutor(**FIELDS).map_unordered(abs, [-3, -4])
    assert next(results) == 3
    with pytest.raises(PpdlError, match=r"address=auto lost a task 4 times, or went away \(The actor died\. See the logs\.\)") as error:
        next(results)
    assert error.value.__suppress_context__
    assert asked[0]["ray_remote_args"] == {"max_restarts": -1, "max_task_retries": 3}  # three times more than once


def wait_for(path):
    import time

    deadline = time.monotonic() + 30
    while path and not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return path


def test_a_result_comes_when_its_own_task_is_done(cluster, tmp_path):
    results = RayExecutor(**FIELDS).map_unordered(wait_for, [None, *[tmp_path / "go"] * 3])
    assert next(results) is None
    (tmp_path / "go").touch()
    assert list(results) == [tmp_path / "go"] * 3


def test_a_missing_ray_is_named(monkeypatch):
    from ppdl.crypto.workers import cluster

    monkeypatch.setitem(sys.modules, "ray", None)
    cluster._ray.cache_clear()
    with pytest.raises(
        ConfigError,
        match=r"needs Ray, which is not installed: run `pip install 'ppdl-paillier\[ray\]'`, or set executor=local",
    ):
        _ = RayExecutor(**FIELDS).workers


def test_one_line_is_the_difference():
    conf = Path(__file__).parents[3] / "conf/executor"
    local, ray = (yaml.safe_load((conf / f"{name}.yaml").read_text()) for name in ("local", "ray"))
    assert ray.pop("_target_") == "ppdl.crypto.workers.cluster.RayExecutor"
    assert asdict(RayExecutor(**ray)) == ray
    assert set(ray) - set(local) == {"address"}
    assert {name: ray[name] for name in ("num_workers", "shard_mib", "min_shards")} == {
        name: local[name] for name in ("num_workers", "shard_mib", "min_shards")
    }
