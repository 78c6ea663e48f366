"""Reasoning on demand (AF-Think in the paper): its adapter, asking for it, telling it from the answer.

`adapter` reads and checks, `request` asks, `split` tells thoughts from answers, `times` reads the times in them, and
`budget` ends them in time.
"""

from audioflamingo.think.adapter import adapter_folder, read_adapter
from audioflamingo.think.budget import limit_thoughts
from audioflamingo.think.request import with_think_suffix
from audioflamingo.think.split import ThinkStyle, ThoughtSplitter, split_thoughts
from audioflamingo.think.times import TimedThought, timed_thoughts

__all__ = [
    "ThinkStyle",
    "ThoughtSplitter",
    "TimedThought",
    "adapter_folder",
    "limit_thoughts",
    "read_adapter",
    "split_thoughts",
    "timed_thoughts",
    "with_think_suffix",
]
