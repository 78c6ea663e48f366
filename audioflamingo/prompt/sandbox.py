"""A checkpoint's chat template, run as the stranger it is: no reach outside, bounded in time, memory and output.

Jinja's own sandbox keeps a template from reaching Python's insides but not from doubling a string forty times.
Here every operation that can make a value larger is metered: no value may exceed `MAX_VALUE_CHARS`, all values
made in one rendering together may not exceed `MAX_WORK_CHARS`, and loops and calls look at the clock.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_VALUE_CHARS = 2 * 2**20
MAX_WORK_CHARS = 64 * 2**20
MAX_RENDER_S = 5.0
MAX_INT_BITS = 256
MAX_INDENT = 8

_TEXT_FILTERS = {"capitalize", "e", "escape", "lower", "safe", "string", "title", "trim", "upper"}
_LIST_FILTERS = {"count", "dictsort", "first", "items", "last", "length", "list", "map", "max", "min", "reject"}
_OTHER_FILTERS = {"d", "default", "float", "int", "rejectattr", "reverse", "select", "selectattr", "sort", "unique"}
_SEARCHES = {"count", "endswith", "find", "index", "rfind", "startswith", "isalnum", "isalpha", "isdigit", "isspace"}
_CUTS = {"lstrip", "partition", "removeprefix", "removesuffix", "rpartition", "rsplit", "rstrip", "split", "splitlines"}
_CHANGES = {"capitalize", "join", "lower", "replace", "strip", "swapcase", "title", "upper", "islower", "isupper"}
_STR_METHODS = _SEARCHES | _CUTS | _CHANGES


class RenderLimitError(Exception):
    """A template takes more time or memory than any prompt needs."""


class RefusalError(TemplateError):
    """The template itself refuses the conversation, through `raise_exception`."""


@dataclass
class _Meter:
    deadline_s: float
    chars_left: int = MAX_WORK_CHARS

    def charge(self, num_chars: int) -> None:
        self.chars_left -= num_chars
        if num_chars > MAX_VALUE_CHARS or self.chars_left < 0:
            raise RenderLimitError(f"it makes texts of more than {MAX_VALUE_CHARS:,} characters, or too many of them")
        if time.monotonic() > self.deadline_s:
            raise RenderLimitError(f"it runs for more than {MAX_RENDER_S:g} s")


_meter: ContextVar[_Meter] = ContextVar("_meter")


def compile_template(source: str) -> Callable[..., str]:
    """A function that renders the template with the keyword arguments it is given.

    Raises:
        jinja2.TemplateError: it cannot be compiled; deep nesting raises RecursionError, MemoryError or SyntaxError.
    """
    template = _Sandbox().from_string(source)

    def render(**variables: Any) -> str:
        token = _meter.set(_Meter(time.monotonic() + MAX_RENDER_S))
        try:
            return template.render(**variables)
        finally:
            _meter.reset(token)

    return render


class _Sandbox(ImmutableSandboxedEnvironment):
    """What transformers gives to chat templates, and the meter."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self) -> None:
        # Constant folding would run operations while compiling, where no meter is set.
        super().__init__(trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=[_Generation, loopcontrols])
        self.filters = {name: _metered(FILTERS[name]) for name in _TEXT_FILTERS | _LIST_FILTERS | _OTHER_FILTERS}
        self.filters |= {"join": _join, "replace": _replace, "tojson": _tojson}
        self.globals = {name: self.globals[name] for name in ("range", "dict", "namespace")}
        self.globals |= {"raise_exception": _refuse, "strftime_now": _strftime_now}

    concat = staticmethod(lambda pieces: _concatenated(pieces))

    def tick(self) -> None:
        """Look at the clock; stands at the head of every loop's body."""

    def joined(self, *values: Any) -> str:
        """Jinja's `~`."""
        return _concatenated(map(str, values))

    def made(self, value: Any) -> Any:
        """A literal or a slice: lists of lists of lists grow exponentially, slices copy."""
        return _checked(value)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _with_meters(super()._parse(source, name, filename))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Only those methods of strings that cannot blow up a text."""
        if isinstance(obj, str) and attr not in _STR_METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Formatting can pad to any width, so it is not offered."""
        if isinstance(getattr(value, "__self__", None), str) and value.__name__ in ("format", "format_map"):
            raise SecurityError("str.format is not available to chat templates")
        return None

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method, macro or function of the template, metered."""
        _meter.get().charge(1)
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str) and name in ("join", "replace"):
            return _join(args[0], owner) if name == "join" else _replace(owner, *args, **kwargs)
        return _checked(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The operators that can make something large out of something small."""
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "**" or (operator == "%" and not numbers):
            raise SecurityError(f"the operator {operator} is not available to chat templates")
        if operator == "*" and numbers:
            if (
                isinstance(left, int)
                and isinstance(right, int)
                and left.bit_length() + right.bit_length() > MAX_INT_BITS
            ):
                raise RenderLimitError(f"it makes numbers of more than {MAX_INT_BITS} bits")
        elif operator == "*":
            times = next((value for value in (left, right) if isinstance(value, int)), 1)
            _meter.get().charge((_weight(left) + _weight(right)) * max(times, 1))
        return _checked(super().call_binop(context, operator, left, right))


