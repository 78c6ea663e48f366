"""The sounds of a text with durations, stress and words, from flite's rules without its sound."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

from audioflamingo.errors import FlamingoError
from audioflamingo.world import voices

_VOICE = "cmu_us_kal"
_STRETCH = 1.1  # as this voice speaks by itself
_MOST_SEGMENTS = 20_000


@dataclass(frozen=True)
class Segment:
    """One sound as flite plans it.

    Attributes:
        phone: flite's name; "pau" for a pause.
        duration_s: planned.
        is_stressed: whether its syllable is.
        is_accented: whether its syllable bears an accent of the sentence.
        word: number of its word, from 0; -1 for a pause.
        spelling: of its word.
    """

    phone: str
    duration_s: float
    is_stressed: bool = False
    is_accented: bool = False
    word: int = -1
    spelling: str = ""


def segments_of(text: str) -> list[Segment]:
    """The sounds of a text, pauses included; empty where nothing can be said.

    Raises:
        EngineMissingError: flite is not installed.
        FlamingoError: flite could not read the text.
    """
    return _front_end().segments(text)


@cache
def _front_end() -> _FrontEnd:
    return _FrontEnd()


class _FrontEnd:
    """flite's steps from text to durations and accents; its synthesis is replaced by nothing."""

    def __init__(self) -> None:
        engine: Any = voices.open_engine("flite")  # its library and voices, beside what the interface promises
        self._engine = engine
        self._library = ctypes.CDLL(engine.library._name)  # a handle of its own: signatures belong to a handle
        pointer, text, real = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float
        self._step = ctypes.CFUNCTYPE(pointer, pointer)
        signatures: dict[str, tuple[Any, list[Any]]] = {
            "new_utterance": (pointer, []),
            "utt_set_input_text": (ctypes.c_int, [pointer, text]),
            "utt_init": (pointer, [pointer, pointer]),
            "utt_synth": (pointer, [pointer]),
            "uttfunc_val": (pointer, [pointer]),
            "feat_set": (None, [pointer, text, pointer]),
            "feat_set_float": (None, [pointer, text, real]),
            "utt_relation": (pointer, [pointer, text]),
            "relation_head": (pointer, [pointer]),
            "item_next": (pointer, [pointer]),
            "item_parent": (pointer, [pointer]),
            "item_as": (pointer, [pointer, text]),
            "item_feat_string": (text, [pointer, text]),
            "item_feat_float": (real, [pointer, text]),
            "ffeature_string": (text, [pointer, text]),
            "delete_utterance": (None, [pointer]),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        self._nothing = self._step(lambda utterance: utterance)  # kept: the library holds only a pointer to it
        # The voice merges "ah" into "aa" for want of diphones; the lexicon's own last step does not.
        lexicon = ctypes.CDLL("libflite_cmulex.so.1")
        self._replaced = {
            b"wave_synth_func": ctypes.cast(self._nothing, pointer),
            b"postlex_func": ctypes.cast(lexicon.cmu_postlex, pointer),
        }

    def segments(self, text: str) -> list[Segment]:
        """See `segments_of`."""
        library = self._library
        utterance = library.new_utterance()
        try:
            library.utt_set_input_text(utterance, text.encode("ascii", "ignore"))
            library.utt_init(utterance, self._engine._voice(_VOICE))
            features = ctypes.cast(utterance, ctypes.POINTER(ctypes.c_void_p))[0]  # first of its C structure
            # The voice keeps the rate that it last spoke with; ours is applied later.
            library.feat_set_float(features, b"duration_stretch", _STRETCH)
            for name, step in self._replaced.items():
                library.feat_set(features, name, library.uttfunc_val(step))
            if not library.utt_synth(utterance):
                raise FlamingoError(f"flite could not read {text[:60]!r}")
            return self._read(utterance)
        finally:
            library.delete_utterance(utterance)

    def _read(self, utterance: int) -> list[Segment]:
        library, found, began_s = self._library, list[Segment](), 0.0
        numbers: dict[int, int] = {}
        relation = library.utt_relation(utterance, b"Segment")
        item = library.relation_head(relation) if relation else None
        while item and len(found) < _MOST_SEGMENTS:
            end_s = float(library.item_feat_float(item, b"end"))
            found.append(self._segment(item, end_s - began_s, numbers))
            began_s = end_s
            item = library.item_next(item)
        return found

    def _segment(self, item: int, duration_s: float, numbers: dict[int, int]) -> Segment:
        library = self._library
        phone = library.item_feat_string(item, b"name").decode()
        in_syllable = library.item_as(item, b"SylStructure")
        syllable = library.item_parent(in_syllable) if in_syllable else None
        word = library.item_parent(syllable) if syllable else None
        if not word:
            return Segment("pau", duration_s)
        number = numbers.setdefault(int(word), len(numbers))
        stressed = library.ffeature_string(item, b"R:SylStructure.parent.stress") == b"1"
        accented = library.ffeature_string(item, b"R:SylStructure.parent.accented") == b"1"
        spelling = library.item_feat_string(word, b"name").decode("ascii", "ignore")
        return Segment(phone, duration_s, stressed, accented, number, spelling)
