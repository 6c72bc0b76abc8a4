"""How the processes of a run find each other, what they say when one dies, and the files that start them."""

import contextlib
import json
import os
import pathlib
import re
import shlex
import socket
import subprocess
import sys
import time

import jax
import pytest
import yaml

import jaxgan
from jaxgan.commands import train
from jaxgan.core import processes
from jaxgan.core.errors import ConfigError
from tests.helpers import ROOT, environment, run_snippet

CLUSTERS = ROOT / "examples" / "clusters"
one_line = pytest.mark.skipif(jax.__version_info__ < (0, 9, 2), reason="this JAX ends the process with its own log")


def slurm(index: int = 1, count: int = 4, **changes: str) -> dict[str, str]:
    """Returns the variables of task `index` of `srun -n count`, two on a node."""
    return {
        "SLURM_JOB_ID": "77",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_TASKS": str(count),
        "SLURM_STEP_TASKS_PER_NODE": f"2(x{count // 2})",
        "SLURM_NTASKS": str(count),
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": str(index % 2),
        "SLURM_NODEID": str(index // 2),
    } | changes


def open_mpi(index: int = 1, count: int = 4, **changes: str) -> dict[str, str]:
    """Returns the variables of process `index` of `mpirun -n count`, all on one machine."""
    return {
        "OMPI_COMM_WORLD_SIZE": str(count),
        "OMPI_COMM_WORLD_RANK": str(index),
        "OMPI_COMM_WORLD_LOCAL_SIZE": str(count),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(index),
        "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911",
    } | changes


def without(variables: dict, *names: str) -> dict:
    return {name: value for name, value in variables.items() if name not in names}


STEP = ("SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE")
SKY = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NODE_IPS": "10.0.0.4\n10.0.0.5"}
JAX = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "1"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "None"),
        (slurm(), "4 processes by Slurm, this is 1"),
        (slurm(count=4, JAX_COORDINATOR_ADDRESS="a:1"), "4 processes by Slurm, this is 1, coordinator a:1"),
        ({"SLURM_JOB_ID": "77", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, "None"),  # a shell by ssh
        (
            without(slurm(), "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE"),
            "None",
        ),  # sbatch
        (slurm(0, SLURM_STEP_NUM_TASKS="1", SLURM_STEP_TASKS_PER_NODE="1"), "None"),  # a shell by salloc
        (open_mpi(), "4 processes by Open MPI, this is 1"),
        (open_mpi(0, 1), "None"),
        (open_mpi() | slurm(0, 2), "4 processes by Open MPI, this is 1"),  # mpirun has started its daemons by srun
        (SKY, "2 processes by SkyPilot, this is 1, coordinator 10.0.0.4:8476"),
        (SKY | {"JAX_COORDINATOR_PORT": "5"}, "2 processes by SkyPilot, this is 1, coordinator 10.0.0.4:5"),
        (SKY | {"SKYPILOT_NUM_NODES": "1"}, "None"),
        (JAX, "2 processes by JAX_NUM_PROCESSES, this is 0, coordinator a:1"),
        (JAX | {"JAX_NUM_PROCESSES": "1"}, "None"),
        (POD, "processes by Kubernetes"),
        (POD | JAX, "2 processes by JAX_NUM_PROCESSES, this is 0, coordinator a:1"),
    ],
)
def test_what_launched_this_process(environ, expected):
    assert str(processes.detect(environ, kubernetes=True)) == expected


def test_jax_asks_a_tpu_itself_and_kubernetes_only_with_its_package():
    assert processes.detect(SKY, tpu=True) == processes.Cluster("the TPU's hosts", method=None)
    assert processes.detect(POD) is None


