"""BigGAN and SAGAN as BigGAN-PyTorch saves them: state dicts alone, of G, its average and D in a file each."""

from jaxgan.conversion import residual
from jaxgan.conversion.layers import Net
from jaxgan.conversion.objects import Arrays, Converted, any_generator
from jaxgan.conversion.state_dicts import generators

LICENCE = "BigGAN-PyTorch is under the MIT License; the weights are under the terms of whoever trained them"
ATTENTION = ("theta", "phi", "g", "o", "gamma")
NAMES = residual.Names(
    "conv1", "conv2", "conv_sc", "bn1", "bn2", ATTENTION, "linear", "output_layer.2", "linear", "embed"
)
BN_EPS = 1e-5  # the default of its training and of its scripts; files do not have it


def knows(nets: dict[str, Arrays]) -> bool:
    """Returns whether state dicts are those of a generator of this family."""
    return any(Net(nets[part]).has("output_layer.2") for part in ("G", "G_ema") if part in nets)


def convert(nets: dict[str, Arrays]) -> Converted:
    """Returns the networks; raises a ValueError where their architecture is none that jaxgan has."""
    g = Net(nets["G"] if "G" in nets else nets["G_ema"])
    if not g.is_spectral("linear"):
        raise ValueError("its G has no spectral norm; jaxgan's biggan and sagan have it on all weights")
    if g.has("blocks.0.0.conv3"):
        raise ValueError("its G is BigGAN-deep's, which jaxgan does not have")
    blocks, attended = _blocks(g)
    size, shared = 4 << len(blocks), g.has("shared")
    z_dim, gain = g.shape("linear")[1], g.shape("blocks.0.0.bn1.gain")
    if shared:
        classes, shared_dim = g.shape("shared")
        if gain[1] - shared_dim != z_dim:
            raise ValueError("its G has a class embedding but no z in its blocks (no --hier); jaxgan's biggan has both")
        settings = {"model.name": "biggan", "model.z_dim": z_dim * (len(blocks) + 1), "model.g.shared_dim": shared_dim}
    else:
        classes, _ = gain
        settings = {"model.name": "sagan", "model.z_dim": z_dim, "model.g.spectral_tables": False}
    settings |= residual.generator_settings(g, NAMES, blocks, attended)
    settings |= {"model.g.bn_eps": BN_EPS}
    variables = generators(nets, lambda arrays: _generator(Net(arrays), shared))
    if "D" in nets:
        d = Net(nets["D"])
        blocks, attended = _blocks(d)
        if not shared and size != 32:
            raise ValueError("its D widens in the first convolution of a block; jaxgan's sagan in the second")
        settings |= residual.discriminator_settings(d, NAMES, blocks, attended, size) | {"model.d.relu_skips": False}
        variables["d"] = residual.discriminator(d, NAMES, blocks, _attention(d))
    channels = any_generator(variables)["params"]["pixels"]["bias"].shape[0]
    return Converted("BigGAN-PyTorch", LICENCE, settings, size, channels, classes, variables)


def _blocks(net: Net) -> tuple[list[str], int | None]:
    """Returns the prefixes of the blocks, and the number of the first with an attention behind it."""
    blocks = [f"blocks.{i}.0" for i in range(net.count("blocks.{}.0.conv1"))]
    attended = [i for i in range(len(blocks)) if net.has(f"blocks.{i}.1.theta")]
    return blocks, attended[0] if attended else None


def _attention(net: Net) -> str | None:
    _, attended = _blocks(net)
    return None if attended is None else f"blocks.{attended}.1"


def _generator(net: Net, shared: bool) -> dict:
    blocks, _ = _blocks(net)

    def norm(ours, theirs):
        if not shared:
            net.norm(f"{ours}/norm", theirs, scale=None, stored="stored_")
            net.table(f"{ours}/gain", f"{theirs}.gain")
            net.table(f"{ours}/bias", f"{theirs}.bias")
            return
        net.norm(ours, theirs, scale=None, stored="stored_")
        name = ours.removeprefix("norm_")
        net.dense(f"gain_{name}", f"{theirs}.gain", bias=False)
        net.dense(f"bias_{name}", f"{theirs}.bias", bias=False)

    if shared:
        net.table("classes", "shared")
    last = "norm" if shared else "norm/norm"
    return residual.generator(
        net, NAMES, blocks, _attention(net), norm, lambda: net.norm(last, "output_layer.0", "gain", "stored_")
    )
