"""Real local clusters: the numbers are the serial run's to the bit, whoever computes them and whoever is killed."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

import albench
from albench.store import Store, Trial

PLUGIN = '''
import os, signal
from pathlib import Path
import albench

KILLS = Path(__file__).with_name("kills")

@albench.register_strategy("{prefix}fragile")
class Fragile(albench.Strategy):
    """Kills its process where there is a file that says so, which it takes away."""

    def observe(self, outputs):
        return {{"score": outputs.prediction.entropy()}}

    def select(self, pool, k, rng):
        mark = KILLS / f"stage{{pool.stage}}"
        if mark.exists():
            mark.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().select(pool, k, rng)
'''
NAMES = ("results", "selections", "diagnostics", "trainings")
BACKENDS = {"loky": (), "dask": ("distributed",), "ray": ("ray",), "slurm": ("submitit",)}
LOCAL = {"slurm": {"cluster": "local"}}


def needs(backend):
    for module in BACKENDS[backend]:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f'{module} is not installed: pip install "albench[{backend}]"')


def tables(folder):
    return [(folder / f"{name}.csv").read_bytes() for name in NAMES]


def command(suite, out, *more):
    start = [sys.executable, "-m", "albench", "run", str(suite), "--out", str(out), "--device", "cpu", "--no-report"]
    return [*start, *map(str, more)]


@pytest.fixture
def plugin(tmp_path):
    """(file, name of its strategy, the folder where a file "stage1" kills the worker that selects at stage 1)."""
    prefix = f"{tmp_path.name.replace('_', '-')}-"
    (tmp_path / "kills").mkdir()
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN.format(prefix=prefix))
    return path, f"{prefix}fragile", tmp_path / "kills"


@pytest.fixture
def children():
    """Start processes that are ended, with all of theirs, when the test ends."""
    started = []

    def start(*arguments, **options):
        started.append(subprocess.Popen(arguments, start_new_session=True, **options))
        return started[-1]

    yield start
    for process in started:
        end(process)


def end(process):
    """Kill a process and all that it started: a machine that is lost."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_a_worker_killed_on_a_backend_changes_no_number(run, plugin, backend):
    """The small form: two workers, one of which dies at stage 0 of the fragile strategy."""
    needs(backend)
    path, fragile, kills = plugin
    options = {"strategies": ["random", fragile], "seeds": 1, "stages": 2, "plugins": [path]}
    serial, _, _ = run(out="serial", **options)
    (kills / "stage0").touch()
    folder, failed, said = run(out=backend, backend=backend, jobs=2, slurm=LOCAL.get(backend), **options)
    assert failed == [], said
    assert not list(kills.iterdir())
    assert tables(folder) == tables(serial)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2, 3])
@pytest.mark.parametrize("backend", list(BACKENDS))
def test_results_depend_on_no_backend_and_no_number_of_workers(run, plugin, backend, jobs):
    needs(backend)
    path, fragile, kills = plugin
    options = {"strategies": ["random", "entropy", "learning-loss", fragile], "plugins": [path]}
    serial, _, _ = run(out="serial", **options)
    if jobs > 1:
        for stage in (0, 1):
            (kills / f"stage{stage}").touch()
    folder, failed, said = run(out=backend, backend=backend, jobs=jobs, slurm=LOCAL.get(backend), **options)
    assert failed == [], said
    assert tables(folder) == tables(serial)


def test_a_scheduler_that_does_not_answer_is_one_line(run, monkeypatch):
    needs("dask")
    from albench import pools

    monkeypatch.setattr(pools, "ANSWER", 1.0)
    with pytest.raises(albench.AlbenchError, match=r"--scheduler tcp://127.0.0.1:9: no Dask scheduler answers there"):
        run(backend="dask", scheduler="tcp://127.0.0.1:9")


@pytest.mark.slow
def test_a_ray_cluster_that_is_not_there_is_one_line(run):
    needs("ray")
    with pytest.raises(albench.AlbenchError, match="no Ray cluster answers there"):
        run(backend="ray", scheduler="127.0.0.1:9")


def test_a_wrong_slurm_parameter_is_one_line(run):
    needs("slurm")
    with pytest.raises(albench.AlbenchError, match="--slurm: "):
        run(backend="slurm", slurm={"cluster": "nowhere"})


# A Dask cluster of several "machines" --------------------------------------------------------------------------------


def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def training(folder, stage):
    """Whether some trial is in the middle of training this stage."""
    for path in (folder / "progress").glob("*.json"):
        try:
            beat = path.read_text()
        except OSError:
            continue
        if f'"stage": {stage}' in beat and '"what": "training"' in beat:
            return True
    return False


