"""Makes torch_file.zip.pth and torch_file.legacy.pth, both formats of torch.save; needs PyTorch.

python tests/golden/torch_file.py
"""

from collections import OrderedDict
from pathlib import Path

import torch

DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")


def content():
    counting = torch.arange(24.0)
    tensors = OrderedDict((name, torch.arange(-3, 3).abs().to(getattr(torch, name)).reshape(2, 3)) for name in DTYPES)
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    for i, parameter in enumerate(module.parameters()):
        parameter.data.fill_(i + 0.5)
    return {
        "types": tensors,
        "views": [
            counting.reshape(4, 6),
            counting.reshape(4, 6).T,
            counting[5::3],
            counting.reshape(2, 3, 4)[1, :, 1:3],
            counting[7].expand(2, 2),
        ],
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "module": module.state_dict(),  # an OrderedDict with an attribute
        "plain": (
            None,
            True,
            False,
            1,
            -300,
            70000,
            2**40,
            0.25,
            "text",
            [],
            {},
            (),
            (1, 2, 3, 4),
            {"a": [1]},
            {7: "b"},
        ),
    }


if __name__ == "__main__":
    for name, zipped in (("zip", True), ("legacy", False)):
        path = Path(__file__).with_name(f"torch_file.{name}.pth")
        torch.save(content(), path, _use_new_zipfile_serialization=zipped)
        print(path, path.stat().st_size, "bytes")
