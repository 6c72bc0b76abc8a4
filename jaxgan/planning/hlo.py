"""What a compiled program does, read from the text of its HLO."""

import math
import re
from collections import Counter
from typing import NamedTuple


class HloStats(NamedTuple):
    """Counts of a compiled step on one device: a loop's body as often as it runs, all branches of a conditional."""

    bytes: float  # to and from memory, by instructions that are not fused into another
    all_reduces: int
    all_reduce_bytes: float
    all_gathers: int
    convolutions: int  # including matrix products
    convolutions_float32: int  # those with a float32 operand


_ITEM_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2, "s64": 8, "u64": 8, "f64": 8}
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all"}


def _size(shape: str) -> float:
    """Returns the bytes in main memory of a shape in HLO, such as (f32[8,128]{1,0:T(8,128)}, bf16[2]{0:S(1)})."""
    total = 0
    for kind, dims, layout in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\](\{[^}]*\})?", shape):
        if "S(" not in layout:  # S(1) and above: on the chip
            total += _ITEM_BYTES.get(kind, 4) * math.prod(int(d) for d in dims.split(",") if d)
    return total


def read_hlo(text: str) -> HloStats:
    """Returns the counts of a compiled program, whose text is `compiled.as_text()`."""
    bodies, entry, body = {}, None, None
    instruction = re.compile(r"\s+(?:ROOT )?%?(\S+) = (\(.*?\)|\S+) ([\w-]+)\((.*)")
    for line in text.splitlines():
        if found := re.match(r"(ENTRY )?%?(\S+) .*\{$", line):
            body = bodies[found[2]] = []
            entry = found[2] if found[1] else entry
        elif body is not None and (found := instruction.match(line)):
            body.append(found.groups())

    counts = Counter()

    def trips(attributes: str) -> int:
        """Returns how often a loop runs: the compiler says it, or compares the counter with a single number."""
        if known := re.search(r'known_trip_count"?:\{"n":"(\d+)"', attributes):
            return int(known[1])
        condition = bodies[re.search(r"condition=%?([\w.-]+)", attributes)[1]]
        numbers = [rest.partition(")")[0] for _, shape, op, rest in condition if op == "constant" and "s32" in shape]
        return int(numbers[0]) if len(numbers) == 1 else 1

    def walk(name: str, times: int, fused: bool) -> None:
        shapes = {value: shape for value, shape, _, _ in bodies[name]}
        for value, shape, op, rest in bodies[name]:
            operands, _, attributes = rest.partition(")")
            names = re.findall(r"%([^\s,]+)", operands)
            if op in ("convolution", "dot") or re.search(r'custom_call_target="__cu(dnn|blas)', attributes):
                counts["convolutions"] += times
                counts["convolutions_float32"] += times * any(shapes.get(n, "").startswith("f32") for n in names)
            for kind in ("all-reduce", "all-gather"):
                if op in (kind, f"{kind}-start"):
                    counts[kind] += times
                    counts[f"{kind} bytes"] += times * _size(shape)
            if not fused and op not in _FREE and not op.endswith("-done"):
                counts["bytes"] += times * sum(_size(shapes.get(n, "")) for n in (value, *names))
            inners = re.findall(r"(?:calls|body|to_apply|true_computation|false_computation)=%?([\w.-]+)", rest)
            if branches := re.search(r"branch_computations=\{([^}]*)\}", rest):
                inners += re.findall(r"%?([\w.-]+)", branches[1])
            for inner in inners:
                if op not in ("reduce", "all-reduce", "all-reduce-start", "reduce-window", "scatter", "sort", "map"):
                    walk(inner, times * (trips(attributes) if op == "while" else 1), fused or op == "fusion")

    walk(entry, 1, False)
    return HloStats(
        counts["bytes"],
        counts["all-reduce"],
        counts["all-reduce bytes"],
        counts["all-gather"],
        counts["convolutions"],
        counts["convolutions_float32"],
    )
