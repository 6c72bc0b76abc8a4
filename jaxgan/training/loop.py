"""train(config, workdir): build, restore, loop, log, sample, evaluate, diagnose, save.

Everything with a cadence happens between two calls of the compiled step. The line of step N in metrics.jsonl is
written before checkpoint N, and a resumed run first drops the lines after its checkpoint: no gaps, no doubles.
"""

import collections
import contextlib
import fcntl
import functools
import json
import math
import os
import pathlib
import signal
import zlib

import jax

from jaxgan import data
from jaxgan import settings as configs
from jaxgan.core.checkpoint import Checkpoints, all_finite
from jaxgan.core.errors import ConfigError, RunFailed
from jaxgan.core.files import atomic_write
from jaxgan.core.parallel import Devices, agreed, assert_replicated, first_replica
from jaxgan.evaluation.evaluator import Evaluator, Protocol
from jaxgan.gan.state import TrainState, create_state, make_nets
from jaxgan.gan.step import make_update, real_batches_per_step, scan_steps
from jaxgan.sampling.generator import Generator
from jaxgan.settings import images_per_step
from jaxgan.training import health as diagnose
from jaxgan.training import plots
from jaxgan.training.check import check
from jaxgan.training.examine import make_examiner
from jaxgan.training.log import MetricsLog, Progress, Throughput, read_metrics

IN_FLIGHT = 2  # calls dispatched ahead of the device: enough to hide the host, few enough to stop soon


class TrainingDiverged(RunFailed):
    """Loss or state are no longer finite."""


class Interrupt:
    """SIGTERM and Ctrl-C as a flag that the loop reads; the second signal ends the process at once.

    With several processes SIGTERM is left to JAX's preemption service, which makes all of them stop at one step.
    """

    def __init__(self):
        self.status = 0  # exit status of the signal that came: 143 or 130

    def __enter__(self):
        self._alone = jax.process_count() == 1
        caught = [signal.SIGINT, signal.SIGTERM] if self._alone else [signal.SIGINT]
        self._previous = {s: signal.signal(s, self._handle) for s in caught}
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        self.status = 128 + number
        for caught in self._previous:
            signal.signal(caught, signal.SIG_DFL)  # a second one needs no turn of the interpreter
        if not self._alone:  # tell the others the way that a scheduler would
            os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def sole_user(workdir: pathlib.Path):
    """Keep a second start of the same run out while this one lasts."""
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / ".lock").open("w") as lock:
        try:
            if jax.process_index() == 0:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"--workdir={workdir}: another process is training there") from None
        yield


def open_checkpoints(config, workdir: pathlib.Path) -> Checkpoints:
    """The checkpoints of a run, which need not exist yet."""
    return Checkpoints(
        config.checkpoint.dir or workdir / "checkpoints",
        keep_last=config.checkpoint.keep_last,
        keep_every_steps=configs.steps(config, config.checkpoint.keep_every_kimg),
        best_metric=config.checkpoint.best_metric,
        best_mode=config.checkpoint.best_mode,
    )


def resolve(config, dataset) -> None:
    """Fill in what only the data can say."""
    channels = dataset.image_shape[-1]
    config.data.channels, config.data.num_classes = channels, dataset.num_classes
    config.data.fingerprint = f"{len(dataset)} images, {zlib.crc32(data.some_of(dataset)[0].tobytes()):08x}"
    if config.model.conditional and not dataset.num_classes:
        raise ConfigError(f"config.model.conditional=True: {config.data.name} has no labels; set it to False")
    if config.batch_size > len(dataset):
        raise ConfigError(f"config.batch_size={config.batch_size}: {config.data.name} has {len(dataset)} images")


def make_evaluator(config, dataset) -> Evaluator:
    """What scores the run's samples against its training images; the extractors' weights are read, or missing, here."""
    protocol = Protocol(num=config.eval.num_samples, num_real=config.eval.num_reals, split=config.data.split)
    weights = {"inception": config.eval.inception_weights, "dinov2": config.eval.dinov2_weights}
    evaluator = Evaluator(config.eval.metrics, protocol, weights, active=jax.process_index() == 0)
    evaluator.compare_with(dataset, config.data.name)
    return evaluator


