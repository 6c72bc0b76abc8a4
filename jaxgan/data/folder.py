"""A directory of image files; its sub-directories, if it has any, are the classes."""

from pathlib import Path

from jaxgan.config import ConfigError
from jaxgan.data import decode

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


class FolderSource:
    """The images `names` (with "/") below `root`, as RGB; the first part of a name is the class."""

    def __init__(self, root: Path, names: list[str], size: int):
        self._root, self._names = root, names
        self.image_shape = (size, size, 3)
        classes = sorted({name.split("/")[0] for name in names if "/" in name})
        loose = [name for name in names if "/" not in name]
        if classes and loose:
            raise ConfigError(
                f"config.data.dir={str(root)!r} has images both in folders, which are classes ({classes[0]}, ...), "
                f"and beside them ({loose[0]}, ...): keep one kind"
            )
        number = {name: i for i, name in enumerate(classes)}
        self.num_classes = len(classes)
        self._labels = [number.get(name.split("/")[0], 0) for name in names]

    def __len__(self):
        return len(self._names)

    def read(self, indices):
        return [(self._image(i), self._labels[i]) for i in indices]

    def _image(self, i):
        path = self._root / self._names[i]
        try:
            return decode.decode(path, self.image_shape[0], self.image_shape[2])
        except Exception as error:  # Pillow's decoders raise many types
            raise OSError(f"{path} is not a readable image: {error}") from error


def open_folder(directory: str, size: int) -> tuple[FolderSource, Path]:
    """All images below `directory`, sorted by name, and where they are kept when decoded: `decode.cache_home`."""
    root = Path(directory).expanduser().resolve()
    if not directory or not root.is_dir():
        raise ConfigError(f"config.data.dir={directory!r}: must be the directory of images")
    found = sorted(path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    hidden = {path for path in found if any(part.startswith(".") for part in path.parts)}
    names = [path.as_posix() for path in found if path not in hidden]
    if not names:
        raise ConfigError(f"config.data.dir={directory!r}: holds no image ({', '.join(SUFFIXES)})")
    # A file that is replaced changes its size or its time, so the folder is decoded again.
    stats = [(root / name).stat() for name in names]
    key = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in zip(names, stats, strict=True)]
    return FolderSource(root, names, size), decode.cache_home(str(root), f"{size} {decode.VERSION}", *key)
