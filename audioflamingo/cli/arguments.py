"""Arguments that several verbs share, and a parser whose errors are one line that lists what is allowed."""

from __future__ import annotations

import argparse
import difflib
import itertools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from audioflamingo.cli.output import show_loading, write_text
from audioflamingo.errors import OptionError

GENERATION_OPTIONS = (
    "max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty", "seed", "stop", "long_audio",
    "num_beams", "length_penalty",
)  # fmt: skip


EIGHT_BIT_CACHE = "kv-int8"
THINK = "--think"
THINK_ON = "on"
_NO_OPTION = "\0"  # cannot stand in any word of a command line


class Parser(argparse.ArgumentParser):
    """Argparse with errors as `OptionError`, and options and files in any order."""

    def __init__(self, verb: str, summary: str, examples: str) -> None:
        super().__init__(
            prog=f"flamingo {verb}",
            description=summary,
            epilog="examples:\n" + "".join(f"  {line}\n" for line in examples.splitlines()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        self.add_argument("-h", "--help", action="store_true", help="show this and leave")

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise OptionError(f"{message}. See {self.prog} --help.")

    def parse_words(self, words: Sequence[str]) -> argparse.Namespace | None:
        """The arguments, or None where only help was asked for, which is printed.

        Raises:
            OptionError: an unknown option, a wrong value, or something missing.
        """
        options_end = words.index("--") if "--" in words else len(words)
        if any(word in ("-h", "--help") for word in words[:options_end]):
            write_text(self.format_help())
            return None
        # argparse itself keeps "--" or loses it, by Python's version: words after it are marked, and unmarked below.
        marked = [_NO_OPTION + word for word in words[options_end + 1 :]]
        own = words[:options_end]
        if THINK in self._option_string_actions:
            own = _with_think_closed(own)
        arguments, unknown = self.parse_known_intermixed_args([*own, *marked])
        if unknown:
            self._refuse(unknown)
        for name, value in vars(arguments).items():
            setattr(arguments, name, _unmarked(value))
        return arguments

    def format_help(self) -> str:
        """Argparse's, with the form that an optional value has here."""
        return super().format_help().replace(f"{THINK} [TOKENS]", f"{THINK}[=TOKENS]")

    def _refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Raise with what is allowed, and what was probably meant."""
        flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        came = unknown[0].partition("=")[0]
        meant = [flag for flag in flags if flag.startswith(came)] or difflib.get_close_matches(came, flags, 1)
        if os.path.exists(unknown[0]):
            hint = f" (a file of this name is written ./{unknown[0]})"
        else:
            hint = f" (did you mean {meant[0]}?)" if meant else ""
        self.error(f"{_unmarked(' '.join(unknown))} is not an option of {self.prog}{hint}; allowed: {', '.join(flags)}")


def _with_think_closed(words: Sequence[str]) -> list[str]:
    """The words, with `--think` so written that what stands behind it, a file, is not taken for its value.

    Raises:
        OptionError: a number stands there, which is no file.
    """
    for word, following in itertools.pairwise(words):
        if word == THINK and following.isdecimal() and not os.path.exists(following):
            raise OptionError(f"{THINK} {following} came; the most tokens of thoughts are written {THINK}={following}")
    return [f"{THINK}={THINK_ON}" if word == THINK else word for word in words]


def _unmarked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unmarked(one) for one in value]
    return value.replace(_NO_OPTION, "") if isinstance(value, str) else value


def add_model(parser: argparse.ArgumentParser) -> None:
    """`--model`, `--adapter`, `--device`, and `--dtype` or, which is the same, `--quantize`."""
    parser.add_argument(
        "--model",
        default="nano",
        metavar="NAME",
        help="nano (the default), af3, af3-think, af3-chat, a folder, a hub id",
    )
    parser.add_argument("--adapter", metavar="DIR", help="folder of an adapter, such as flamingo train lora writes")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1; by default the GPU if there is one")
    parser.add_argument(
        "--dtype",
        "--quantize",
        action="append",
        default=[],
        metavar="NAMES",
        help="float32, bfloat16, float16; int8, int4, fp8 for smaller weights; kv-int8, a smaller cache: int4,kv-int8",
    )


def loading_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `load_model` takes beside the name, from the options of `add_model`."""
    from audioflamingo.loading import DTYPES
    from audioflamingo.model.quantize.schemes import SCHEMES

    given = ",".join(arguments.dtype)  # both spellings may be given: neither drops the other
    names = given.split(",") if given else []
    dtypes, schemes = ([name for name in names if name in known] for known in (DTYPES, SCHEMES))
    others = [name for name in names if name not in (*dtypes, *schemes, EIGHT_BIT_CACHE)]
    if others or len(dtypes) > 1 or len(schemes) > 1:
        raise OptionError(
            f"--dtype (or --quantize) is {given!r}; allowed, joined by commas: one of {', '.join(DTYPES)}, "
            f"one of {', '.join(SCHEMES)}, and {EIGHT_BIT_CACHE}"
        )
    return {
        "device": arguments.device,
        "dtype": dtypes[0] if dtypes else None,
        "quantize": schemes[0] if schemes else None,
        "kv_cache": "int8" if EIGHT_BIT_CACHE in names else "plain",
        "adapter": arguments.adapter,
        "progress": show_loading,
    }


def add_generation(parser: argparse.ArgumentParser, *, is_verbatim: bool = False) -> None:
    """How the answer is chosen; what is not given stays at the checkpoint's default.

    Where words are written down nobody wants to choose among fewer of the likeliest, and flags are few.
    """
    parser.add_argument("--max-new-tokens", type=whole_number(1), metavar="N", help="most tokens of the answer")
    add_temperature(parser)
    if not is_verbatim:
        _add_likeliest(parser)
    parser.add_argument("--repetition-penalty", type=number(0), metavar="X", help="above 1: repeat less; 1: off")
    parser.add_argument("--seed", type=whole_number(0), metavar="N", help="of sampling; same seed, same answer")
    parser.add_argument("--stop", action="append", metavar="TEXT", help="end before this text; may be given repeatedly")
    parser.add_argument(
        "--long-audio",
        choices=("error", "truncate", "split"),
        help="what to do with a sound that is too long for the model: refuse it (default), cut it, answer in parts",
    )


def _add_likeliest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--top-k", type=whole_number(0), metavar="K", help="sample from the K likeliest tokens; 0: all")
    parser.add_argument("--top-p", type=number(0, 1), metavar="P", help="sample from the likeliest P of probability")


def add_beams(parser: argparse.ArgumentParser) -> None:
    """How many beginnings of an answer are followed, and how whole ones are compared."""
    parser.add_argument(
        "--num-beams", type=whole_number(1), metavar="N",
        help="follow the N likeliest beginnings of an answer, which then comes whole; 1: off",
    )  # fmt: skip
    parser.add_argument(
        "--length-penalty", type=number(-5, 5), metavar="X",
        help="with beams: above 0 longer answers are favoured, below it shorter ones; 1: as usual",
    )  # fmt: skip


def add_temperature(parser: argparse.ArgumentParser) -> None:
    """How varied answers are."""
    parser.add_argument("--temperature", type=number(0), metavar="T", help="0: always the likeliest token; 0.7: varied")


def add_thinking(parser: argparse.ArgumentParser) -> None:
    """Reasoning before the answer, and how much of it."""
    parser.add_argument(
        THINK,
        nargs="?",  # always written with =, see `_with_think_closed`
        type=thinking,
        metavar="TOKENS",
        help="reason first, on stderr, in at most TOKENS tokens (half of those of the answer): --think, --think=200",
    )


def thinking(text: str) -> dict[str, Any]:
    """An argparse type: the API's options for `--think` alone, or with the most tokens of thoughts.

    Raises:
        ArgumentTypeError: it is no such number.
    """
    return {"think": True} if text == THINK_ON else {"think": True, "max_thought_tokens": whole_number(1)(text)}


def generation_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options that were given, by the names that the API takes."""
    given = {name: getattr(arguments, name, None) for name in GENERATION_OPTIONS}
    thoughts: dict[str, Any] = getattr(arguments, "think", None) or {}
    return {name: value for name, value in given.items() if value is not None} | thoughts


def whole_number(minimum: int) -> Callable[[str], int]:
    """An argparse type: whole numbers from `minimum` on."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} came, allowed: a whole number, {minimum} or more")
        return value

    return parse


def number(minimum: float, maximum: float = math.inf) -> Callable[[str], float]:
    """An argparse type: finite numbers between `minimum` and `maximum`."""
    allowed = f"{minimum:g} or more" if maximum == math.inf else f"{minimum:g} to {maximum:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (minimum <= value <= maximum and math.isfinite(value)):
            raise argparse.ArgumentTypeError(f"{text!r} came, allowed: a number, {allowed}")
        return value

    return parse