@pytest.mark.parametrize(
    ("environ", "gpus", "devices"),
    [
        (slurm(), 0, None),
        (slurm(3), 8, (4, 5, 6, 7)),
        (slurm(3, CUDA_VISIBLE_DEVICES="4,5"), 8, (1,)),
        (slurm(3, CUDA_VISIBLE_DEVICES="7"), 8, (0,)),  # the site shows each task its own
        (slurm(3, CUDA_VISIBLE_DEVICES="4,5", SLURM_GPUS_PER_TASK="2"), 8, (0, 1)),
        (slurm(3, SLURM_STEP_TASKS_PER_NODE="3,1"), 8, (0, 1, 2, 3, 4, 5, 6, 7)),  # alone on its node
        (slurm(3, JAX_LOCAL_DEVICE_IDS="0"), 8, None),
        (open_mpi(2), 4, (2,)),
        (SKY, 8, None),
    ],
)
def test_which_gpus_a_process_takes(environ, gpus, devices):
    assert processes.detect(environ, gpus).devices == devices


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        (without(open_mpi(), "OMPI_MCA_orte_hnp_uri"), "OMPI_COMM_WORLD_SIZE='4': this Open MPI does not say where"),
        (slurm(CUDA_VISIBLE_DEVICES="0,1,2"), "CUDA_VISIBLE_DEVICES='0,1,2': 3 GPUs cannot be shared by 2 processes"),
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, "JAX_COORDINATOR_ADDRESS='a:1': set JAX_NUM_PROCESSES and JAX_PROCESS_ID"),
        (JAX | {"JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID=2: must be below JAX_NUM_PROCESSES=2"),
        (
            JAX | {"JAX_NUM_PROCESSES": "two"},
            "JAX_NUM_PROCESSES='two': must be a whole number, 1 or above; --processes=1",
        ),
        (JAX | {"JAX_COORDINATOR_ADDRESS": "localhost"}, "JAX_COORDINATOR_ADDRESS='localhost': must be host:port"),
        (without(SKY, "SKYPILOT_NODE_IPS"), "SKYPILOT_NODE_IPS='': must be the addresses of the nodes"),
        (without(SKY, "SKYPILOT_NODE_RANK"), "SKYPILOT_NODE_RANK='': must be a whole number"),
        (without(open_mpi(), "OMPI_COMM_WORLD_LOCAL_SIZE"), "OMPI_COMM_WORLD_LOCAL_SIZE='': must be a whole number"),
        (slurm(SLURM_NODEID="9"), "SLURM_NODEID=9: there are tasks on 2 nodes"),
        (slurm(SLURM_JOB_ID="abc"), "SLURM_JOB_ID='abc': must be a whole number"),
        (slurm(SLURM_STEP_NODELIST=" "), "SLURM_STEP_NODELIST=' ': must name the nodes"),
    ],
)
def test_what_a_launcher_left_out(environ, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        processes.detect(environ)


@pytest.mark.parametrize(
    "flags",
    [
        ("localhost:1", 2, 2),
        ("localhost", 2, 0),
        ("", 2, 0),
        ("localhost:1", 0, -1),
        ("localhost:70000", 2, 0),
        (":1", 2, 0),
        ("localhost:x", 2, 0),
    ],
)
def test_half_of_the_flags_of_several_processes_is_an_error(flags):
    with pytest.raises(ConfigError, match=rf"--processes={flags[1]} --process_id={flags[2]}: give all three"):
        processes.by_flags(*flags)


def test_one_process_by_the_flag_joins_nobody(monkeypatch):
    for name, value in slurm().items():
        monkeypatch.setenv(name, value)
    with processes.joined(processes=1):
        assert os.environ["SLURM_PROCID"] == "1"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            AssertionError(),
            "JAX_PLATFORMS='cpu': JAX has no plug-in for it (install it with pip install 'jaxgan[cuda]'",
        ),
        (RuntimeError("no libtpu.so (set JAX_PLATFORMS='')\nmore"), "JAX_PLATFORMS='cpu': no libtpu.so (install it"),
    ],
)
def test_devices_that_do_not_start(monkeypatch, error, words):
    def devices():
        raise error

    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(ConfigError, match=re.escape(words)):
        processes.require_devices()
    for function in (jaxgan.load, jaxgan.evaluate):
        with pytest.raises(ConfigError, match=re.escape(words)):
            function("runs/absent")


