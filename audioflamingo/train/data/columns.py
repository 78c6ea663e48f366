"""Records of other data sets as rows of ours: which column holds the sound, the question and the answer.

A record either holds a whole conversation in NVIDIA's form, or a question and an answer in two columns, or an answer
alone, to a question that is the same for all. What is not said is guessed from the usual names, and never silently:
where no column fits, the error lists what there is and how to say it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from audioflamingo.prompt import CAPTION_PROMPT, TRANSCRIBE_PROMPT
from audioflamingo.train.data.rows import TrainingDataError

SOUND_NAMES = ("audio", "sound")
QUESTION_NAMES = ("question", "prompt", "instruction")
ANSWER_NAMES = ("answer", "response", "output")
TRANSCRIPT_NAMES = ("transcription", "transcript", "sentence", "text")
CAPTION_NAMES = ("caption",)
CONVERSATION_NAMES = ("conversations",)
REFERENCE_NAMES = ("references",)


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a data set; None where one is to be guessed or is not there.

    Attributes:
        sound: the audio.
        question: what is asked.
        answer: what is to be learnt.
        conversations: whole conversations, in the place of the two.
        id: unique name of a record; None numbers them.
        ask: one question for all records, where no column holds it.
        references: a list of all true answers, where there are several.
    """

    sound: str | None = None
    question: str | None = None
    answer: str | None = None
    conversations: str | None = None
    id: str | None = None
    ask: str | None = None
    references: str | None = None

    @classmethod
    def from_registry(cls, values: Mapping[str, Any], name: str) -> Columns:
        """Of an entry of a registry; other keys of it are another's business.

        Raises:
            TrainingDataError: a value is no string.
        """
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        wrong = [key for key, value in known.items() if not isinstance(value, str) or not value]
        if wrong:
            raise TrainingDataError(f"{wrong[0]!r} of {name!r} in the registry must be a string")
        return cls(**known)

    def found(self, names: Collection[str], where: str) -> Columns:
        """The same with what was left open filled in from the columns that there are.

        Raises:
            TrainingDataError: a named column does not exist, or none holds an answer.
        """
        for given in (self.sound, self.question, self.answer, self.conversations, self.id, self.references):
            if given is not None and given not in names:
                raise TrainingDataError(f"{where} has no column {given!r}; it has: {_listed(names)}")
        sound = self.sound or _first(SOUND_NAMES, names)
        conversations = self.conversations or (None if self.answer else _first(CONVERSATION_NAMES, names))
        key = self.id or ("id" if "id" in names else None)
        references = self.references or _first(REFERENCE_NAMES, names)
        if conversations is not None:
            return Columns(sound=sound, conversations=conversations, id=key, references=references)
        answer = self.answer or _first((*ANSWER_NAMES, *CAPTION_NAMES, *TRANSCRIPT_NAMES), names)
        if answer is None:
            raise TrainingDataError(
                f"{where} has no column that looks like an answer; it has: {_listed(names)}. Say which in a registry: "
                '{"NAME": {"datasets": "...", "sound": "audio", "question": "q", "answer": "a"}}'
            )
        question = None if self.ask else self.question or _first(QUESTION_NAMES, names)
        return Columns(sound, question, answer, None, key, self.ask or _usual_question(answer, question), references)

    def row(self, record: Mapping[str, Any], number: int) -> dict[str, Any]:
        """A record's `id`, `conversations` and `references` as `parse_row` checks them; needs `found` columns."""
        key = record.get(self.id) if self.id else str(number)
        references = record.get(self.references) if self.references else None
        if self.conversations is not None:
            return {"id": key, "conversations": _turns(record.get(self.conversations)), "references": references}
        question = record.get(self.question) if self.question else self.ask
        answer = record.get(self.answer or "")
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        return {"id": key, "conversations": turns, "references": references}


def _usual_question(answer: str, question: str | None) -> str | None:
    if question is not None:
        return None
    return TRANSCRIBE_PROMPT if answer in TRANSCRIPT_NAMES else CAPTION_PROMPT


def _turns(value: Any) -> Any:
    """Turns as a list of mappings; tables may turn them into a mapping of lists, or use role and content."""
    if isinstance(value, Mapping) and all(isinstance(column, list) for column in value.values()):
        value = [dict(zip(value, cells, strict=False)) for cells in zip(*value.values(), strict=False)]
    if isinstance(value, list):
        return [_turn(turn) for turn in value]
    return value


def _turn(turn: Any) -> Any:
    if isinstance(turn, Mapping) and "from" not in turn and "role" in turn:
        return {"from": turn.get("role"), "value": turn.get("content")}
    return turn


def _first(wanted: tuple[str, ...], names: Collection[str]) -> str | None:
    return next((name for name in wanted if name in names), None)


def _listed(names: Collection[str]) -> str:
    text = ", ".join(sorted(map(str, names)))
    return text if len(text) <= 200 else f"{text[:200]}..."
