"""Statistics of reals in a file, mu and sigma, as pytorch-fid, clean-fid, ADM and EDM exchange them."""

import io
import pathlib
import zipfile
from typing import NamedTuple

import numpy as np

from jaxgan.core.errors import ConfigError
from jaxgan.core.files import as_path, atomic_write
from jaxgan.evaluation.metrics.frechet import Gaussian

SPATIAL = "inception/spatial"  # which ADM names mu_s and sigma_s


class Statistics(NamedTuple):
    """The mean and covariance of features of a set of images, which are all that a Fréchet distance takes.

    Attributes:
      path: the file.
      gaussians: {features: Gaussian}; "" are features that the file does not name.
      n: images; 0: not known.
    """

    path: str
    gaussians: dict[str, Gaussian]
    n: int

    def of(self, features: str, width: int) -> Gaussian:
        """Returns the Gaussian of features of this width; raises a ValueError where the file has none."""
        found = self.gaussians.get(features)
        if found is None and features != SPATIAL:
            found = self.gaussians.get("")
        if found is None:
            raise ValueError(f"has {', '.join(self.gaussians)}, not {features}")
        if len(found.mean) != width:
            raise ValueError(f"has a mu of {len(found.mean)} numbers; {features} has {width}")
        return found


def read_statistics(path, setting: str = "reals") -> Statistics | None:
    """Returns the statistics in a file, or None where it is no .npz with a mu; `setting` is where the path is from."""
    file = as_path(path, setting, local=True)
    if file.suffix.lower() != ".npz":
        return None
    try:
        with np.load(file) as saved:
            if "mu" not in saved and "mu_s" not in saved:
                return None
            features = str(saved["features"]) if "features" in saved else ""
            names = {features: ("mu", "sigma"), SPATIAL: ("mu_s", "sigma_s")}
            pairs = {name: pair for name, pair in names.items() if pair[0] in saved}
            if missing := [key for pair in pairs.values() for key in pair if key not in saved]:
                raise ValueError(f"it lacks {', '.join(missing)}")
            gaussians = {name: Gaussian(*(saved[key] for key in pair)) for name, pair in pairs.items()}
            return Statistics(str(path), gaussians, int(saved["n"]) if "n" in saved else 0)
    except FileNotFoundError as error:
        raise ConfigError(f"{setting}={str(path)!r}: there is no such file") from error
    except (zipfile.BadZipFile, OSError, KeyError, TypeError, ValueError, EOFError) as error:
        raise ConfigError(f"{setting}={str(path)!r}: holds no statistics that can be read: {error}") from error


def write_statistics(path: pathlib.Path, gaussians: dict[str, Gaussian], n: int) -> None:
    """Writes statistics of n images, which pytorch-fid, clean-fid, ADM and EDM read too."""
    arrays = {"n": n}
    for features, gaussian in gaussians.items():
        suffix = "_s" * (features == SPATIAL)
        arrays |= {f"mu{suffix}": gaussian.mean, f"sigma{suffix}": gaussian.covariance}
        arrays |= {} if suffix else {"features": features}
    content = io.BytesIO()
    np.savez(content, **arrays)
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, content.getvalue())
