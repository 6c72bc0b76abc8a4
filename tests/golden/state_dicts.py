"""Writes tiny checkpoints as mimicry, BigGAN-PyTorch and StudioGAN save them, without their code.

The weights are a function of their names. state_dicts.npz has what the official code makes of them:

    python tests/golden/state_dicts.py MIMICRY BIGGAN_PYTORCH STUDIOGAN

These are clones of the official repositories; this needs PyTorch, and the test, which compares, does not.
"""

import sys
import zlib
from pathlib import Path

import numpy as np

if __name__ != "__main__":
    from tests.golden.torch_writer import Call, dumps, legacy_file, storage, tensor

GOLDEN = Path(__file__).with_suffix(".npz")
WIDTH, LATENT, SHARED, CLASSES, SIZE = 8, 16, 6, 3, 32
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


def biggan_pytorch() -> dict[str, Shapes]:
    """Returns names and shapes of BigGAN with --hier and --G_shared, and attention at 16 pixels."""
    g, d, sn, attention = Shapes(), Shapes(), ("u0", "sv0"), (("theta", "phi", "g", "o"), ("gamma", ()), ("u0", "sv0"))
    g["shared.weight"] = (CLASSES, SHARED)
    g.layer("linear", 16 * WIDTH, LATENT // 4, sn=sn)
    for i in range(3):
        for conv, size in {"conv1": 3, "conv2": 3, "conv_sc": 1}.items():
            g.layer(f"blocks.{i}.0.{conv}", WIDTH, WIDTH, size, size, sn=sn)
        for norm in ("bn1", "bn2"):
            g.norm(f"blocks.{i}.0.{norm}", WIDTH, None, "stored_")
            for part in ("gain", "bias"):
                g.layer(f"blocks.{i}.0.{norm}.{part}", WIDTH, SHARED + LATENT // 4, bias=False, sn=sn)
    g.attention("blocks.1.1", *attention)
    g.norm("output_layer.0", WIDTH, "gain", "stored_")
    g.layer("output_layer.2", 3, WIDTH, 3, 3, sn=sn)
    for i, inputs in enumerate((3, WIDTH, WIDTH, WIDTH)):
        d.layer(f"blocks.{i}.0.conv1", WIDTH, inputs, 3, 3, sn=sn)
        d.layer(f"blocks.{i}.0.conv2", WIDTH, WIDTH, 3, 3, sn=sn)
        if i < 2:
            d.layer(f"blocks.{i}.0.conv_sc", WIDTH, inputs, 1, 1, sn=sn)
    d.layer("linear", 1, WIDTH, sn=sn)
    d.layer("embed", CLASSES, WIDTH, bias=False, sn=sn)
    return {"G": g, "G_ema": g, "D": d}


def studiogan_resnet() -> dict[str, Shapes]:
    """Returns names and shapes of SAGAN: the backbone resnet with class-conditional batch norm and a projection."""
    g, d, sn = Shapes(), Shapes(), "torch"
    attention = tuple(f"conv1x1_{name}" for name in ("theta", "phi", "g", "attn")), ("sigma", (1,)), sn
    g.layer("linear0", 16 * WIDTH, LATENT, sn=sn)
    for i in (0, 1, 3):
        for conv, size in {"conv2d0": 1, "conv2d1": 3, "conv2d2": 3}.items():
            g.layer(f"blocks.{i}.0.{conv}", WIDTH, WIDTH, size, size, sn=sn)
        for norm in ("bn1", "bn2"):
            g.norm(f"blocks.{i}.0.{norm}.bn", WIDTH, None)
            for part in ("gain", "bias"):
                g.layer(f"blocks.{i}.0.{norm}.{part}", WIDTH, CLASSES, bias=False, sn=sn)
    g.attention("blocks.2.0", *attention)
    g.norm("bn4", WIDTH)
    g.layer("conv2d5", 3, WIDTH, 3, 3, sn=sn)
    for i, inputs in ((0, 3), (2, WIDTH), (3, WIDTH), (4, WIDTH)):
        convs = ("conv2d1", inputs, 3), ("conv2d2", WIDTH, 3), ("conv2d0", inputs, 1)
        for conv, wide, size in convs[: 3 if i < 3 else 2]:
            d.layer(f"blocks.{i}.0.{conv}", WIDTH, wide, size, size, sn=sn)
    d.attention("blocks.1.0", *attention)
    d.layer("linear1", 1, WIDTH, sn=sn)
    d.layer("embedding", CLASSES, WIDTH, bias=False, sn=sn)
    return {"G": g, "D": d}


def studiogan_deep_conv() -> dict[str, Shapes]:
    """Returns names and shapes of the G of DCGAN with classes: the backbone deep_conv, narrowed."""
    g = Shapes()
    g.layer("linear0", 16 * WIDTH, LATENT)
    for i in range(3):
        g.layer(f"blocks.{i}.0.deconv0", WIDTH, WIDTH, 4, 4)
        g.norm(f"blocks.{i}.0.bn0.bn", WIDTH, None)
        for part in ("gain", "bias"):
            g.layer(f"blocks.{i}.0.bn0.{part}", WIDTH, CLASSES, bias=False)
    g.layer("conv4", 3, WIDTH, 3, 3)
    return {"G": g}


CASES = {
    "mimicry/sngan": lambda: mimicry(False),
    "mimicry/sagan": lambda: mimicry(True),
    "biggan_pytorch/biggan": biggan_pytorch,
    "studiogan/sagan": studiogan_resnet,
    "studiogan/dcgan": studiogan_deep_conv,
}


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
    if case.startswith("mimicry"):
        return {"model_state_dict": arrays, "optimizer_state_dict": optimizer, "global_step": 3}
    if case.startswith("biggan"):
        return arrays
    best = Call("numpy.core.multiarray.scalar", Call("numpy.dtype", "f8", False, True), np.float64(9.5).tobytes())
    return {"state_dict": arrays, "optimizer": optimizer, "step": 3, "best_fid": best, "lecam_emas": {"decay": 0.9}}


def file_name(case: str, part: str) -> str:
    """Returns the name that the official code gives to the file of a net."""
    family, _ = case.split("/")
    names = {"mimicry": "net{0}/net{0}_3_steps.pth", "biggan_pytorch": "{}_best0.pth"}
    return names.get(family, "model={}-best-weights-step=3.pth").format(part)


def write(path: Path, content: dict) -> None:
    """Writes a file of before PyTorch 1.6: a dictionary of arrays and of whatever else can be pickled."""
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


def official_outputs(mimicry: str, biggan: str, studiogan: str) -> dict[str, np.ndarray]:
    """Returns what the official nets make of these weights."""
    import contextlib
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

    sys.path.insert(0, biggan)
    import BigGAN

    options = dict(resolution=SIZE, n_classes=CLASSES, dim_z=LATENT, G_attn="16", D_attn="0")
    options |= dict(G_shared=True, hier=True, shared_dim=SHARED, G_ch=WIDTH // 4, D_ch=WIDTH // 4)
    nets = {"G": BigGAN.Generator(**options), "D": BigGAN.Discriminator(**options)}
    nets["G_ema"] = nets["G"]
    call = lambda net, part: net(x, y) if part == "D" else net(z, net.shared(y))  # noqa: E731
    run("biggan_pytorch/biggan", nets, call)

    sys.path[0] = f"{studiogan}/src"
    import utils

    utils.misc = types.ModuleType("utils.misc")  # whose own needs much that nets do not
    utils.misc.dummy_context_mgr = contextlib.nullcontext
    sys.modules["utils.misc"] = utils.misc
    from models import deep_conv, resnet
    from utils import ops

    def modules(spectral):
        made = types.SimpleNamespace(g_bn=ops.ConditionalBatchNorm2d, d_bn=ops.batchnorm_2d)
        made.g_act_fn = made.d_act_fn = torch.nn.ReLU(inplace=True)
        names = {"conv2d": "snconv2d", "deconv2d": "sndeconv2d", "linear": "snlinear", "embedding": "sn_embedding"}
        for plain, normed in names.items():
            layer = getattr(ops, normed if spectral else plain)
            setattr(made, f"g_{plain}", layer)
            setattr(made, f"d_{plain}", layer)
        return made

    model = types.SimpleNamespace(info_type="N/A", g_info_injection="N/A")
    last = "ortho", "N/A", False
    g = resnet.Generator(LATENT, 0, SIZE, WIDTH // 4, True, [2], "cBN", CLASSES, *last, modules(True), model)
    conditioning = "PD", "W/O", 0, False, CLASSES
    d = resnet.Discriminator(SIZE, WIDTH // 2, True, True, [1], *conditioning, *last, modules(True), model)
    call = lambda net, part: net(x, y)["adv_output"] if part == "D" else net(z, y)  # noqa: E731
    run("studiogan/sagan", {"G": g, "D": d}, call)
    source = Path(deep_conv.__file__).read_text()
    source = source.replace("[512, 256, 128]", str([WIDTH] * 3)).replace("[256, 128, 64]", str([WIDTH] * 3))
    exec(source, deep_conv.__dict__)
    g = deep_conv.Generator(LATENT, 0, SIZE, 0, False, [], "cBN", CLASSES, *last, modules(False), model)
    run("studiogan/dcgan", {"G": g}, call)
    return outputs


if __name__ == "__main__":
    np.savez_compressed(GOLDEN, **official_outputs(*sys.argv[1:]))
    print(GOLDEN, GOLDEN.stat().st_size, "bytes")