DIVIDED = "import jax; from jaxgan.core import processes; processes.require_devices({}); print(jax.device_count())"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process cannot be kept on one core here")
def test_a_cpu_is_as_many_devices_as_wanted_but_no_more_than_it_has_cores():
    cores = len(os.sched_getaffinity(0))
    assert run_snippet(DIVIDED.format(2), devices=1) == f"{min(2, cores)}\n"
    assert run_snippet(DIVIDED.format(99), devices=1) == f"{cores}\n"
    one_core = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    assert run_snippet(one_core + DIVIDED.format(2), devices=1) == "1\n"


def test_a_cpu_stays_as_the_environment_says_or_as_it_was_started():
    told = "import os; os.environ['JAX_NUM_CPU_DEVICES'] = '3'; "
    assert run_snippet(told + DIVIDED.format(2), devices=1) == "3\n"
    before = jax.device_count()
    processes.require_devices(7)
    assert jax.device_count() == before


LOG = """E1126 01:46:39.519051 17103 coordination_service.cc:1893] These are unhealthy (stopped sending heartbeats):
{}
The tasks have crashed.
F1126 01:46:39.519823 17114 client.h:75] Terminating process because the JAX distributed service detected fatal errors.
"""


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (LOG.format("/job:jax_worker/replica:0/task:1"), "process 1 gave no sign of life for 10 s"),
        (LOG.format("3\n12"), "processes 3, 12 gave no sign of life for 10 s"),
        (f"F1126 client.h:80] {processes._FATAL}. absl::Status: UNAVAILABLE: Socket closed", "process 0 is gone"),
        (f"{processes._FATAL}. absl::Status: INTERNAL: odd\nmore", "lost a process: INTERNAL: odd; start all again"),
        (f"{processes._FATAL}. absl::Status: DEADLINE_EXCEEDED\nRPC: /RegisterTask", "not all processes have come"),
    ],
)
def test_what_the_log_says_of_a_loss(log, expected):
    assert expected in processes.loss(log, 10)
    assert processes.loss(log.replace(processes._FATAL, ""), 10) is None


# Real processes, which have found each other by the variables of a launcher.


def free_port(first: int, last: int) -> int:
    """Returns a port of a range that nobody uses."""
    for port in range(first, last):
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("", port))
            return port
    raise AssertionError("no free port")