class _Generation(Extension):
    """`{% generation %}` marks assistant text for training; a prompt needs only its contents."""

    tags = {"generation"}  # noqa: RUF012 (jinja reads it from the class)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _with_meters(tree: nodes.Template) -> nodes.Template:
    """The same template with a tick in every loop and a check around `~` and literals."""
    for loop in tree.find_all(nodes.For):
        loop.body.insert(0, nodes.ExprStmt(_call("tick", [])).set_lineno(loop.lineno))
    _meter_expressions(tree)
    return tree


def _meter_expressions(node: nodes.Node) -> None:
    for name, value in node.iter_fields():
        if isinstance(value, list):
            setattr(node, name, [_metered_node(item) for item in value])
        else:
            setattr(node, name, _metered_node(value))


def _metered_node(node: Any) -> Any:
    if not isinstance(node, nodes.Node):
        return node
    _meter_expressions(node)
    if isinstance(node, nodes.Concat):
        return _call("joined", node.nodes).set_lineno(node.lineno)
    literal = isinstance(node, nodes.List | nodes.Dict) or (isinstance(node, nodes.Tuple) and node.ctx == "load")
    if literal or (isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)):
        return _call("made", [node]).set_lineno(node.lineno)
    return node


def _call(name: str, arguments: list[Any]) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None)


def _weight(value: Any, limit: int = MAX_VALUE_CHARS) -> int:
    """Characters that a value would take when written out, counted no further than just over the limit."""
    total, waiting = 0, [value]
    while waiting and total <= limit:
        item = waiting.pop()
        total += len(item) if isinstance(item, str) else 1
        if isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            waiting += item
    return total


def _checked(value: Any) -> Any:
    _meter.get().charge(_weight(value))
    return value


def _metered(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def metered(*args: Any, **kwargs: Any) -> Any:
        return _checked(function(*args, **kwargs))

    return metered


def _concatenated(pieces: Iterable[str], between: str = "") -> str:
    kept: list[str] = []
    total = 0
    for piece in pieces:
        kept.append(piece)
        total += len(piece) + len(between)
        if total > MAX_VALUE_CHARS:
            break
    _meter.get().charge(total)
    return between.join(kept)


def _join(items: Iterable[Any], d: str = "") -> str:
    return _concatenated(map(str, items), str(d))


def _replace(text: Any, old: str, new: str, count: int | None = None) -> str:
    source = str(text)
    _meter.get().charge(len(source) + source.count(old) * len(new))
    return source.replace(old, new, -1 if count is None else count)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if indent is not None and not (isinstance(indent, int) and indent <= MAX_INDENT):
        raise RenderLimitError(f"it indents JSON by more than {MAX_INDENT}")
    _checked(value)
    written: str = json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    _checked(written)
    return written


def _refuse(message: str) -> None:
    raise RefusalError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form[:64])
