"""Trains another classifier than that of `fd_cifar` and prints its Fréchet distance of each run's samples, as Markdown.

    JAX_PLATFORMS=cpu python benchmarks/second_opinion.py --images=FILE.npz --held_out=FILE.npz NAME=WORKDIR[@STEP] ...

What was tuned by one classifier may please that one alone. This one has nothing of it but the task: strided
convolutions instead of pooling, group norm and GELU instead of batch norm and ReLU, no whitening, AdamW instead of
Muon, other draws. Both files have images and labels; the distance is that of `--num` samples to all of --images, in the
256 features before the last layer. The held-out images have a row, too, and say how accurate the classifier is.
"""

import argparse

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxgan
from jaxgan.data import open_images
from jaxgan.evaluation.metrics.frechet import Moments, frechet_distance
from jaxgan.models.layers import Conv

BATCH = 125


class Classifier(nn.Module):
    """Takes uint8 [B, H, W, 3]; returns features [B, 256] and logits [B, num_classes]."""

    num_classes: int
    widths: tuple[int, ...] = (32, 64, 128, 256)

    @nn.compact
    def __call__(self, images):
        x = images.astype(jnp.float32) / 127.5 - 1.0
        for i, width in enumerate(self.widths):
            for strides in (1,) if i == 0 else (2, 1):
                x = Conv(width, (3, 3), strides, use_bias=False)(x)
                x = nn.gelu(nn.GroupNorm(8)(x))
        features = x.mean((1, 2))
        return features, nn.Dense(self.num_classes)(features)


def train(net: Classifier, images: np.ndarray, labels: np.ndarray, epochs: int, seed: int):
    """Returns the parameters after `epochs`; images are flipped with probability 1/2, a batch moved by 2 at most."""
    rng, steps = np.random.default_rng(seed), epochs * (len(images) // BATCH)
    optimizer = optax.adamw(optax.cosine_onecycle_schedule(steps, 4e-3), weight_decay=0.05)
    params = net.init(jax.random.key(seed), images[:1])

    @jax.jit
    def update(params, state, images, labels):
        def loss(params):
            targets = optax.smooth_labels(jax.nn.one_hot(labels, net.num_classes), 0.1)
            return optax.softmax_cross_entropy(net.apply(params, images)[1], targets).mean()

        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    state = optimizer.init(params)
    for epoch in range(1, epochs + 1):
        losses = []
        for index in rng.permutation(len(images))[: len(images) // BATCH * BATCH].reshape(-1, BATCH):
            batch = np.where(rng.random((BATCH, 1, 1, 1)) < 0.5, images[index], images[index, :, ::-1])
            batch = np.roll(batch, rng.integers(-2, 3, 2), (1, 2))
            params, state, value = update(params, state, batch, labels[index])
            losses.append(value)
        print(f"<!-- epoch {epoch}: loss {np.mean(losses):.3f} -->", flush=True)
    return params


def sample(run: str, num: int) -> np.ndarray:
    """Returns samples of WORKDIR or WORKDIR@STEP, of all classes alike, uint8 [num, H, W, C]."""
    workdir, _, step = run.partition("@")
    generator = jaxgan.load(workdir, step or None)
    return np.concatenate([generator.sample(BATCH, seed=seed) for seed in range(num // BATCH)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="NAME=WORKDIR[@STEP]")
    parser.add_argument("--images", required=True, help="FILE.npz of images and labels to train on and compare with")
    parser.add_argument("--held_out", required=True, help="FILE.npz of others")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--num", type=int, default=10_000, help=f"samples of each run, a multiple of {BATCH}")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    reals, others = open_images(args.images, "--images"), open_images(args.held_out, "--held_out")
    net = Classifier(reals.num_classes)
    params = train(net, reals.images, reals.labels, args.epochs, args.seed)
    apply = jax.jit(net.apply)

    def outputs(images):
        parts = [apply(params, images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
        return [np.concatenate(x) for x in zip(*parts, strict=True)]

    def distance(features):
        return frechet_distance(Moments().add(features).gaussian(), reference)

    reference = Moments().add(outputs(reals.images)[0]).gaussian()
    features, logits = outputs(others.images)
    right = np.mean(np.argmax(logits, 1) == others.labels)
    print("| samples | Fréchet distance |\n|---|---|")
    print(f"| held-out images, {right:.3f} right | {distance(features):.3f} |", flush=True)
    for run in args.runs:
        name, _, where = run.partition("=")
        print(f"| {name} | {distance(outputs(sample(where, args.num))[0]):.2f} |", flush=True)


if __name__ == "__main__":
    main()
