"""Makes images with a trained generator: jaxgan sample --workdir=RUN --out=FILE.png|FILE.npz|DIR

Samples or, in rows, one of
--per_class           samples with a class in each column
--interpolate         walks from one sample to another; --space=w: by their styles
--sefa=6              moves along a semantic direction each (--extent=3, --layers=0,1,2,3)
--invert=FILE|DIR     images and, beside each, the nearest that the generator can make (--steps=500)
Where --out is FILE.mp4, .webp or .gif, a film: --interpolate (--labels=cat,dog: from class to class) or --timelapse
"""

from absl import flags

from jaxgan.commands import app, film
from jaxgan.core.errors import ConfigError
from jaxgan.core.files import as_path

FLAGS = flags.FlagValues()
flags.DEFINE_string("workdir", None, "Run, checkpoint directory or checkpoint to sample from.", FLAGS)
flags.DEFINE_string("out", None, "FILE.png (one grid), FILE.npz (images and what made them) or DIR (PNGs).", FLAGS)
flags.DEFINE_string("step", "newest", "A number, newest (undamaged) or best (by config.checkpoint.best_metric).", FLAGS)
flags.DEFINE_float("sigma_rel", None, "Post-hoc EMA: its relative std; see config.ema.posthoc.", flag_values=FLAGS)
flags.DEFINE_integer("num", 64, "Number of images; with --per_class or --interpolate, of rows.", 1, flag_values=FLAGS)
flags.DEFINE_integer("seed", 0, "Image i is a function of the seed and i.", 0, 2**31 - 1, flag_values=FLAGS)
flags.DEFINE_list("labels", None, "Classes, by name or number, used in turn.", FLAGS)
flags.DEFINE_float("truncation", None, "For less variety: psi < 1 with styles, else the bound of z.", flag_values=FLAGS)
flags.DEFINE_integer("columns", 0, "Images in a row of the grid; 0: as suits its contents.", 0, flag_values=FLAGS)
flags.DEFINE_bool("per_class", False, "Rows with a class in each column.", FLAGS)
flags.DEFINE_bool("interpolate", False, "Rows that walk from one image to another.", FLAGS)
flags.DEFINE_enum("space", "z", ["z", "w"], "With --interpolate: along latents or, if there are any, styles.", FLAGS)
flags.DEFINE_integer("sefa", None, "Number of semantic directions to move along, a row each.", 1, flag_values=FLAGS)
flags.DEFINE_float("extent", 3.0, "With --sefa: the longest step, to both sides.", flag_values=FLAGS)
flags.DEFINE_list("layers", None, "With --sefa: styles that move, 0 the coarsest.", FLAGS)
flags.DEFINE_string("invert", None, "Image, or directory of images, to find latents of.", FLAGS)
flags.DEFINE_integer("steps", 500, "With --invert: length of the search.", 0, flag_values=FLAGS)

# The flag that asks for a picture: the function of sampling/sheets.py, and the flags that are its arguments.
SHEETS = {
    "": ("samples", ("num", "columns", "seed", "labels", "truncation")),
    "per_class": ("classes", ("num", "columns", "seed", "truncation")),
    "interpolate": ("interpolations", ("num", "columns", "seed", "labels", "truncation", "space")),
    "sefa": ("semantics", ("sefa", "columns", "seed", "labels", "truncation", "extent", "layers")),
    "invert": ("inversions", ("invert", "columns", "seed", "labels", "steps")),
}


FLAGS.append_flag_values(film.FLAGS)


@app.command(FLAGS, required=["workdir", "out"], less_memory=lambda *_: "a smaller --num needs less")
def main(flags) -> None:
    from jaxgan.evaluation import networks
    from jaxgan.sampling import load, pictures, sheets

    (mode, table), out = film.choose(flags, SHEETS), as_path(flags.out, "--out", local=True, new=True)

    def load_generator():
        with app.naming_flags((), path="workdir"):
            return load.load(flags.workdir, flags.step, flags.sigma_rel)

    with app.naming_flags(FLAGS, n="num", rows="num", k="sefa", path="invert", images="invert"):
        try:
            if table is film.FILMS:
                return print(film.write(flags, mode, load_generator))
            other = f", or for a film {film.ENDINGS}" if mode in film.FILMS else ""
            pictures.check_suffix(flags.out, "--out", other)
            function, (first, *names) = SHEETS[mode]
            options = {name: flags[name].value for name in names}
            generator = load_generator()
            if mode == "invert" and generator.image_shape == (32, 32, 3):
                network = networks.cifar.load()
                options["features"] = lambda x: network.apply(network.variables, (x + 1.0) * 127.5)["pool"]
            sheet = getattr(sheets, function)(generator, flags[first].value, **options)
        except (ValueError, OSError) as error:
            raise ConfigError(error) from error
    data_name = generator.config.data.name
    pictures.save_images(out, sheet.images, sheet.columns, data_name, sheet.titles, **sheet.arrays)
    print(f"{len(sheet.images)} images of {generator} in {out}")
