"""Scores a run or anyone's images: jaxgan evaluate --workdir=RUN [--metrics=fid,is,kid,prdc]

    --step=N|newest|best|all              which checkpoints of the run
    --images=DIR|FILE.npz|FILE.zip        instead of --workdir: evaluate these
    --reals=DIR|FILE.npz|FILE.zip|NAME    compare with these, their mu and sigma, or a named data set
    --save_reference=FILE.npz             write mu and sigma of the reals; alone, it takes --reals and --metrics
    --protocol=NAME                       of a code base; --num, --split, ... change one choice each

Prints a table and a line of JSON, both with the protocol. With --workdir the line is also added to its `scores.jsonl`.
"""

from absl import flags

from jaxgan.commands import app
from jaxgan.core.errors import ConfigError, require, require_choice
from jaxgan.core.files import as_path, is_remote

FLAGS = flags.FlagValues()
flags.DEFINE_string("workdir", None, "Run, checkpoint directory or checkpoint whose EMA generator to score.", FLAGS)
flags.DEFINE_string("images", None, "DIR, FILE.npz, FILE.zip or FILE.tar of images to score instead.", FLAGS)
flags.DEFINE_string(
    "reals", None, "DIR, FILE.npz, .zip, .tar or data set to compare with; the run's own if not given.", FLAGS
)
flags.DEFINE_list("metrics", None, "Names of metrics; the run's own if not given.", FLAGS)
flags.DEFINE_string("protocol", "nvidia", "Choices of a code base: nvidia, studiogan, mimicry or compare_gan.", FLAGS)
flags.DEFINE_string("step", None, "A number, newest, best (by config.checkpoint.best_metric) or all.", FLAGS)
flags.DEFINE_float("sigma_rel", None, "Post-hoc EMA: its relative std; see config.ema.posthoc.", flag_values=FLAGS)
flags.DEFINE_integer("num", None, "How many fakes; with --images all if not given.", 2, flag_values=FLAGS)
flags.DEFINE_integer("num_reals", None, "How many reals, evenly over the set; 0: all.", 0, flag_values=FLAGS)
flags.DEFINE_string("split", None, "Which part of the reals.", FLAGS)
flags.DEFINE_bool("flips", None, "Count every real a second time, flipped horizontally.", FLAGS)
flags.DEFINE_integer("is_splits", None, "Parts that the Inception Score is averaged over.", 1, flag_values=FLAGS)
flags.DEFINE_integer("standing_batches", None, "Standing batch statistics: batches of 64.", 0, flag_values=FLAGS)
flags.DEFINE_integer("seed", None, "Seed of samples and of fid_infinity's subsets.", 0, 2**31 - 1, flag_values=FLAGS)
flags.DEFINE_string("inception_weights", "", "File of the FID Inception's weights.", FLAGS)
flags.DEFINE_string("dinov2_weights", "", "File of DINOv2's weights.", FLAGS)
flags.DEFINE_string("data_dir", None, "config.data.dir of the reals.", FLAGS)
flags.DEFINE_string("manual_dir", None, "config.data.manual_dir of the reals.", FLAGS)
flags.DEFINE_bool("verify_checksum", None, "config.data.verify_checksum of the reals.", FLAGS)
flags.DEFINE_string("neighbours", None, "FILE.png: the fakes nearest to a real, each beside that real.", FLAGS)
flags.DEFINE_string("save_reference", None, "FILE.npz for mu and sigma of the reals' features.", FLAGS)


@app.command(FLAGS, cpu_devices=2)  # one works while the other is in what XLA does on one core: 1.2 times as fast
def main(flags) -> None:
    from jaxgan.evaluation import PROTOCOLS, Protocol, report

    require_choice("--protocol", flags.protocol, PROTOCOLS)
    alone = bool(flags.save_reference and flags.reals and not flags.workdir and not flags.images)
    if not alone and bool(flags.workdir) == bool(flags.images):
        raise ConfigError("give either --workdir=RUN or --images=DIR|FILE.npz")
    endings = {"data_dir": "", "manual_dir": "", "neighbours": ".png", "save_reference": ".npz"}
    local = {name: app.local_file(f"--{name}", flags[name].value, ending) for name, ending in endings.items()}
    given = dict(
        metrics=flags.metrics,
        protocol=flags.protocol,
        changes={name: flags[name].value for name in Protocol._fields if flags[name].value is not None},
        reals=flags.reals,
        data_changes=dict(dir=local["data_dir"], manual_dir=local["manual_dir"], verify_checksum=flags.verify_checksum),
        weights={"inception": flags.inception_weights, "dinov2": flags.dinov2_weights},
        **{name: local[name] for name in ("neighbours", "save_reference")},
    )
    failed = {}
    data = {"config.data.name": "reals", "config.data.dir": "data_dir", "config.data.manual_dir": "manual_dir"}
    with app.naming_flags(FLAGS, path="workdir", **data):
        if alone:
            return report.evaluate_nothing(**given)
        if flags.images:
            require(flags.sigma_rel is None, "--sigma_rel", flags.sigma_rel, "--images have no EMA")
            reports = [report.evaluate_images(flags.images, **given)]
        else:
            reports = report.evaluate_run(flags.workdir, sigma_rel=flags.sigma_rel, **given)
        for scores in reports:
            print(scores, scores.to_json(), sep="\n", flush=True)
            if flags.workdir and not is_remote(flags.workdir) and as_path(flags.workdir).is_dir():
                with open(as_path(flags.workdir) / "scores.jsonl", "a") as file:
                    file.write(scores.to_json() + "\n")
            failed |= scores.failed
    report.require_computed(failed)