def compare_with_saved(config, workdir: pathlib.Path, checkpoints: Checkpoints) -> list[str]:
    """Settings that changed since the checkpoint; a ConfigError if the arrays would mean something else."""
    saved = checkpoints.restore_config()
    if saved is None:
        settings = workdir / "config.json"
        before = settings.exists() and json.loads(settings.read_text())["checkpoint"]["dir"]
        if before and before != config.checkpoint.dir:
            raise ConfigError(f"config.checkpoint.dir={config.checkpoint.dir!r}: this run keeps them in {before!r}")
        return []
    free, fixed = configs.changes(config, configs.from_dict(saved))
    if fixed and not config.checkpoint.allow_config_change:
        raise ConfigError(
            f"this run was started with other settings: {'; '.join(fixed)}. Use another --workdir, or "
            "--config.checkpoint.allow_config_change=True if the checkpoint still fits"
        )
    return free + fixed


def train(config, workdir) -> int:
    """Train to config.train_kimg, from the newest checkpoint in `workdir` if there is one.

    Returns:
      The exit status: 0, or 143 / 130 after a SIGTERM / Ctrl-C that was answered with a checkpoint.

    Raises:
      ConfigError: a setting cannot work; nothing was written.
      TrainingDiverged: not a number; the last good checkpoint is intact.
    """
    if "://" in str(workdir):
        raise ConfigError(f"--workdir={workdir}: must be a local directory; config.checkpoint.dir may be in a bucket")
    workdir = pathlib.Path(workdir)
    config = config.copy_and_resolve_references()
    check(config, jax.device_count())
    dataset, held_out = data.load(config.data), data.load_held_out(config.data)
    resolve(config, dataset)
    evaluator = make_evaluator(config, dataset)
    with sole_user(workdir), open_checkpoints(config, workdir) as checkpoints:
        changed = compare_with_saved(config, workdir, checkpoints)
        return Run(config, workdir, dataset, held_out, checkpoints, changed, evaluator).train()