def launch(variables, code: str, *arguments: str, count: int = 2) -> list[subprocess.Popen]:
    """Starts processes with a launcher's `variables(index, count, JAX_COORDINATOR_PORT=...)` and pipes.

    A port stays free until its process listens, seconds later, so the workers of a suite, whose numbers are neighbours,
    begin to look 50 apart.
    """
    port = str(free_port(20000 + os.getpid() * 50 % 9950, 30000))
    return [
        subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env=environment(**variables(i, count, JAX_COORDINATOR_PORT=port)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]


@contextlib.contextmanager
def killed_at_last(group):
    try:
        yield group
    finally:
        for process in group:
            process.kill()
            process.communicate()


TOGETHER = """
from jaxgan.core import parallel, processes
import jax
with processes.joined(heartbeat=3):
    print(parallel.broadcast({"value": jax.process_index() + 5})["value"], jax.process_count(), flush=True)
    while FOREVER:
        parallel.any_process(False)
"""


@one_line
@pytest.mark.parametrize(
    ("variables", "victim", "words"),
    [(slurm, 1, "process 1 gave no sign of life for 3 s"), (open_mpi, 0, "process 0 is gone")],
)
def test_the_loss_of_a_process_ends_the_other_with_one_line(variables, victim, words):
    with killed_at_last(launch(variables, TOGETHER.replace("FOREVER", "True"))) as group:
        for process in group:
            assert "5.0 2\n" in iter(process.stdout.readline, "")  # Gloo says something before
        group[victim].kill()
        start = time.monotonic()
        _, errors = group[1 - victim].communicate(timeout=60)
        assert time.monotonic() - start < 10
        assert group[1 - victim].returncode == 1
        found, *rest = errors.splitlines()
        assert found.startswith("2 processes by ")
        assert rest == [f"error: lost a process: {words}; start all again to go on from the last checkpoint"]


@pytest.mark.slow
@pytest.mark.parametrize("variables", [slurm])
def test_four_processes_find_each_other_and_leave_together(variables):
    with killed_at_last(launch(variables, TOGETHER.replace("FOREVER", "False"), count=4)) as group:
        for process in group:
            output, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
            assert output.splitlines()[-1] == "5.0 4"


def test_what_may_follow_the_loss_of_a_process():
    def caused(error, cause):
        error.__cause__ = cause
        return error

    barrier = jax.errors.JaxRuntimeError("UNAVAILABLE: a barrier failed")
    assert processes.may_follow_a_loss(barrier)
    assert processes.may_follow_a_loss(ValueError("Gloo: connection closed by peer"))
    assert processes.may_follow_a_loss(caused(ConfigError("cannot open checkpoints"), caused(OSError("x"), barrier)))
    assert not processes.may_follow_a_loss(caused(ConfigError("--num=x"), ValueError("invalid literal")))
    assert not processes.may_follow_a_loss(OSError("no room"))


# The whole matrix, with training.

TINY = [
    *("--config=digits", "--workdir=run", "--config.batch_size=16", "--config.train_kimg=0.96", "--heartbeat=4"),
    *("--config.checkpoint.every_kimg=0.016", "--config.log.every_kimg=0.256", "--config.log.trackers="),
    *("--config.eval.every_kimg=0.48", "--config.eval.num_samples=20000", "--config.health.every_kimg=0"),
    *("--config.sample.every_kimg=0", "--config.sample.grid=1"),
]
TRAIN = "from jaxgan.commands import app, train; app.run(train.main)"
MOMENTS = {
    "start": lambda folder: (folder / "run").exists(),  # all have come; who goes earlier has never been there
    "step": lambda folder: (folder / "run/metrics.jsonl").exists(),
    "save": lambda folder: any((folder / "run/checkpoints").glob("*tmp*")),
    "evaluation": lambda folder: (folder / "run/checkpoints/30").exists(),  # which is saved just before
}


@contextlib.contextmanager
def training(folder: pathlib.Path):
    """Gives two processes that train in `folder`, each with its stderr in a file."""
    port, group = str(free_port(20000 + os.getpid() % 9000, 30000)), []
    for i in range(2):
        variables = environment(**slurm(i, 2, JAX_COORDINATOR_PORT=port))
        with (folder / f"{i}.err").open("w") as errors:
            command = [sys.executable, "-c", TRAIN, *TINY]
            group.append(subprocess.Popen(command, cwd=folder, env=variables, stdout=subprocess.DEVNULL, stderr=errors))
    with killed_at_last(group):
        yield group


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    with training(folder) as group:
        assert [process.wait(300) for process in group] == [0, 0], (folder / "0.err").read_text()
    return results(folder)


def results(folder: pathlib.Path) -> list[dict]:
    """Returns the lines of metrics.jsonl without what a clock wrote."""
    lines = map(json.loads, (folder / "run/metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if not key.startswith(("time", "perf"))} for line in lines]


@one_line
@pytest.mark.chaos
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("moment", MOMENTS)
def test_after_a_loss_at_any_moment_the_same_command_goes_on_exactly(tmp_path, undisturbed, moment, victim):
    with training(tmp_path) as group:
        while not MOMENTS[moment](tmp_path):
            assert group[0].poll() is None
            time.sleep(0.002)
        group[victim].kill()
        start = time.monotonic()
        assert group[1 - victim].wait(60) == 1
        seconds = time.monotonic() - start
    lines = (tmp_path / f"{1 - victim}.err").read_text().splitlines()
    print(f"{moment}, process {victim}: {seconds:.1f} s, {lines[-1]}")
    assert seconds < 10
    assert lines[-1].startswith("error: lost a process: process")
    assert not [line for line in lines if "Traceback" in line]
    with training(tmp_path) as group:
        assert [process.wait(300) for process in group] == [0, 0]
    assert results(tmp_path) == undisturbed


# The files in examples/clusters.


def commands(text: str) -> list[list[str]]:
    """Returns the words after each `jaxgan train` of a script."""
    text = text.replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^[^#\n]*jaxgan train (.*?)(?: \|\|.*)?$", text, re.MULTILINE)]


def check(arguments: list[str]) -> None:
    """Raises unless `jaxgan train` understands its arguments."""
    flags, config = train.main._parse([word for word in arguments if word != "$@"], lambda: None)
    assert flags.config == "cifar"
    assert config.checkpoint.dir or flags.workdir


def test_the_task_for_skypilot():
    task = yaml.safe_load((CLUSTERS / "sky.yaml").read_text())
    (arguments,) = commands(task["run"])
    check(arguments)
    for script in (task["setup"], task["run"]):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_the_jobset_names_its_own_first_pod():
    jobset = yaml.safe_load((CLUSTERS / "jobset.yaml").read_text())
    (job,) = jobset["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["args"][0] == "train"
    check(container["args"][1:])
    variables = {entry["name"]: entry.get("value", "1") for entry in container["env"]}
    name = jobset["metadata"]["name"]
    address = f"{name}-{job['name']}-0-0.{name}:8476"
    assert str(processes.detect(variables)) == f"2 processes by JAX_NUM_PROCESSES, this is 1, coordinator {address}"
    assert spec["parallelism"] == spec["completions"] == int(variables["JAX_NUM_PROCESSES"])


SRUN = """#!/bin/bash
[ "$1" = --kill-on-bad-exit=1 ] && shift
export SLURM_STEP_NODELIST=localhost SLURM_STEP_NUM_TASKS=2 SLURM_STEP_TASKS_PER_NODE=2 SLURM_NTASKS=2 SLURM_NODEID=0
SLURM_PROCID=0 SLURM_LOCALID=0 "$@" & first=$!
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" & second=$!
wait $first; status=$?
wait $second && exit $status
"""
JAXGAN = f"""#!{sys.executable}
import pathlib, sys
import jaxgan
from jaxgan.core import processes
import jax
with processes.joined():  # into files: on stdout Gloo's words come in between
    pathlib.Path(f"{{jax.process_index()}} of {{jax.process_count()}}").write_text(" ".join(sys.argv[1:]))
sys.exit(STATUS)
"""


@pytest.mark.parametrize(
    ("status", "restarts", "requeued"), [(0, 0, False), (143, 9, True), (1, 0, True), (1, 5, False)]
)
def test_the_script_for_slurm(tmp_path, status, restarts, requeued):
    """A stand-in for srun starts two processes here, which find each other; where they fail, nothing is trained."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    files = {
        "srun": SRUN if not status else f"#!/bin/bash\nexit {status}\n",
        "jaxgan": JAXGAN.replace("STATUS", str(status)),
        "scontrol": '#!/bin/bash\necho scontrol "$@"\n',
        "activate": "",
    }
    for name, text in files.items():
        (tmp_path / ".venv/bin" / name).write_text(text)
        (tmp_path / ".venv/bin" / name).chmod(0o755)
    path = f"{tmp_path / '.venv/bin'}:{os.environ['PATH']}"
    job = {"SLURM_JOB_ID": str(os.getpid() % 4096), "SLURM_RESTART_COUNT": str(restarts), "PATH": path}
    script = CLUSTERS / "slurm.sh"
    done = subprocess.run(
        ["bash", script, "--config.seed=1"], cwd=tmp_path, env=environment(**job), capture_output=True, text=True
    )
    assert done.returncode == status, done.stderr
    assert ("scontrol requeue" in done.stdout) == requeued
    if not status:
        (arguments,) = commands(script.read_text())
        check(arguments)
        for index in range(2):
            line = (tmp_path / f"{index} of 2").read_text()
            assert line == "train --config=cifar --workdir=runs/cifar --config.seed=1"
