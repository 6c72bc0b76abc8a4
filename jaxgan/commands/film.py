"""What `jaxgan sample` draws where --out is a film: flags, and one call each."""

import itertools

from absl import flags

from jaxgan.core.errors import ConfigError, require
from jaxgan.core.files import as_path

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
ENDINGS = "a FILE.mp4, FILE.webp or FILE.gif"


def choose(flags, sheets: dict) -> tuple[str, dict]:
    """Returns what the flags ask for, and its table; raises a ConfigError for flags that do not go together."""
    tables = {"a picture": sheets, "a film": FILMS}
    here = "a film" if flags.out.endswith((".mp4", ".webp", ".gif")) else "a picture"
    takers = {(kind, mode): names for kind, table in tables.items() for mode, (_, names) in table.items()}
    mode, *more = dict.fromkeys(mode for _, mode in takers if mode and flags[mode].value) or [""]
    if more:
        raise ConfigError(f"--{mode} and --{more[0]}: give one of them")
    right = f"a film is of --{' or --'.join(FILMS)}, and {ENDINGS}"
    require(mode in tables[here], "--out", flags.out, right)
    for name in dict.fromkeys(itertools.chain(*takers.values())):
        if flags[name].present and name not in takers[here, mode]:
            kinds, modes = map(set, zip(*(taker for taker, names in takers.items() if name in names), strict=True))
            alone = f"--{modes.pop()}" if len(modes) == 1 else ""
            if here not in kinds:
                goes = f"goes with {kinds.pop()}{f' and {alone}' * bool(alone)}; --out={flags.out} is {here}"
            else:
                goes = f"goes with {alone}" if alone else f"means nothing with --{mode}"
            raise ConfigError(f"--{name} {goes}")
    return mode, tables[here]


def write(flags, mode: str, load) -> str:
    """Writes the film that the flags ask for; returns what it is, in words.

    Args:
      mode: a key of `FILMS`.
      load: returns the generator.
    """
    from jaxgan.sampling import films
    from jaxgan.settings import images_per_step, read

    films.check_suffix(flags.out, "--out", flags.fps)
    options = {name: flags[name].value for name in FILMS[mode][1]}
    if mode == "interpolate":
        film, what = films.walk(generator := load(), **options), f"{generator}"
    else:
        file = as_path(flags.workdir, "--workdir", local=True) / "config.json"
        require(file.is_file(), "--workdir", flags.workdir, "no run is there (no config.json)")
        for name in ("step", "sigma_rel"):
            right = "means nothing with --timelapse, which shows the grids of a run"
            require(not flags[name].present, f"--{name}", flags[name].value, right)
        film = films.timelapse(flags.workdir, images_per_step=images_per_step(read(file)), **options)
        what = f"the training in {flags.workdir}"
    films.save_film(flags.out, film)
    return f"{film.count / film.fps:,.4g} s, {film.count} frames, of {what} in {as_path(flags.out)}"
