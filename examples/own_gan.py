"""A GAN of one's own in a minute: own images, own loss, own penalty, own loop.

    python examples/own_gan.py [--steps=2400] [--out=own_gan.png]

G learns to draw circles, diamonds, triangles and stars in any colour, 16x16 pixels, on two CPU cores.
No file of jaxgan is touched: `import jaxgan` has the parts. The same as a notebook: own_gan.ipynb.
"""

# %%
import argparse
import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image, ImageDraw

import jaxgan

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=2400, help="updates, a multiple of 10")
parser.add_argument("--out", default="own_gan.png", help="where the picture goes")
args, _ = parser.parse_known_args()
if args.steps < 1 or args.steps % 10:
    raise SystemExit(f"error: --steps={args.steps}: must be a multiple of 10, above 0")

# %%
# **Images.** A data set is made of two arrays: images, uint8 `[N, H, W, C]`, and labels, if there are any.
SHAPES = (36, 1.0), (4, 1.0), (3, 1.0), (10, 0.45)  # circle, diamond, triangle, star: corners, radius of every second
rng = np.random.default_rng(0)


def draw(corners, inner):
    """Returns a shape of random colour, size and place on white, uint8 [16, 16, 3]."""
    image = Image.new("RGB", (64, 64), "white")  # larger than it will be, so that its edges are smooth
    angle = 2 * np.pi * np.arange(corners) / corners
    radius = rng.uniform(18, 28) * np.where(np.arange(corners) % 2, inner, 1.0)
    x, y = rng.uniform(28, 36, 2)
    fill = tuple(int(255 * value) for value in colorsys.hsv_to_rgb(rng.uniform(), 0.9, 0.9))
    ImageDraw.Draw(image).polygon([*zip(x + radius * np.sin(angle), y - radius * np.cos(angle))], fill)
    return np.asarray(image.resize((16, 16), Image.Resampling.BOX))


labels = np.arange(8000) % 4
dataset = jaxgan.ArrayDataset(np.stack([draw(*SHAPES[label]) for label in labels]), labels)

# %%
# **Loss.** Each side is a function of D's logits, one value an example. D wants every real to score 1 above the fake
# beside it, G the opposite: least squares on pairs.
loss = jaxgan.Loss(
    d=lambda real, fake: (real - fake - 1) ** 2,
    g=lambda real, fake: (fake - real - 1) ** 2,
    relativistic=True,  # G's side looks at reals too
    decision_threshold=None,  # no logit means "real" by itself
)

# %%
# **Penalty.** A function of D's outputs on reals and fakes. D's logit may change by 1 in a distance of 20 around a
# real, and not faster: where D is too steep, G has nothing to follow.


def steepness(inputs):
    slope = jnp.sum(inputs.real.gradient**2, axis=(1, 2, 3))  # squared, of each image's logit
    return jax.nn.relu(20**2 * slope - 1)


penalty = jaxgan.Penalty(steepness, weight=jaxgan.Schedule(0.05), gradients=("real",))

# %%
# **Recipe.** All that training needs to know. One's own Flax modules would do as well as these two nets of jaxgan's.
Generator, Discriminator = jaxgan.MODELS["mlp"]
common = dict(image_size=16, image_channels=3, num_classes=4)
adam = optax.adam(optax.cosine_decay_schedule(1e-3, args.steps), b1=0.0, b2=0.99)
recipe = jaxgan.Recipe(
    generator=Generator(**common, channels=(256, 1024)),
    discriminator=Discriminator(**common, channels=(32, 64)),
    optimizer_g=adam,
    optimizer_d=adam,
    z_dim=32,
    batch_size=32,
    loss=loss,
    penalties_d={"steepness": penalty},
)

# %%
# **Loop.** `parallelize` puts the update on all devices, and `Batches` brings the images there, for 10 updates at once.
key = jax.random.key(0)
step = jaxgan.parallelize(recipe)
state = step.devices.replicate(jaxgan.init_state(recipe, key))
for batch in jaxgan.Batches(dataset, recipe, step.devices, last_step=args.steps, steps_per_dispatch=10):
    state, metrics = step(state, batch, key)
    if state.step % 400 == 0:
        print(f"step {state.step}: loss of D {float(metrics['loss/d']):.2f}, of G {float(metrics['loss/g']):.2f}")

# %%
# **Picture.** Samples of the moving average of G's weights, a class in each column.
generator = jaxgan.Generator.from_state(recipe, state)
jaxgan.save_images(args.out, generator.sample(64, labels=generator.class_columns(8, 8)), columns=8)
Image.open(args.out).copy()  # a notebook shows it
