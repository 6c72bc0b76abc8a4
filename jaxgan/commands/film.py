"""What `jaxgan sample` draws where --out is a film: flags, and one call each."""

from absl import flags

from jaxgan.core.errors import ConfigError, require
from jaxgan.core.files import as_path, read_json

FLAGS = flags.FlagValues()
flags.DEFINE_bool("timelapse", False, "A film of the run's grids over its training.", FLAGS)
flags.DEFINE_integer("loop", 8, "Film: latents that each sample passes through.", 1, flag_values=FLAGS)
flags.DEFINE_float("seconds", 10.0, "Film: its length.", 0.1, flag_values=FLAGS)
flags.DEFINE_float("fps", 30.0, "Film: frames a second.", 1.0, flag_values=FLAGS)

# As `sample.SHEETS`, of sampling/films.py.
FILMS = {
    "interpolate": ("walk", ("loop", "columns", "seed", "labels", "truncation", "space", "seconds", "fps")),
    "timelapse": ("timelapse", ("seconds", "fps")),
}


def choose(flags, sheets: dict) -> tuple[str, dict]:
    """Returns what the flags ask for, and its table; raises a ConfigError for flags that do not go together."""
    tables = (sheets, FILMS)[:: -1 if flags.out.endswith((".mp4", ".webp", ".gif")) else 1]
    takers = [(mode, names) for table in tables for mode, (_, names) in table.items()]
    mode, *more = dict.fromkeys(name for name, _ in takers if name and flags[name].value) or [""]
    if more:
        raise ConfigError(f"--{mode} and --{more[0]}: give one of them")
    right = f"a film is of --{' or --'.join(FILMS)}, and FILE.mp4, FILE.webp or FILE.gif"
    require(mode in tables[0], "--out", flags.out, right)
    for name in dict.fromkeys(name for _, names in takers for name in names):
        if flags[name].present and name not in tables[0][mode][1]:
            taker = next(other for other, names in takers if name in names)
            what = "a picture" if tables[0] is FILMS else "a film"
            goes = f"goes with {what}" if taker == mode else f"goes with --{taker}"
            raise ConfigError(f"--{name} {goes if taker else f'means nothing with --{mode}'}")
    return mode, tables[0]


def write(flags, mode: str, load) -> str:
    """Writes the film that the flags ask for; returns what it is, in words.

    Args:
      mode: a key of `FILMS`.
      load: returns the generator.
    """
    from jaxgan.sampling import films
    from jaxgan.settings import from_dict, images_per_step

    films.check_suffix(flags.out, "--out")
    options = {name: flags[name].value for name in FILMS[mode][1]}
    if mode == "interpolate":
        film, what = films.walk(generator := load(), **options), f"{generator}"
    else:
        file = as_path(flags.workdir, "--workdir", local=True) / "config.json"
        require(file.is_file(), "--workdir", flags.workdir, "no run is there (no config.json)")
        film = films.timelapse(flags.workdir, images_per_step=images_per_step(from_dict(read_json(file))), **options)
        what = f"the training in {flags.workdir}"
    films.save_film(flags.out, film)
    return f"{film.count} frames of {what} in {as_path(flags.out)}"
