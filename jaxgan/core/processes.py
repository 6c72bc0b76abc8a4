"""The processes of one run: how they find each other, and what becomes of them when one dies.

JAX does both. What is added: which launchers are asked and when, one line in place of the C++ log of a lost process,
and an exit status in place of SIGABRT.
"""

import collections
import contextlib
import ctypes
import glob
import importlib.util
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple

import jax

from jaxgan.core.errors import ConfigError, RunFailed, require, require_whole

PORT = 8476  # of the coordinator, where a launcher names hosts but no port, and JAX_COORDINATOR_PORT is not set


class Cluster(NamedTuple):
    """Says who the processes of a run are.

    Attributes:
      launcher: who said so.
      processes: how many there are; 0: JAX asks the cluster.
      process_id: which of them this is.
      coordinator: host:port of process 0; "": JAX asks the launcher.
      devices: indices of the GPUs that are this process's own, among those that it sees; None: JAX's choice.
      method: what JAX calls the launcher, or "deactivate" where it need not ask; None: it finds out.
    """

    launcher: str
    processes: int = 0
    process_id: int = 0
    coordinator: str = ""
    devices: tuple[int, ...] | None = None
    method: str | None = "deactivate"

    def __str__(self):
        if not self.processes:
            return f"processes by {self.launcher}"
        at = f", coordinator {self.coordinator}" * bool(self.coordinator)
        return f"{self.processes} processes by {self.launcher}, this is {self.process_id}{at}"


