"""Reads pickles without running them: every class and function that one names stays a name.

A pickle is a program that may call any function of any module. Here its instructions build plain values, and what would
be a call or an object is a `Record` of what it would have been made of. Nothing is imported and nothing is called, not
even a method of what the file holds, and there are only the instructions that PyTorch, NumPy and plain classes need.

Memory is bounded by the size of the file, up to a small factor. Time is not: a file made to do so can take for ever,
for example over keys whose hashes are equal.
"""

import pickletools
from typing import Any, BinaryIO

DEPTH = 120  # of values in values; networks have 50
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"),
}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": list}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Global:
    """A class or function that a pickle names, such as "torch.FloatStorage"; no more than the name."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name


class Record:
    """An object, of its class's or function's name and all that it would have been made of.

    Attributes:
      name: "module.name", or "" for something outside the pickle (a persistent id).
      args: of the call that would have made it.
      state: what would have become its attributes; None: nothing.
      items: [(key, value), ...] that would have been set in it.
    """

    __slots__ = ("args", "items", "name", "state")

    def __init__(self, name: str, args: tuple):
        self.name, self.args, self.state, self.items = name, args, None, []


def read(file: BinaryIO) -> Any:
    """Returns the value of the next pickle in a file: plain values, `Global` and `Record`; sets are lists.

    Raises:
      ValueError: it has other instructions, or they make no sense; other errors are those of `pickletools`.
    """
    stack, marks, memo = [], [], {}

    def pop(kind: type | tuple[type, ...] = object):
        if len(stack) <= (marks[-1] if marks else 0):
            raise ValueError("the pickle takes more than it made")
        value = stack.pop()
        if not isinstance(value, kind):
            raise ValueError(f"the pickle has a {type(value).__name__} in a wrong place")
        return value

    def pop_to_mark() -> list:
        if not marks:
            raise ValueError("the pickle takes more than it made")
        start = marks.pop()
        values = stack[start:]
        del stack[start:]
        return values

    def put(target, pairs) -> None:
        for key, value in pairs:
            if type(key) not in (str, int, bool):
                raise ValueError(f"it has a {type(key).__name__} as a key")
            if isinstance(target, dict):
                target[key] = value
            else:
                target.items.append((key, value))

    def call() -> Record:
        args = pop(tuple)
        return Record(pop(Global).name, args)

    for instruction, argument, _ in pickletools.genops(file):
        name = instruction.name
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            return pop()
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _VALUES:
            stack.append(argument)
        elif name == "BYTEARRAY8":
            stack.append(bytes(argument))
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(pop_to_mark()))
        elif name in _TUPLES:
            stack.append(tuple(pop() for _ in range(_TUPLES[name]))[::-1])
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            values = [pop()] if name == "APPEND" else pop_to_mark()
            target = pop(list)
            target.extend(values)
            stack.append(target)
        elif name in ("SETITEM", "SETITEMS"):
            values = [pop(), pop()][::-1] if name == "SETITEM" else pop_to_mark()
            target = pop((dict, Record))
            put(target, zip(values[::2], values[1::2], strict=True))
            stack.append(target)
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            value = pop()
            memo[len(memo) if argument is None else argument] = value
            stack.append(value)
        elif name in ("BINGET", "LONG_BINGET"):
            if argument not in memo:
                raise ValueError(f"the pickle refers to its value {argument}, which is not there")
            stack.append(memo[argument])
        elif name == "GLOBAL":
            stack.append(Global(argument.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            last, module = pop(str), pop(str)
            stack.append(Global(f"{module}.{last}"))
        elif name in ("REDUCE", "NEWOBJ"):
            stack.append(call())
        elif name == "BUILD":
            state, target = pop(), pop(Record)
            target.state = state
            stack.append(target)
        elif name == "BINPERSID":
            stack.append(Record("", (pop(),)))
        else:
            raise ValueError(f"it uses the instruction {name}")
    raise ValueError("the pickle has no end")
