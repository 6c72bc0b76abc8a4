"""The model card: what the Hugging Face Hub reads of a model, and what a person wants to know of it."""

import math

from jaxgan.sampling.exported import import_hub
from jaxgan.sampling.generator import Generator

TASK = "unconditional-image-generation"
# What the Hub reads where the directory is a Space; a model's page passes over it.
SPACE = {"sdk": "gradio", "sdk_version": "6.31.0", "python_version": "3.12", "app_file": "app.py"}


def write_card(name: str, generator: Generator, run: dict, logged: dict) -> str:
    """Returns a README.md, with the YAML of the Hub at its head.

    Args:
      name: of the model, such as "owner/name".
      generator: whose card it is.
      run: what its run says of itself, as `training.report.contents` returns it.
      logged: the line of the run's metrics.jsonl at the step of the generator, or {}.
    """
    hub = import_hub("name", name)
    data, model = generator.config.data.name, generator.config.model.name
    found = scores(run, generator.step, logged)
    results = [
        hub.EvalResult(
            task_type=TASK,
            dataset_type=data,
            dataset_name=data,
            metric_type=score["name"],
            metric_name=f"{score['name']}, {score['how']}",
            metric_value=score["value"],
            metric_args=score["protocol"],
        )
        for score in found
    ]
    head = hub.ModelCardData(
        license="other",
        license_name="to-be-filled",
        library_name="jaxgan",
        pipeline_tag=TASK,
        tags=["jaxgan", "gan", "jax", "flax", model],
        datasets=[data] if data != "custom" else None,
        model_name=name.rpartition("/")[2],
        eval_results=results or None,
        **SPACE,
    )
    return f"---\n{head.to_yaml()}\n---\n\n{_text(name, generator, run, found)}"


def scores(run: dict, step: int, logged: dict) -> list[dict]:
    """Returns every score of a step: those of `jaxgan evaluate`, with their protocol, and those of the training."""
    found = []
    for measured in run["measured"]:
        if measured["step"] != step:
            continue
        protocol = {key: value for key, value in measured["protocol"].items() if key != "networks"}
        for key, value in measured["scores"].items():
            if value is not None and not key.endswith("_std"):
                how = f"{measured['protocol']['protocol']} protocol, at {measured['kimg']:g} kimg"
                found.append({"name": key, "value": value, "how": how, "protocol": protocol})
    for score in run["scores"]:
        value = logged.get(f"eval/{score['name']}", math.nan)
        if math.isfinite(value):
            how = f"in training, at {logged['kimg']:g} kimg"
            found.append({"name": score["name"], "value": value, "how": how, "protocol": {"how": score["protocol"]}})
    return found


def _text(name: str, generator: Generator, run: dict, found: list[dict]) -> str:
    size, classes = "x".join(map(str, generator.image_shape)), generator.num_classes
    rows = [f"| {score['name']} | {score['value']:.5g} | {score['how']} |" for score in found]
    table = "\n".join(["| score | value | how |", "|---|---|---|", *rows]) if rows else "None was measured."
    facts = "\n".join(f"- {what}: {text}" for what, text in run["facts"])
    changed = "\n".join(f"- `config.{key} = {value or '(unset)'}`" for key, (value, _) in run["settings"].items())
    label = "numpy.zeros(16, 'int32')" if not classes else f"numpy.arange(16, dtype='int32') % {classes}"
    truncation = 1.0 if generator.has_styles else "inf"
    return f"""# {name.rpartition("/")[2]}

A GAN's generator, {run["title"]}: images of {size} pixels{f", {classes} classes" if classes else ""}. Trained with
jaxgan; this is step {generator.step:,} of the average over its weights.

![Samples, not chosen](grid.png)

**Licence**: fill in which one the weights have, here and in the first lines of this file. The training data may limit
it.

## Use it

```python
import jaxgan  # with its extra `hub`

generator = jaxgan.load("hf://{name}")
images = generator.sample(64, seed=0)  # uint8 [64, {", ".join(map(str, generator.image_shape))}]
```

Without jaxgan, `generator.stablehlo` has the network and its weights, for CPUs, NVIDIA GPUs and TPUs
(`pip install jax flatbuffers`):

```python
import jax, numpy

program = jax.export.deserialize(bytearray(open("generator.stablehlo", "rb").read()))
z, labels = numpy.random.randn(16, {generator.z_dim}).astype("float32"), {label}
images = program.call(z, labels, numpy.float32("{truncation}"))  # the last one is the truncation
```

## Scores

{table}

## How it was trained

{facts}

{f"    {run['command']}" if run["command"] else "On images of its authors."}

Settings that differ from jaxgan's defaults:

{changed}
"""