def detect(environ: Mapping[str, str], gpus: int = 0, tpu: bool = False, kubernetes: bool = False) -> Cluster | None:
    """Returns what launched this process together with others, None if nothing did.

    A shell on a node of a cluster is no task of a job: what it starts is a run of its own.

    Args:
      environ: the environment variables.
      gpus: how many GPUs the machine has.
      tpu: whether it has a TPU.
      kubernetes: whether the package of this name is installed, without which JAX cannot ask Kubernetes.

    Example:
      >>> sky = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NODE_IPS": "10.0.0.4\\n10.0.0.5"}
      >>> print(detect(sky))
      2 processes by SkyPilot, this is 1, coordinator 10.0.0.4:8476
    """
    address, method = environ.get("JAX_COORDINATOR_ADDRESS", ""), "deactivate"
    if tpu:
        return Cluster("the TPU's hosts", method=None)
    right = f"must be host:port, the port below 65536; {_ALONE}"
    require(not address or _is_address(address), "JAX_COORDINATOR_ADDRESS", address, right)
    if {"JAX_NUM_PROCESSES", "JAX_PROCESS_ID"} <= environ.keys() and address:
        return _cluster(environ, "JAX_NUM_PROCESSES", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", address)
    if environ.get("OMPI_COMM_WORLD_SIZE") and _number(environ, "OMPI_COMM_WORLD_SIZE") > 1:
        right = "this Open MPI does not say where process 0 is: set JAX_COORDINATOR_ADDRESS=HOST:PORT on all processes"
        known = address or "OMPI_MCA_orte_hnp_uri" in environ
        require(known, "OMPI_COMM_WORLD_SIZE", environ["OMPI_COMM_WORLD_SIZE"], right)
        here = _number(environ, "OMPI_COMM_WORLD_LOCAL_SIZE", 1)
        devices = _own_devices(environ, gpus, _number(environ, "OMPI_COMM_WORLD_LOCAL_RANK"), here)
        names = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
        return _cluster(environ, "Open MPI", *names, address, devices, method if address else "ompi")
    if environ.keys() >= set(_SLURM_STEP) and _number(environ, "SLURM_STEP_NUM_TASKS") > 1:
        tasks, node = [], _number(environ, "SLURM_NODEID")  # of every node; Slurm writes "2(x3),1" for 2,2,2,1
        for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", environ["SLURM_STEP_TASKS_PER_NODE"]):
            tasks += [int(count)] * int(times or 1)
        require(node < len(tasks), "SLURM_NODEID", node, f"there are tasks on {len(tasks)} nodes; {_ALONE}")
        if not address:  # JAX makes one of these
            _number(environ, "SLURM_JOB_ID")
            nodes = environ["SLURM_STEP_NODELIST"]
            require(nodes.strip() != "", "SLURM_STEP_NODELIST", nodes, f"must name the nodes; {_ALONE}")
        devices = _own_devices(environ, gpus, _number(environ, "SLURM_LOCALID"), tasks[node])
        names = ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID")
        return _cluster(environ, "Slurm", *names, address, devices, method if address else "slurm")
    if environ.get("SKYPILOT_NUM_NODES") and _number(environ, "SKYPILOT_NUM_NODES") > 1:
        nodes = environ.get("SKYPILOT_NODE_IPS", "")
        require(nodes.strip() != "", "SKYPILOT_NODE_IPS", nodes, f"must be the addresses of the nodes; {_ALONE}")
        address = address or f"{nodes.split()[0]}:{environ.get('JAX_COORDINATOR_PORT', PORT)}"
        return _cluster(environ, "SkyPilot", "SKYPILOT_NUM_NODES", "SKYPILOT_NODE_RANK", address)
    if kubernetes and {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= environ.keys():
        return Cluster("Kubernetes", method=None)
    right = "set JAX_NUM_PROCESSES and JAX_PROCESS_ID too, or --processes=1"
    require(not address, "JAX_COORDINATOR_ADDRESS", address, right)
    return None


_ALONE = "--processes=1 trains with this process alone"


def _number(environ, name: str, least: int = 0) -> int:
    """Returns the whole number that a variable holds."""
    text = environ.get(name, "")
    good = text.isdecimal() and int(text) >= least
    require(good, name, text, f"must be a whole number, {least} or above; {_ALONE}")
    return int(text)


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 2**16


# What only a task of a step, which srun starts, has all of: neither the script of sbatch nor a shell by ssh does. The
# shell of salloc may be a step of its own, of one task; SLURM_NTASKS would be the job's there.
_SLURM_STEP = (
    "SLURM_JOB_ID",
    "SLURM_STEP_NODELIST",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_STEP_TASKS_PER_NODE",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_NODEID",
)


def _cluster(environ, launcher, count, index, address, devices=None, method="deactivate") -> Cluster | None:
    """Returns the cluster of variables named `count` and `index`; None if this process is the only one."""
    processes, process_id = _number(environ, count, 1), _number(environ, index)
    require(0 <= process_id < processes, index, process_id, f"must be below {count}={processes}")
    return Cluster(launcher, processes, process_id, address, devices, method) if processes > 1 else None


def _own_devices(environ, gpus: int, index: int, here: int) -> tuple[int, ...] | None:
    """Returns which of the GPUs in sight belong to process `index` of the `here` on this machine.

    JAX would give it GPU number `index` and no other: wrong where the site shows each task only its own, and where
    one process has several.
    """
    visible = environ.get("CUDA_VISIBLE_DEVICES", "")
    count = len(visible.split(",")) if visible else gpus
    if "JAX_LOCAL_DEVICE_IDS" in environ or not count:
        return None
    if here == 1 or count == 1 or "SLURM_GPUS_PER_TASK" in environ:  # all in sight are its own
        return tuple(range(count))
    require(count % here == 0, "CUDA_VISIBLE_DEVICES", visible, f"{count} GPUs cannot be shared by {here} processes")
    share = count // here
    return tuple(range(index * share, (index + 1) * share))


def by_flags(coordinator: str, processes: int, process_id: int) -> Cluster:
    """Returns the cluster that the three flags describe, one process without a coordinator included."""
    if not coordinator and processes == 1 and process_id <= 0:
        return Cluster("--processes", 1)
    if not (_is_address(coordinator) and processes > 0 and 0 <= process_id < processes):
        raise ConfigError(
            f"--coordinator={coordinator!r} --processes={processes} --process_id={process_id}: give all three, "
            "host:port (a port is below 65536), a count, and an index below the count; or --processes=1 alone"
        )
    return Cluster("--processes", processes, process_id, coordinator)


@contextlib.contextmanager
def joined(coordinator: str = "", processes: int = 0, process_id: int = -1, heartbeat: int = 8):
    """Joins the other processes of a run, as the arguments or the launcher say, and leaves them in the end.

    Must be entered before anything else touches the devices. In the meantime the loss of a process ends all others,
    with one line and status 1, about `heartbeat` seconds later. Processes that are joined already stay as they are.

    Args:
      coordinator: host:port of process 0; given with both others or none.
      processes: how many there are; 1, alone, for a run of this process only.
      process_id: which of them this is.
      heartbeat: after how many seconds without a sign of life a process is lost.

    Raises:
      ConfigError: the arguments or the launcher's variables contradict each other.
      RunFailed: the others cannot be reached.
    """
    require_whole("--heartbeat", heartbeat, least=2)
    if jax.distributed.is_initialized():  # by the caller: Ray, or a script of one's own
        yield
        return
    if coordinator or processes or process_id >= 0:
        cluster = by_flags(coordinator, processes, process_id)
    else:
        tpu = bool(glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*"))
        has_kubernetes = importlib.util.find_spec("kubernetes") is not None
        cluster = detect(os.environ, len(glob.glob("/dev/nvidia[0-9]*")), tpu, has_kubernetes)
    if cluster is None or cluster.processes == 1:
        yield
        return
    with _one_line_of_loss(heartbeat):
        if _initialize(cluster, heartbeat):
            with _loss_explains_failures(heartbeat):
                yield
            jax.distributed.shutdown()  # waits for the others to come to their end
        else:
            yield


def _initialize(cluster: Cluster, heartbeat: int) -> bool:
    """Returns whether this process has joined the others; one TPU host may have none."""
    if cluster.processes:
        print(cluster, file=sys.stderr, flush=True)
    try:
        jax.distributed.initialize(
            cluster.coordinator or None,
            cluster.processes or None,
            cluster.process_id if cluster.processes else None,
            local_device_ids=cluster.devices,
            cluster_detection_method=cluster.method,
            heartbeat_timeout_seconds=heartbeat,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        if cluster.launcher != "the TPU's hosts":
            raise RunFailed(f"{cluster}: {reason}") from error
        print(f"training on this host alone: {reason}")
        return False
    if not cluster.processes:
        found = cluster._replace(processes=jax.process_count(), process_id=jax.process_index())
        print(found, file=sys.stderr, flush=True)
    return True


_FATAL = "JAX distributed service detected fatal errors"
_SERVICE = re.compile(r"[IWEF]\d{4} .* (coordination_service|preemption_sync_manager|client\.h)")
_LOGGED = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d")


def loss(log: str, heartbeat: int) -> str | None:
    """Returns in one line what JAX's log says of lost processes, None if it says nothing of any.

    Args:
      log: lines of JAX's C++ log, its fatal one included.
      heartbeat: as in `joined`.
    """
    if _FATAL not in log:
        return None
    if "RegisterTask" in log:
        return "not all processes have come; look at the output of the others, then start all of them again"
    lost = sorted(set(re.findall(r"^(?:/job:\S*task:)?(\d+)$", log, re.MULTILINE)), key=int)
    if "heartbeat" in log and lost:
        which = f"process{'es' * (len(lost) > 1)} {', '.join(lost)} gave no sign of life for {heartbeat} s"
    elif "UNAVAILABLE" in log:
        which = "process 0 is gone"
    else:
        which = log.partition("absl::Status: ")[2].split("\n")[0]
    return f"lost a process: {which}; start all again to go on from the last checkpoint"


@contextlib.contextmanager
def _one_line_of_loss(heartbeat: int):
    """Ends this process with one line and status 1 where JAX would write a log of its own and abort.

    What C++ writes to stderr passes through a thread, which holds back what JAX's service says until it knows whether
    the process has to end. The signal handler of SIGABRT is C's own `sleep`, so that the aborting thread leaves
    the others the seconds that they need: as many as the number of the signal, 6. Then it aborts as it would have.
    Before 0.9.2 JAX does not abort but exits with status 1, too soon for any thread.
    """
    if jax.__version_info__ < (0, 9, 2):
        yield
        return
    stderr, python_stderr = os.dup(2), sys.stderr
    reading, writing = os.pipe()
    python_stderr.flush()
    os.dup2(writing, 2)
    os.close(writing)
    sys.stderr = os.fdopen(os.dup(stderr), "w", buffering=1, errors="backslashreplace")
    libc = ctypes.CDLL(None)
    libc.signal.restype = ctypes.c_void_p
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    previous = libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))

    def relay():
        log, of_service = [], False
        with open(reading, errors="replace") as lines:
            for line in lines:
                if _LOGGED.match(line):
                    of_service = bool(_SERVICE.match(line))
                if not of_service:
                    os.write(stderr, line.encode())
                    continue
                log.append(line)
                if "Check failure stack trace" in line:  # the message is complete
                    time.sleep(0.5)  # who is about to end for a reason of its own has said it by then
                    text = "".join(log)
                    os.write(stderr, f"error: {loss(text, heartbeat) or text}\n".encode())
                    os._exit(1)

    thread = threading.Thread(target=relay, daemon=True)
    thread.start()
    yield
    # An error comes out with all this in place: the process says it and ends, and the others' end must not drown it.
    libc.signal(signal.SIGABRT, previous)
    sys.stderr.close()
    sys.stderr = python_stderr
    os.dup2(stderr, 2)  # closes the pipe, and the thread comes to its end
    thread.join(1)


@contextlib.contextmanager
def _loss_explains_failures(heartbeat: int):
    """Waits for what JAX's service has to say before an error of the runtime goes on.

    Where a process dies, the collective that it takes part in may fail at once: a consequence, and no explanation.
    """
    try:
        yield
    except Exception as error:
        if may_follow_a_loss(error):
            time.sleep(2 * heartbeat + 10)  # it speaks after 1.5 heartbeats, on a busy machine some seconds later
        raise


def may_follow_a_loss(error: BaseException) -> bool:
    """Returns whether an error may come of a collective or a barrier that another process has left.

    They fail with a JaxRuntimeError in a compiled step, in a barrier and where the devices are asked for, and with a
    ValueError in a call outside of a step. The latter is also what lies under many a wrong request.
    """
    causes = [error]
    while causes[-1] is not None:
        causes.append(causes[-1].__cause__ or causes[-1].__context__)
    kinds = jax.errors.JaxRuntimeError if isinstance(error, ConfigError) else jax.errors.JaxRuntimeError | ValueError
    return any(isinstance(cause, kinds) for cause in causes)


def divide_cpu(count: int) -> None:
    """Makes the CPU so many devices, or one for each core that this process may use where these are fewer.

    It stays as it is where JAX_NUM_CPU_DEVICES says otherwise, or JAX has started its devices before.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    count = min(count, cores)  # XLA has a thread a core, and a collective of more devices than that may wait forever
    if count > 1 and jax.config.jax_num_cpu_devices < 0:  # the variable is not set
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", count)


def require_devices(cpu_devices: int = 1) -> None:
    """Starts JAX's devices; a CPU is divided into `cpu_devices` of them, see `divide_cpu`.

    Raises:
      ConfigError: JAX cannot start what it is told or installed to use; the message is one line.
    """
    divide_cpu(cpu_devices)
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # an AssertionError without words: JAX_PLATFORMS=cuda, no plug-in
        platforms = jax.config.jax_platforms or ""
        reason = str(error).partition("\n")[0].partition(" (set JAX")[0] or "JAX has no plug-in for it"
        right = "install it with pip install 'jaxgan[cuda]' or 'jaxgan[tpu]', or set JAX_PLATFORMS=cpu"
        raise ConfigError(f"JAX_PLATFORMS={platforms!r}: {reason} ({right})") from error


def describe_devices() -> str:
    """Returns what all processes together have, such as "8 x TPU v5e in 2 processes"."""
    kinds = collections.Counter(device.device_kind for device in jax.devices())
    processes = jax.process_count()
    return f"{', '.join(f'{n} x {kind}' for kind, n in kinds.items())} in {processes} process" + "es" * (processes > 1)