class Run:
    """The moving parts of one run; `train` is the loop."""

    def __init__(
        self,
        config,
        workdir: pathlib.Path,
        dataset,
        held_out,
        checkpoints: Checkpoints,
        changed: list[str],
        evaluator: Evaluator,
    ):
        self.config, self.workdir, self.checkpoints, self.evaluator = config, workdir, checkpoints, evaluator
        self.lead = jax.process_index() == 0
        self.console = Progress(active=self.lead)
        self.total = configs.steps(config, config.train_kimg)
        self.speed = Throughput(self.total * images_per_step(config))
        self.doctor = diagnose.Doctor()
        self.every = {
            name: configs.steps(config, config[name].every_kimg)
            for name in ("log", "sample", "eval", "diagnose", "checkpoint")
        }
        self.every["keep"] = configs.steps(config, config.checkpoint.keep_every_kimg)
        self.devices = devices = Devices(config.parallel)
        nets = make_nets(config)
        key = jax.random.key(config.seed)
        create = jax.jit(functools.partial(create_state, nets))
        state = checkpoints.restore(jax.eval_shape(create, key)) or create(key)
        self.step = self.saved = int(state.step)  # the last checkpoint is of step `saved`; 0: none yet
        if self.step % config.steps_per_call:
            raise ConfigError(
                f"config.steps_per_call={config.steps_per_call}: must divide step {self.step}, where the run resumes"
            )
        self.state: TrainState = devices.replicate(state)
        self.update, self.key = devices.parallelize(scan_steps(make_update(config, nets))), key

        self.generator = Generator(config, None, self.step)
        self.examine = make_examiner(nets, dataset, held_out)
        self.batches = data.Batches(
            dataset,
            seed=config.seed,
            per_step=(real_batches_per_step(config), config.batch_size),
            steps_per_call=config.steps_per_call,
            first_step=self.step,
            last_step=self.total,
            device_slots=devices.local_slots,
            num_devices=len(devices.devices),
            put=devices.put_batch,
        )
        self.log = MetricsLog(
            workdir,
            resume_step=self.step,
            tensorboard=config.log.tensorboard,
            wandb={} if config.log.wandb else None,
            active=self.lead,
        )
        self.history = read_metrics(workdir / "metrics.jsonl") if self.lead else []
        self.logged = self.step  # step of the last line
        if self.lead:
            self.log.config(config.to_dict())
            atomic_write(workdir / "config.json", configs.to_json(config).encode())
        self.introduce(len(dataset), devices.devices, changed)

    def introduce(self, num_images: int, devices: list, changed: list[str]) -> None:
        config = self.config
        sizes = [sum(x.size for x in jax.tree.leaves(net.params)) for net in (self.state.g, self.state.d)]
        kinds = collections.Counter(d.device_kind for d in devices)
        self.console.header(
            f"{config.model.name}, {config.loss} loss, on {config.data.name}",
            {
                "generator": f"{sizes[0]:,} parameters",
                "discriminator": f"{sizes[1]:,} parameters",
                "images": f"{num_images:,} of {config.data.image_size}x{config.data.image_size}",
                "devices": ", ".join(f"{n} x {kind}" for kind, n in kinds.items())
                + f" in {jax.process_count()} process(es), {config.parallel}, {config.dtype}",
                "batch": f"{config.batch_size}, {config.d_steps} D step(s) for each G step",
                "length": f"{self.total:,} steps, {config.train_kimg:,g} kimg",
                "workdir": self.workdir,
            },
        )
        for line in changed:
            self.console.note(f"changed since the checkpoint: {line}")
        if self.step:
            self.console.note(f"resumed from step {self.step}")

    def train(self) -> int:
        """The loop; see `train`."""
        pending, compiled = collections.deque(), None
        with Interrupt() as interrupt, contextlib.closing(self.log), contextlib.closing(self.batches):
            if self.step < self.total:
                self.console.note("compiling the training step ...")
            while self.step < self.total:
                if self.must_stop(interrupt):
                    return self.leave(interrupt.status or 128 + signal.SIGTERM)
                with self.speed.waiting():
                    batch = next(self.batches)
                if compiled is None:
                    compiled = self.devices.compile(self.update, self.state, batch, self.key)
                self.state, metrics = compiled(self.state, batch, self.key)
                self.step += self.config.steps_per_call
                pending.append(metrics)
                if len(pending) > IN_FLIGHT:
                    jax.block_until_ready(pending.popleft())
                if not self.speed.started:  # the first call is compiled: the clock starts after it
                    jax.block_until_ready(metrics)
                    self.speed.tick(self.step * images_per_step(self.config))
                self.between_calls(metrics)
            self.checkpoints.wait()
        self.summarise()
        return 0

    def must_stop(self, interrupt: Interrupt) -> bool:
        if jax.process_count() == 1:
            return bool(interrupt.status)
        # The same answer on all processes. JAX agrees on a single step, so it must be asked about every one.
        call = range(max(self.step - self.config.steps_per_call + 1, 0), self.step + 1)
        return any([self.checkpoints.reached_preemption(step) for step in call])

    def leave(self, status: int) -> int:
        """Save after a signal; the next start goes on from here."""
        self.save({})
        self.checkpoints.wait()
        done = f"saved step {self.saved}" if self.saved else "no step was done yet"
        self.console.note(f"stopped by {signal.Signals(status - 128).name}; {done}, run again to go on")
        return status

    def due(self, name: str) -> bool:
        every = self.every[name]
        if self.step == self.total:
            return bool(every) or name != "diagnose"
        return bool(every) and self.step % every == 0

    def between_calls(self, metrics: dict) -> None:
        """Whatever is due after `step` updates, the line in the log before the checkpoint."""
        scores = {}
        if self.due("log") or self.due("eval") or self.due("diagnose"):
            values = self.fetch(metrics)
            with self.speed.paused():
                if self.due("eval"):  # on every process: they must agree on the best checkpoint
                    scores = self.evaluator.score_generator(self.current_generator())
                    scores = agreed({f"eval/{name}": score for name, score in scores.items()})
                if self.lead and self.due("diagnose"):
                    values |= self.examine(self.state.d, self.current_generator())
            self.write(values | scores)
        with self.speed.paused():
            if self.lead and self.due("sample"):
                self.draw()
            # The best and those to keep can only be kept if they are saved.
            if self.due("checkpoint") or self.due("keep") or self.config.checkpoint.best_metric in scores:
                self.save(scores)

    def fetch(self, metrics: dict) -> dict[str, float]:
        """The step's metrics on the host, all finite."""
        values = {name: float(v) for name, v in jax.device_get(first_replica(metrics)).items()}
        bad = [n for n, v in values.items() if not math.isfinite(v) and not n.startswith("penalty/")]
        if bad:
            self.fail(", ".join(f"{name} = {values[name]}" for name in bad), since=self.logged)
        return values

    def current_generator(self) -> Generator:
        """The averaged generator of this step, on this process's first device."""
        self.generator.variables, self.generator.step = first_replica(self.state.ema), self.step
        return self.generator

    def write(self, values: dict[str, float]) -> None:
        """One line of the log, one of the console, and the doctor's opinion."""
        images = self.step * images_per_step(self.config)
        speed = self.speed.tick(images)
        if math.isfinite(speed.images_per_second):
            values |= {"perf/images_per_second": speed.images_per_second, "perf/data_wait": speed.data_wait}
        values["kimg"] = images / 1e3
        self.log.scalars(self.step, values)
        self.history.append({"step": self.step} | values)
        self.logged = self.step
        self.console.line(
            self.step, self.total, images / 1e3, speed.images_per_second, speed.seconds_left,
            values["loss/d"], values["loss/g"], speed.data_wait,
        )  # fmt: skip
        for name, value in values.items():
            if name.startswith("eval/"):
                self.console.note(f"{name} {value:.4g} at {images / 1e3:,.1f} kimg")
        if self.due("diagnose"):
            for finding in self.doctor.check(self.history):
                self.console.note(f"warning: {finding}")

    def draw(self) -> None:
        """The grid of fixed latents, and the curves so far."""
        rows = self.config.sample.grid
        generator = self.current_generator()
        labels = generator.class_columns(rows, rows) if generator.num_classes else None
        images = generator.sample(rows * rows, labels=labels)
        if self.config.data.name == "stacked_digits":  # three digits on top of each other cannot be read
            grid = plots.grid(plots.planes(images), rows, scale=max(1, 48 // images.shape[1]))
        else:
            grid = plots.grid(images, rows)
        samples = self.workdir / "samples"
        samples.mkdir(exist_ok=True)
        plots.save_png(samples / f"{self.step:08d}.png", grid)
        self.log.images(self.step, "samples", grid)
        if self.history:
            plots.curves(self.history, self.workdir / "curves.png", title=str(self.workdir))

    def save(self, scores: dict[str, float]) -> None:
        """A checkpoint of a state that is finite and the same on all devices; never of another one."""
        if self.step == self.saved:
            return
        if not all_finite(first_replica(self.state)):
            self.fail("the state is not finite", since=self.saved)
        assert_replicated(self.state)
        self.log.flush()
        self.checkpoints.save(self.step, self.state, self.config.to_dict(), scores)
        self.saved = self.step

    def fail(self, sign: str, since: int) -> None:
        good = f"the checkpoint of step {self.saved} is good" if self.saved else "there is no checkpoint yet"
        raise TrainingDiverged(
            f"{sign}, between step {since} and step {self.step}; {good}. Try a lower --config.optim_d.lr and "
            "--config.optim_g.lr, or --config.optim_d.clip_norm=1 and --config.optim_g.clip_norm=1"
        )

    def summarise(self) -> None:
        reached = {k: v for record in self.history for k, v in record.items() if k.startswith("eval/")}
        facts = {k: f"{v:.4g}" for k, v in reached.items()} | {
            "images": self.workdir / "samples" / f"{self.step:08d}.png",
            "curves": self.workdir / "curves.png",
            "metrics": self.workdir / "metrics.jsonl",
            "checkpoint": self.checkpoints.directory / str(self.step),
            "more images": f"python -m jaxgan.sample --workdir={self.workdir} --out=more.png",
        }
        self.console.header(f"trained to step {self.step:,}", facts)
