"""The layers of PyTorch's nets, made into those of ours one by one: order of axes, batch norm and spectral norm."""

import numpy as np

from jaxgan.conversion import spectral
from jaxgan.conversion.objects import Arrays

UNUSED = ("num_batches_tracked",)  # how often statistics were updated, which nothing depends on
DECONV = (2, 3, 0, 1)  # of a transposed convolution, whose weight is [in, out, H, W]
CONV, DENSE, TABLE = (2, 3, 1, 0), (1, 0), (0, 1)  # axes of weights there, in our order
VECTORS = {"u0": "sv0", "sn_u": "sn_sigma"}  # of BigGAN-PyTorch; of mimicry's own spectral norm


class Net:
    """Collects the variables of one of our nets from the arrays of another's.

    A layer under spectral norm is one with the arrays that `torch.nn.utils.spectral_norm` keeps (weight_orig, weight_u
    and weight_v), or with a vector and its norm (`VECTORS`). Names of layers there are without ".weight".
    """

    def __init__(self, arrays: Arrays):
        self.arrays, self._params, self._stats = arrays, {}, {}

    def variables(self) -> dict:
        """Returns what was collected; a ValueError names arrays that nothing was made of."""
        self.arrays.require_empty(UNUSED)
        stats = {"batch_stats": self._stats} if self._stats else {}
        return {"params": self._params} | stats

    def conv(self, ours: str, theirs: str, bias: bool = True) -> None:
        """Makes a convolution."""
        self._layer(ours, theirs, CONV, bias)

    def deconv(self, ours: str, theirs: str) -> None:
        """Makes a transposed convolution."""
        if self.is_spectral(theirs):
            raise ValueError("its G has spectral norm on transposed convolutions; jaxgan's has not")
        self._layer(ours, theirs, DECONV, bias=True)

    def dense(self, ours: str, theirs: str, bias: bool = True, pixels: int = 1) -> None:
        """Makes a dense layer, whose outputs are a map of so many pixels, [C, H, W] there and [H, W, C] here."""
        self._layer(ours, theirs, DENSE, bias, pixels)

    def table(self, ours: str, theirs: str) -> None:
        """Makes a table with a row for each class."""
        self._weight(f"{ours}/embedding", theirs, TABLE)

    def linear_table(self, ours: str, theirs: str) -> None:
        """Makes a table of a dense layer without bias, whose inputs there are one-hot vectors of classes."""
        self._weight(f"{ours}/embedding", theirs, DENSE)

    def norm(
        self, ours: str, theirs: str, scale: str | None = "weight", stored: str = "running_", more_eps: float = 0.0
    ) -> None:
        """Makes a batch norm.

        Args:
          ours, theirs: its names.
          scale: the name of its gain there; None: it has none and no bias.
          stored: what the names of its statistics begin with there.
          more_eps: by how much its epsilon is larger there than here, where there is no setting for it; the variance
            takes it up.
        """
        if scale:
            self.put(f"{ours}/scale", self.arrays.take(f"{theirs}.{scale}"))
            self.put(f"{ours}/bias", self.arrays.take(f"{theirs}.bias"))
        for name in ("mean", "var"):
            array = self.arrays.take(f"{theirs}.{stored}{name}")
            _put(self._stats, f"{ours}/{name}", array + np.float32(more_eps) if name == "var" else array)

    def attention(self, theirs: str, query: str, key: str, value: str, out: str, sigma: str) -> None:
        """Makes the self-attention, of the names of its four convolutions and its factor there."""
        for ours, name in {"query": query, "key": key, "value": value, "out": out}.items():
            self._weight(f"attention/{ours}/kernel", f"{theirs}.{name}", CONV)
        self.put("attention/sigma", self.arrays.take(f"{theirs}.{sigma}").reshape(()))

    def put(self, ours: str, array: np.ndarray) -> None:
        """Sets a parameter."""
        _put(self._params, ours, array)

    def has(self, theirs: str) -> bool:
        """Returns whether there is a layer of this name."""
        return f"{theirs}.weight" in self.arrays or self.is_spectral(theirs)

    def count(self, pattern: str) -> int:
        """Returns how many of the numbers 0, 1, .. make a layer that is there."""
        n = 0
        while self.has(pattern.format(n)):
            n += 1
        return n

    def is_spectral(self, theirs: str) -> bool:
        """Returns whether a layer is under spectral norm."""
        return any(f"{theirs}.{name}" in self.arrays for name in ("weight_orig", *VECTORS))

    def shape(self, theirs: str) -> tuple[int, ...]:
        """Returns the shape of a layer's weight, outputs first."""
        original = f"{theirs}.weight_orig"
        shape = self.arrays.shape(original if original in self.arrays else f"{theirs}.weight")
        if len(shape) < 2:
            raise ValueError(f"{theirs} has a weight of the shape {list(shape)}")
        return shape

    def _layer(self, ours, theirs, axes, bias, pixels=1):
        self._weight(f"{ours}/kernel", theirs, axes, pixels)
        if bias:
            self.put(f"{ours}/bias", _channels_last(self.arrays.take(f"{theirs}.bias"), pixels))

    def _weight(self, ours, theirs, axes, pixels=1):
        is_spectral, shape = self.is_spectral(theirs), self.shape(theirs)
        if len(shape) != len(axes):
            raise ValueError(f"{theirs} has a weight of the shape {list(shape)}, not {len(axes)} axes")
        original = f"{theirs}.weight_orig"
        weight = self.arrays.take(original if original in self.arrays else f"{theirs}.weight")
        weight = _channels_last(weight, pixels)
        kernel = np.ascontiguousarray(weight.transpose(axes))
        self.put(ours, kernel)
        if is_spectral:
            top, *_ = ours.split("/")
            for name, value in self._spectral(theirs, weight, kernel, axes, pixels).items():
                self._stats.setdefault(f"sn_{top}", {})[f"{ours}/{name}"] = value

    def _spectral(self, theirs, weight, kernel, axes, pixels) -> dict[str, np.ndarray]:
        matrix = kernel.reshape(-1, kernel.shape[-1]).astype(np.float64)
        table = axes == TABLE
        for vector, norm in VECTORS.items():
            if f"{theirs}.{vector}" in self.arrays:
                self.arrays.take(f"{theirs}.{norm}")  # as of the last step; it is computed anew whenever it is used
                u = _channels_last(self.arrays.take(f"{theirs}.{vector}").ravel(), pixels).astype(np.float64)
                if not table:
                    return spectral.state(matrix, u)
                v = spectral.unit(u @ matrix)
                return spectral.table_state(matrix, spectral.unit(matrix @ v), v)
        u, v = (self.arrays.take(f"{theirs}.weight_{name}").astype(np.float64) for name in "uv")
        if table:
            return spectral.table_state(matrix, u, v)
        if v.size != weight[0].size:
            raise ValueError(f"{theirs} has a vector of {v.size} numbers for {weight[0].size}")
        inputs = v.reshape(1, *weight.shape[1:]).transpose(axes).ravel()
        outputs = _channels_last(u, pixels)
        return spectral.kernel_state(matrix, outputs, inputs)


def _channels_last(array: np.ndarray, pixels: int) -> np.ndarray:
    """Returns an array whose first axis is [C, pixels] with one that is [pixels, C]."""
    return array if pixels == 1 else array.reshape(-1, pixels, *array.shape[1:]).swapaxes(0, 1).reshape(array.shape)


def _put(tree: dict, path: str, array: np.ndarray) -> None:
    *above, name = path.split("/")
    for key in above:
        tree = tree.setdefault(key, {})
    tree[name] = array
