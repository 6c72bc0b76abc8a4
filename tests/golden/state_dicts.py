"""Writes tiny checkpoints as mimicry saves them, without its code: random weights, as after a step of training.

The weights are a function of their names. state_dicts.npz has what the official code makes of them:

    python tests/golden/state_dicts.py MIMICRY

That is a clone of the official repository; this needs PyTorch, and the test, which compares, does not.
"""

import sys
import zlib
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_suffix(".npz")
WIDTH, LATENT, CLASSES, SIZE = 8, 16, 3, 32
STRIDE = 3  # of the pixels that are kept


class Shapes(dict):
    """Collects {name: shape}, layer by layer; what a name ends with says which kind of numbers are in it."""

    def layer(self, name, *shape, bias=True, sn=None):
        """Adds a weight, with the vectors of its spectral norm: those of PyTorch, or one and its norm."""
        rest = int(np.prod(shape[1:]))
        self |= {f"{name}.bias": shape[:1]} if bias else {}
        if sn == "torch":
            self |= {f"{name}.weight_orig": shape, f"{name}.weight_u": shape[:1], f"{name}.weight_v": (rest,)}
        else:
            self[f"{name}.weight"] = shape
            self |= {f"{name}.{kept}": (1, shape[0]) if i == 0 else (1,) for i, kept in enumerate(sn or ())}

    def norm(self, name, width, affine="weight", stored="running_"):
        self |= {f"{name}.{affine}": (width,), f"{name}.bias": (width,)} if affine else {}
        self |= {f"{name}.{stored}mean": (width,), f"{name}.{stored}var": (width,)}
        self |= {f"{name}.num_batches_tracked": ()} if stored == "running_" else {}

    def attention(self, name, names, gamma, sn):
        for part, outputs, inputs in zip(names, (1, 1, 4, 8), (8, 8, 8, 4), strict=True):
            self.layer(f"{name}.{part}", outputs, inputs, 1, 1, bias=False, sn=sn)
        self[f"{name}.{gamma[0]}"] = gamma[1]


def mimicry(spectral: bool) -> dict[str, Shapes]:
    """Returns names and shapes of SNGAN without classes or, with spectral norm in G, of SAGAN with them."""
    g, d, sn = Shapes(), Shapes(), "torch" if spectral else None
    g.layer("l1", 16 * WIDTH, LATENT, sn=sn)
    for block in ("block2", "block3", "block4"):
        for conv, size in {"c1": 3, "c2": 3, "c_sc": 1}.items():
            g.layer(f"{block}.{conv}", WIDTH, WIDTH, size, size, sn=sn)
        for norm in ("b1", "b2"):
            g.norm(f"{block}.{norm}.bn" if spectral else f"{block}.{norm}", WIDTH, None if spectral else "weight")
            g |= {f"{block}.{norm}.embed.weight": (CLASSES, 2 * WIDTH)} if spectral else {}
    g.norm("b5", WIDTH)
    g.layer("c5", 3, WIDTH, 3, 3, sn=sn)
    for i, inputs in enumerate((3, WIDTH, WIDTH, WIDTH)):
        d.layer(f"block{i + 1}.c1", WIDTH, inputs, 3, 3, sn="torch")
        d.layer(f"block{i + 1}.c2", WIDTH, WIDTH, 3, 3, sn="torch")
        if i < 2:
            d.layer(f"block{i + 1}.c_sc", WIDTH, inputs, 1, 1, sn="torch")
    d.layer("l5", 1, WIDTH, sn="torch")
    if spectral:
        d.layer("l_y", CLASSES, WIDTH, bias=False, sn="torch")
        for net in (g, d):
            net.attention("attn_block", ("theta", "phi", "g", "o"), ("gamma", ()), "torch")
    return {"G": g, "D": d}


CASES = {"mimicry/sngan": lambda: mimicry(False), "mimicry/sagan": lambda: mimicry(True)}


def weights(shapes: dict[str, tuple], net: str) -> dict[str, np.ndarray]:
    """Returns normal numbers of a size that keeps activations moderate; kept vectors are those of one iteration."""
    made = {}
    for name, shape in shapes.items():
        draw = np.random.default_rng(zlib.crc32(f"{net}.{name}".encode()))
        scale = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.5
        value = np.asarray(draw.normal(size=shape) * scale, np.float32)
        end = name.rpartition(".")[2]
        if end in ("running_var", "stored_var", "sigma", "gamma"):
            value = np.asarray(np.abs(value) + np.float32(0.5))
        elif end == "num_batches_tracked":
            value = np.asarray(7)
        made[name] = value
    for name in shapes:
        if name.endswith(".weight_v"):
            matrix = made[name.replace("weight_v", "weight_orig")]
            matrix = matrix.reshape(len(matrix), -1)
            made[name] = unit(made[name.replace("weight_v", "weight_u")] @ matrix)
            made[name.replace("weight_v", "weight_u")] = unit(matrix @ made[name])
    return made