class DaskCluster:
    """A scheduler and two machines, which do not see the folder `hidden`: their mount of it is an empty one."""

    def __init__(self, base):
        self.base, self.hidden, self.visible = base, base / "hidden", base / "visible"
        self.hidden.mkdir()
        self.visible.mkdir()
        self.port, self.started = port(), []
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.blind = []
        if shutil.which("unshare") and not subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
            self.blind = ["unshare", "-rm", "bash", "-c", f'mount -t tmpfs none "{self.hidden}" && exec "$@"', "-"]
        self.scheduler = self.start_scheduler()
        wait_for(self.answers)
        self.machines = [self.start_worker() for _ in range(2)]

    def start_scheduler(self):
        return self._start("dask_scheduler", "--host", "127.0.0.1", "--port", self.port)

    def answers(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def start_worker(self):
        return self._start("dask_worker", self.address, "--nthreads", 1, before=self.blind)

    def _start(self, module, *arguments, before=()):
        call = [*before, sys.executable, "-m", f"distributed.cli.{module}", *map(str, arguments), "--no-dashboard"]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.started.append(subprocess.Popen(call, start_new_session=True, cwd=self.visible, **silent))
        return self.started[-1]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    needs("dask")
    cluster = DaskCluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    for process in cluster.started:
        end(process)


def kinds(folder):
    return {trial: [(r["kind"], r["stage"]) for r in Store(folder).records(trial)] for trial in Store(folder).trials()}


def test_dask_workers_that_do_not_see_the_folder_send_their_records_home(run, cluster, plugin):
    if not cluster.blind:
        pytest.skip("unshare -rm is not allowed here")
    path, fragile, kills = plugin
    options = {"plugins": [path], "strategies": ["random", "learning-loss", fragile], "seeds": 1}
    serial, _, _ = run(out=cluster.visible / "serial", **options)
    (kills / "stage1").touch()
    away, failed, said = run(out=cluster.hidden / "run", backend="dask", scheduler=cluster.address, **options)
    assert failed == [], said
    assert not list(kills.iterdir())
    assert tables(away) == tables(serial)
    assert kinds(away) == kinds(serial)


def test_a_dask_machine_is_lost_and_then_the_scheduler_restarted(run, cluster):
    """The last test with this cluster."""
    options = {"strategies": ["random", "learning-loss"], "seeds": 1, "settings": ["recipe.updates=200"]}
    serial, _, _ = run(out=cluster.visible / "long", **options)
    out, happened = cluster.visible / "faults", []

    def faults():
        wait_for(lambda: training(out, 0))
        end(cluster.machines[0])  # the other goes on
        wait_for(lambda: training(out, 1))
        end(cluster.scheduler)
        end(cluster.machines[1])
        cluster.start_scheduler()
        cluster.start_worker()
        happened.append("all")

    thread = threading.Thread(target=faults)
    thread.start()
    _, failed, said = run(out=out, backend="dask", scheduler=cluster.address, **options)
    thread.join()
    assert happened
    assert failed == [], said
    assert tables(out) == tables(serial)


LONG = ("--set", "recipe.updates=400", "--seeds", 1)  # some seconds a stage, so that there is a middle


@pytest.mark.slow
def test_a_node_of_a_ray_cluster_is_lost(tiny, tmp_path):
    needs("ray")
    from ray.cluster_utils import Cluster

    serial = subprocess.run(command(tiny, tmp_path / "serial", "--jobs", 1, *LONG), timeout=300)
    assert serial.returncode == 0
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        node, out = cluster.add_node(num_cpus=1), tmp_path / "run"
        run = command(tiny, out, "--backend", "ray", "--scheduler", cluster.address, *LONG)
        session = subprocess.Popen(run, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: training(out, 1))
        cluster.remove_node(node, allow_graceful=False)
        _, said = session.communicate(timeout=400)
    finally:
        cluster.shutdown()
    assert session.returncode == 0, said
    assert tables(out) == tables(tmp_path / "serial")


# The session itself --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGTERM, 143)])
def test_a_closed_terminal_ends_the_run_and_the_same_command_carries_on(tiny, tmp_path, children, number, code):
    options = ("--set", "recipe.updates=60", "--seeds", 1, "--strategies", "random,entropy", "--jobs", 2)
    session = children(*command(tiny, tmp_path / "run", *options), stderr=subprocess.DEVNULL)
    wait_for(lambda: list((tmp_path / "run" / "trials").glob("*.jsonl")))
    session.send_signal(number)
    assert session.wait(60) == code
    assert (tmp_path / "run" / "results.csv").is_file()
    assert subprocess.run(command(tiny, tmp_path / "run", *options), capture_output=True, timeout=120).returncode == 0
    trials = [Trial("digits", strategy, 0) for strategy in ("random", "entropy")]
    for trial in trials:
        assert [(r["kind"], r["stage"]) for r in Store(tmp_path / "run").records(trial)] == [
            ("trained", 0), ("selected", 0), ("trained", 1), ("selected", 1), ("trained", 2), ("finished", 2)
        ]  # fmt: skip


@pytest.mark.slow
def test_workers_end_with_a_session_that_is_killed(tiny, tmp_path, children):
    """Else they would hold their GPUs, and their trials, until these are finished."""
    import psutil

    options = ("--set", "recipe.updates=100000", "--jobs", 2)
    session = children(*command(tiny, tmp_path / "run", *options), stderr=subprocess.DEVNULL)
    wait_for(lambda: training(tmp_path / "run", 0))
    workers = psutil.Process(session.pid).children(recursive=True)
    assert workers
    session.kill()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []
