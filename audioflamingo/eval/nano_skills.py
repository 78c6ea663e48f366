"""The embedded model's table, the part on skills: each row on held-out material, known and unknown sources apart.

    python -m audioflamingo.eval.nano --rows skills --items 100 --out skills.json

Known: words and sentences are new, engines, synthesis families and instrument builds are not. Unknown: those too.
Questions are put as training puts them, but for the rows "in other words", whose phrasings it never saw. A soundfont is
never heard in training. festival has two voices, both of men, whose height and mood cannot be set: what is asked about
speakers has no unknown side but their pace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from audioflamingo.api import AudioFlamingo
from audioflamingo.eval.metrics import Measured, accuracy
from audioflamingo.eval.nano_items import Instead, Posed, is_right, job_of, posed, says_nothing_recognisable, with_sound
from audioflamingo.prompt import THINK_SUFFIX
from audioflamingo.world.music import midi
from audioflamingo.world.skills import (
    at_once,
    by_example,
    chat,
    choices,
    how_far,
    long,
    music,
    several,
    sounds,
    speech,
    there,
    times,
    whole,
)
from audioflamingo.world.skills.base import Job, Made, Turn
from audioflamingo.world.timeline import World

SEED = 41_000
BATCH = 12
MOST_NEW_TOKENS, MOST_THOUGHT_TOKENS = 160, 800
LONG_BATCH = 1
MOST_COUNTED = 6
FONTS = {"known soundfont": (midi.TRAINING_FONTS, 0.0), "soundfont never heard": (midi.HELD_OUT_FONTS, 0.15)}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: as it is shown.
        make: scene and questions.
        world: sources.
        choose: which of the questions count.
        goal: of the targets, a share; None where there is none.
        thinks: whether the model is asked to think; such rows are also run without.
        share: of the items; long scenes take long.
        instead: another sound in place of the right one.
    """

    name: str
    make: Callable[[Job], Made]
    world: World = field(default_factory=lambda: _known())
    choose: Callable[[Turn], bool] = lambda turn: True
    goal: float | None = None
    thinks: bool = False
    share: float = 1.0
    instead: Instead | None = None


def _known(**settings: Any) -> World:
    return World("test_known", strength=0.0, **{"phrasings": "train", **settings})


def _unknown(**settings: Any) -> World:
    return World("test_unknown", strength=0.0, phrasings="train", **settings)


def _both(name: str, make: Callable[[Job], Made], goal: float | None, **settings: Any) -> Iterator[Row]:
    yield Row(f"{name}, known sources", make, _known(), goal=goal, **settings)
    yield Row(f"{name}, unknown sources", make, _unknown(), **settings)


def _is_small_count(turn: Turn) -> bool:
    return turn.rule == "count" and 1 <= turn.value <= MOST_COUNTED


def _is_count_of_kinds(turn: Turn) -> bool:
    return turn.rule == "num_kinds"


def _refers_back(turn: Turn) -> bool:
    return turn.rule in ("which_clip", "longer_clip", "num_clips", "nth")


def rows() -> Iterator[Row]:
    """All rows, in order."""
    yield from _both("counting 1 to 6", sounds.counting, 0.90, choose=_is_small_count)
    yield from _both("order of four sounds", sounds.temporal_order, 0.95)
    for rule in ("when", "starts", "again", "at"):
        yield Row(f"times in a short scene: {rule}", _timed, choose=partial(_has_rule, rule), goal=0.90, share=0.5)
    yield from _both("kinds of sound counted", sounds.counting, 0.90, choose=_is_count_of_kinds)
    yield from _both("louder, longer, approaching", sounds.temporal_attributes, 0.90)
    yield from _music()
    yield from _both("speaker: pace", speech.ATTRIBUTES["pace"], 0.90)
    for name in ("sex", "num_voices", "same_voice", "pitch"):
        yield Row(f"speaker: {name}, known sources", speech.ATTRIBUTES[name], goal=0.90)
    yield Row("speaker: mood, known sources", speech.emotion, goal=0.90)
    yield from _both("a word of what is said", speech.information_extraction, 0.90)
    yield from _both("what nobody says is said to be so", speech.unanswerable, 0.90)
    yield from _long()
    yield from _chats()
    yield from _at_once()
    yield from _later()
    yield from _thoughts()
    yield from _other_words()
    yield from _controls()


def _music() -> Iterator[Row]:
    goals = {"lead_family": 0.95, "tempo_bpm": 0.90, "tonic_name": 0.85, "lead_instrument": None, "mode": None,
             "beats_per_bar": None, "style": None}  # fmt: skip
    for name, goal in goals.items():
        make = partial(music.about, name=name)
        yield Row(f"music: {name}, known builds", make, goal=goal)
        yield Row(f"music: {name}, build never heard", make, _unknown())
        for told, (fonts, less) in FONTS.items():
            if found := midi.find_fonts(fonts):
                world = _known(soundfonts=found, soundfont_share=1.0)
                yield Row(f"music: {name}, {told}", make, world, goal=None if goal is None else goal - less)


def _long() -> Iterator[Row]:
    minutes = {"shortest_s": 540.0, "longest_s": 600.0}
    for word, settings, share in (("30 s to 2 min", {"longest_s": 120.0}, 0.5), ("10 minutes", minutes, 0.3)):
        goal = 0.9 if settings is minutes else None
        yield Row(f"needle in {word}: what", long.needle, _known(**settings), goal=goal, share=share)
        for rule, told in (("when", "when, within 1 s"), ("at", "what at a time")):
            choose = partial(_has_rule, rule)
            yield Row(f"needle in {word}: {told}", long.grounding, _known(**settings), choose, goal, share=share)


def _timed(job: Job) -> Made:
    """All questions of time about a scene of four sounds or one that is counted, each a dialogue of its own."""
    make = sounds.temporal_order if job.plan.random() < 0.5 else sounds.counting
    clips = make(job).clips
    return Made(clips, tuple((turn,) for turn in times.time_turns(clips[0], job)))


def _has_rule(rule: str, turn: Turn) -> bool:
    return turn.rule == rule


def _chats() -> Iterator[Row]:
    yield Row("chat: a later turn refers back", chat.chat, choose=_refers_back, goal=0.90)
    yield Row("chat: the second clip and later ones", chat.chat, goal=0.90,
              choose=lambda turn: turn.rule == "heard" and turn.clip > 0)  # fmt: skip


def _at_once() -> Iterator[Row]:
    """Several clips that come with one question."""
    forms = {
        "which has a sound": "which_has", "in which a woman or a man speaks": "which_voice",
        "which is louder": "louder", "which lasts longer": "longer", "which has the faster music": "faster",
        "the same sound or not": "same_kind", "the same speaker or not": "same_speaker",
        "what is in the k-th": "in_nth", "what is said in the k-th": "said_in", "how often in all": "count_all",
        "each of them": "each", "what is common": "common", "the odd one": "odd",
    }  # fmt: skip
    for told, form in forms.items():
        yield Row(f"several clips at once: {told}", partial(several.about, name=form), goal=0.90, share=0.5)
    yield Row("several clips at once: all forms, in other words", several.several_clips,
              _known(phrasings="held_out"))  # fmt: skip
    yield Row("several clips at once: a label by examples", by_example.by_example, goal=0.90,
              choose=lambda turn: not turn.given)  # fmt: skip


def _later() -> Iterator[Row]:
    """Tasks that came after the first versions of the embedded model."""
    makes = {
        "is anyone speaking, is there music": there.speech_or_music,
        "what sounds at the same time": at_once.simultaneous,
        "nearer, farther, equally far": how_far.distance,
        "one of four numbers": choices.counting_choice,
    }
    for told, make in makes.items():
        yield from _both(told, make, None)
    yield Row("one of four answers to a question", choices.response_choice, _known(longest_s=120.0), share=0.5)
    yield Row("several clips at once: which other has the same sound", partial(several.about, name="matching"))


def _thoughts() -> Iterator[Row]:
    """Where answers without thoughts are all right, thoughts cannot make them better: unknown and noisy sounds, too."""
    noisy = World("test_known", strength=1.0, phrasings="train")
    for told, world in (("", _known()), (", rooms and noise", noisy), (", never heard", _unknown())):
        yield Row(f"counting 1 to 6{told}, thinking", sounds.counting, world, _is_small_count, thinks=True)
        yield Row(f"order of four sounds{told}, thinking", sounds.temporal_order, world, thinks=True)
        yield Row(f"kinds of sound counted{told}, thinking", sounds.counting, world, _is_count_of_kinds, thinks=True)


def _other_words() -> Iterator[Row]:
    makes: dict[str, tuple[Callable[[Job], Made], Callable[[Turn], bool]]] = {
        "counting 1 to 6": (sounds.counting, _is_small_count),
        "order of four sounds": (sounds.temporal_order, lambda turn: True),
        "louder, longer, approaching": (sounds.temporal_attributes, lambda turn: True),
        "all about a speaker": (speech.speaker_attributes, lambda turn: True),
        "all about music": (music.music_knowledge, lambda turn: True),
        "a word of what is said": (speech.information_extraction, lambda turn: True),
    }
    for name, (make, choose) in makes.items():
        yield Row(f"{name}, in other words", make, _known(phrasings="held_out"), choose)


def _controls() -> Iterator[Row]:
    makes: dict[str, Callable[[Job], Made]] = {
        "counting": sounds.counting, "order": sounds.temporal_order, "sex": speech.ATTRIBUTES["sex"],
        "transcript": whole.transcript,
    }  # fmt: skip
    for name, make in makes.items():
        yield Row(f"noise in place of the sound: {name}", make, instead="noise", share=0.5)


@dataclass(frozen=True)
class Result:
    """A row's figures: right answers, those that say that nothing can be recognised, and for rows with thoughts both.

    Attributes:
        right: share of right answers.
        nothing: share of answers that say so.
        without: right answers of the same items without thinking; None for other rows.
        gain: difference with its interval, over the same items; None likewise.
        mistakes: the first few.
    """

    right: Measured
    nothing: float
    without: Measured | None = None
    gain: Measured | None = None
    mistakes: tuple[dict[str, str], ...] = ()


def items_of(row: Row, num_items: int) -> list[Posed]:
    """The row's items; scenes without a fitting question are passed over."""
    found: list[Posed] = []
    index = 0
    while len(found) < max(4, round(num_items * row.share)):
        item = posed(row.make(job_of(row.world, row.name, SEED, index)), row.choose, index)
        found += [item] if item is not None else []
        index += 1
        assert index < 60 * num_items + 400, f"{row.name}: hardly any scene has a fitting question"
    if row.instead is None:
        return found
    return [with_sound(item, row.instead, found[place - 1], place) for place, item in enumerate(found)]


def measure_row(model: AudioFlamingo, row: Row, num_items: int) -> Result:
    """All figures of a row."""
    items = items_of(row, num_items)
    plain = replies_to(model, items, think=False)
    hits = [is_right(item, reply) for item, reply in zip(items, plain, strict=True)]
    nothing = float(np.mean([says_nothing_recognisable(reply) for reply in plain]))
    if not row.thinks:
        return Result(accuracy(hits), nothing, mistakes=_mistakes(items, plain, hits))
    thought = replies_to(model, items, think=True)
    better = [is_right(item, reply) for item, reply in zip(items, thought, strict=True)]
    return Result(accuracy(better), nothing, accuracy(hits), paired(better, hits), _mistakes(items, thought, better))


def replies_to(model: AudioFlamingo, items: Sequence[Posed], *, think: bool) -> list[str]:
    """The model's answers; where it has no adapter for thinking, the suffix alone asks for it."""
    options: dict[str, Any] = {"max_new_tokens": MOST_THOUGHT_TOKENS if think else MOST_NEW_TOKENS}
    has_adapter = model.thinking.is_possible
    conversations = [_with_suffix(item) if think and not has_adapter else item.messages for item in items]
    if think and has_adapter:
        options |= {"think": True}
    longest = max(len(part.samples) for item in items for m in item.messages for part in m.content
                  if not isinstance(part, str))  # fmt: skip
    size = LONG_BATCH if longest > 120 * 16_000 else BATCH
    replies: list[str] = []
    for start in range(0, len(conversations), size):
        batch = [list(one) for one in conversations[start : start + size]]
        replies += [reply.text for reply in model.generate(batch, **options)]
    return replies


def paired(ours: Sequence[bool], theirs: Sequence[bool]) -> Measured:
    """Mean difference over the same items, with its interval by resampling items."""
    apart = np.array(ours, float) - np.array(theirs, float)
    rng = np.random.default_rng(0)
    means = [float(apart[rng.integers(0, len(apart), len(apart))].mean()) for _ in range(1_000)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Measured(float(apart.mean()), float(low), float(high), len(apart))


def as_json(row: Row, result: Result) -> dict[str, Any]:
    """A row of the results file."""
    values: dict[str, Any] = {
        "name": row.name, "score": "right", **asdict(result.right), "goal": row.goal, "nothing": result.nothing,
        "mistakes": list(result.mistakes),
    }  # fmt: skip
    if result.without is not None and result.gain is not None:
        values |= {"without_thinking": asdict(result.without), "gain": asdict(result.gain)}
    return values


def told(row: Row, result: Result) -> str:
    """A line of the printed table."""
    goal = "" if row.goal is None else f"  goal {100 * row.goal:.0f} %"
    line = f"{row.name:<62} {result.right}{goal}"
    if row.instead:
        line += f"  says that nothing is heard: {100 * result.nothing:.0f} %"
    if result.gain is not None:
        line += f"\n{'':<8}without thinking {result.without}; gain {result.gain}"
    return line


def _with_suffix(item: Posed) -> tuple[Any, ...]:
    last = item.messages[-1]
    text = last.content[-1]
    assert isinstance(text, str)
    return (*item.messages[:-1], replace(last, content=(*last.content[:-1], f"{text}\n{THINK_SUFFIX}")))


def _mistakes(items: Sequence[Posed], replies: Sequence[str], hits: Sequence[bool]) -> tuple[dict[str, str], ...]:
    wrong = [
        {"asked": str(item.messages[-1].content[-1])[:200], "truth": item.answer[:200], "reply": reply[:300]}
        for item, reply, hit in zip(items, replies, hits, strict=True)
        if not hit
    ]
    return tuple(wrong[:6])