def unit(x):
    return x / np.linalg.norm(x)


def inputs() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    images = draw.uniform(-1, 1, (3, 3, SIZE, SIZE))
    return {"z": np.float32(draw.normal(size=(3, LATENT))), "x": np.float32(images), "labels": np.arange(3) % CLASSES}


def checkpoint(case: str, part: str, arrays: dict) -> dict:
    """Returns what the file of a net holds, beside its arrays."""
    optimizer = {"state": {0: {"step": 3, "exp_avg": next(iter(arrays.values()))}}, "param_groups": [{"lr": 2e-4}]}
    return {"model_state_dict": arrays, "optimizer_state_dict": optimizer, "global_step": 3}


def file_name(case: str, part: str) -> str:
    return f"net{part}/net{part}_3_steps.pth"


def write(path: Path, content: dict) -> None:
    """Writes a file of before PyTorch 1.6: a dictionary of arrays and of whatever else can be pickled."""
    from tests.golden.torch_writer import dumps, legacy_file, storage, tensor

    storages = {}

    def convert(value):
        if isinstance(value, dict):
            return {key: convert(item) for key, item in value.items()}
        if not isinstance(value, np.ndarray):
            return value
        key, kind = str(len(storages)), "Float" if value.dtype == np.float32 else "Long"
        storages[key] = np.array(value, order="C")
        strides = tuple(stride // value.itemsize for stride in storages[key].strides)
        return tensor(0, value.shape, strides, storage(value.size, key, kind, None))

    pickled, keys = dumps(convert(content)), sorted(storages)
    data = b"".join(storages[key].size.to_bytes(8, "little") + storages[key].tobytes() for key in keys)
    path.parent.mkdir(parents=True, exist_ok=True)
    legacy_file(path, pickled, keys, data)


def write_case(directory: Path, case: str, change=None) -> Path:
    """Writes the files of a case, after change(part, arrays), and returns that of G."""
    for part, shapes in CASES[case]().items():
        arrays = weights(shapes, f"{case}/{part}")
        if change:
            change(part, arrays)
        write(directory / file_name(case, part), checkpoint(case, part, arrays))
    return directory / file_name(case, "G")


def official_outputs(mimicry: str) -> dict[str, np.ndarray]:
    """Returns what the official nets make of these weights."""
    import types

    import torch

    given = inputs()
    z, x, y = (torch.tensor(given[name]) for name in ("z", "x", "labels"))
    outputs = {}

    def run(case, nets, call):
        for part, shapes in CASES[case]().items():
            state = {name: torch.tensor(array) for name, array in weights(shapes, f"{case}/{part}").items()}
            nets[part].load_state_dict(state)
            with torch.no_grad():
                answer = call(nets[part].eval(), part)
            outputs[f"{case}/{part}"] = answer.numpy()[..., ::STRIDE, ::STRIDE] if part != "D" else answer.numpy()

    package = types.ModuleType("torch_mimicry")  # without its __init__, which needs TensorFlow
    package.__path__ = [f"{mimicry}/torch_mimicry"]
    sys.modules["torch_mimicry"] = package
    from torch_mimicry.nets.sagan.sagan_32 import SAGANDiscriminator32, SAGANGenerator32
    from torch_mimicry.nets.sngan.sngan_32 import SNGANDiscriminator32, SNGANGenerator32

    nets = {"G": SNGANGenerator32(nz=LATENT, ngf=WIDTH), "D": SNGANDiscriminator32(ndf=WIDTH)}
    run("mimicry/sngan", nets, lambda net, part: net(x if part == "D" else z))
    nets = {"G": SAGANGenerator32(CLASSES, nz=LATENT, ngf=WIDTH), "D": SAGANDiscriminator32(CLASSES, ndf=WIDTH)}
    run("mimicry/sagan", nets, lambda net, part: net(x if part == "D" else z, y))
    return outputs


if __name__ == "__main__":
    np.savez_compressed(GOLDEN, **official_outputs(*sys.argv[1:]))
    print(GOLDEN, GOLDEN.stat().st_size, "bytes")
