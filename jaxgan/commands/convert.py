"""Turns networks that others have trained into a run: jaxgan convert FILE OUT

FILE is what StyleGAN2 or StyleGAN2-ADA, for TensorFlow or PyTorch, or R3GAN has written (a .pkl), or mimicry,
BigGAN-PyTorch or StudioGAN (a .pth of G, beside those of D and of the average of G). It is read without running
anything in it.
OUT is a run that `sample`, `evaluate` and --config.init_from take.
"""

from absl import flags

from jaxgan.commands import app

FLAGS = flags.FlagValues()
flags.DEFINE_string("file", None, "The file of networks; the first argument that is not a flag.", FLAGS)
flags.DEFINE_string("out", None, "The directory of the run to write; the second argument.", FLAGS)
flags.DEFINE_bool("g_only", False, "Leave the discriminator out, for one that jaxgan does not have.", FLAGS)


@app.command(FLAGS, required=["file", "out"], positional=["file", "out"])
def main(flags) -> None:
    from jaxgan.conversion import run

    with app.naming_flags(FLAGS):
        facts = run.convert(flags.file, flags.out, flags.g_only)
    print("\n".join(f"{name:8} {fact}" for name, fact in facts.items()))
