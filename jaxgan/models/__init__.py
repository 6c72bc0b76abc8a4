"""Architectures: pairs of a generator and a discriminator, by the name that `config.model.name` gives them.

`MODELS` maps a name to (generator class, discriminator class). To add an architecture, write a module with two such
classes and enter them here, or do so from outside: `jaxgan.MODELS["tiny"] = (Generator, Discriminator)`. Files here
know no config, no loss and no optimizer.

Both classes are Flax modules, derived from `layers.BaseGenerator` and `layers.BaseDiscriminator`:

    images = Generator(**fields).apply(variables, z, labels, train, keys)
    logits, outputs = Discriminator(**fields).apply(variables, images, labels, train, keys)

What goes in and comes out:
  z: float32 [B, Z], standard normal; Z is the user's choice (config.model.z_dim), so read it from the shape.
  labels: int32 [B] in 0 .. num_classes - 1. Where the field `num_classes` is 0 they are ignored and may be None.
  train: whether batch norm, dropout and the like behave as in training; a Python bool.
  keys: PRNG keys [B], one an example, for all that is random inside a net (see `jaxgan.core.rng`), so that a sample
    depends neither on its batch nor on its device. The default is None; a net that needs keys raises a ValueError.
  images: float32 [B, H, W, C], (H, W, C) = `image_shape`, black at -1 and white at 1. A generator may
    leave that range (StyleGAN2 and R3GAN have no tanh); images are clipped to it when they are saved or scored.
  logits: float32 [B], of any size and never squashed to probabilities; high means real.
  outputs: a dict of what else D returns, such as "features" for feature matching and, with a class loss, "classes" or
    "embedding" and "proxy": see `layers.BaseDiscriminator`, whose `head` makes logits and outputs of features. A D
    without outputs may return the logits alone.

Variables are those that `init` makes: "params", float32, and any collections of state, such as "batch_stats". State
changes in training, where `apply` takes its collections as mutable, and must stay the same on all devices: what is
averaged over a batch is averaged over `axis_name` as well (`lax.pmean`; None: there is nothing more to average over).

Fields. A net takes the fields of its base (`layers.COMMON_FIELDS`), which the recipe fills in, and may add its own,
each annotated with bool, int, float or str and with a default: they are settings, config.model.g.<field> and
config.model.d.<field>. `self.widths` gives `channels`, checked against `WIDTHS`, or the default of the image size. A
net checks itself when it is called, by ValueErrors that begin with "field=value: "; a field that is written as
`blocks: int = bounded(2, least=1)` (of `jaxgan.models.layers`) is checked for it.

Class attributes (without annotation, or `ClassVar`, as these are no fields):
  WIDTHS: {square_size: default channels}, from input to output, for each size that works.
  stages: whether it doubles a small map, of `self.base` pixels, to the image, or halves the image to it. Then it takes
    other sizes and rectangles too: their `square_size` is that of the largest square in `WIDTHS` whose stages make them
    of a map of 3 to 16 pixels a side. False, the default: squares in `WIDTHS` only.
  body: name of the submodule whose entries are the net's layers, which may be frozen from the first on, in the order in
    which they are used; the default is the net itself.
  Generator.mapping_body: name of the submodule that maps z to styles; "", the default, if there is none.
  normalise_params: static, params -> params, applied after each optimizer step; the default changes nothing.
  Generator.latent_layers: regular expression for the names of the affine layers that z enters (w, with styles), of
    which semantic directions are computed; None, the default, if there are none.
  Discriminator.batch_dependent: whether a logit depends on the rest of its batch (batch norm, minibatch statistics),
    so that reals and fakes must not be passed together. True is the default, and always right.
  Discriminator.conditionings: which values of `conditioning` it has; by default all that `head` has.

Styles are optional. A generator that has them, as StyleGAN2's, offers two methods more, whose composition is
`__call__`; truncation, style mixing, inversion and the path-length penalty use them:

    ws = mapping(z, labels, train, keys=None, psi=1.0, cutoff=None)     # [B, L, W], a style w for each of L layers
    images = synthesis(ws, keys=None)                                   # without keys there is no noise

  psi: truncation, ws = mean + psi * (w - mean) in the first `cutoff` layers (None: in all); `__call__` takes both too.
  The mean of w is the variable "mean" of the collection "w_avg", a running mean kept in training.

A generator without styles has no such methods. This pair is complete, and trains with every loss and penalty but the
path length:

    class Generator(BaseGenerator):
        WIDTHS = {32: (256,), 64: (512,)}

        @nn.compact
        def __call__(self, z, labels, train, keys=None):
            x = nn.relu(nn.Dense(*self.widths, name="dense")(z))
            x = nn.Dense(self.image_size**2 * self.image_channels, name="pixels")(x)
            return jnp.tanh(x).reshape(-1, self.image_size, self.image_size, self.image_channels)

    class Discriminator(BaseDiscriminator):
        WIDTHS = Generator.WIDTHS
        batch_dependent = False

        @nn.compact
        def __call__(self, images, labels, train, keys=None):
            x = nn.leaky_relu(nn.Dense(*self.widths, name="dense")(images.reshape(len(images), -1)))
            return self.head(x, labels, nn.initializers.lecun_normal())
"""

from jaxgan.models import biggan, dcgan, dcgan_strided, mlp, r3gan, r3gan2, sagan, sngan, stylegan2

MODELS = {
    "mlp": (mlp.Generator, mlp.Discriminator),
    "dcgan": (dcgan.Generator, dcgan.Discriminator),
    "dcgan_strided": (dcgan_strided.Generator, dcgan_strided.Discriminator),
    "sngan": (sngan.Generator, sngan.Discriminator),
    "sagan": (sagan.Generator, sagan.Discriminator),
    "biggan": (biggan.Generator, biggan.Discriminator),
    "stylegan2": (stylegan2.Generator, stylegan2.Discriminator),
    "r3gan": (r3gan.Generator, r3gan.Discriminator),
    "r3gan2": (r3gan2.Generator, r3gan2.Discriminator),
}
