"""Shows the examples in docstrings as code on the page of the API reference (mkdocs.yml)."""

import re
import textwrap

import griffe

_EXAMPLE = re.compile(r"^Example:\n((?:  .*\n?|\n)+)", re.MULTILINE)


class Examples(griffe.Extension):
    """Fences what is below "Example:", which Markdown would otherwise take for prose and quotations."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(_fence, obj.docstring.value)


def _fence(example: re.Match) -> str:
    code = textwrap.dedent(example[1]).strip()
    return "Example:\n" + textwrap.indent(f"```python\n{code}\n```\n", "  ")
