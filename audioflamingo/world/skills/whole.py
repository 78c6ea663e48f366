"""Captions and transcripts: everything that is in a scene, in words (the paper's recognition sets, made by us)."""

from __future__ import annotations

from audioflamingo.world import sounds
from audioflamingo.world.music.compose import compose, draw_facts
from audioflamingo.world.said import statement
from audioflamingo.world.skills.base import BED_KINDS, EVENT_KINDS, Job, Made, Turn, person, sentence
from audioflamingo.world.text import normalise
from audioflamingo.world.timeline import Heard, Timeline

CAPTION = (
    "Describe the recording.",
    "Give a detailed caption.",
    "Describe everything you hear.",
    "Depict the scene.",
    "Depict what is heard, in sentences.",
    "Write a caption for all that can be heard.",
    "What can be heard? Describe it in full.",
    "Give a full description of the recording.",
    "Tell me in sentences everything that goes on.",
    "Please describe the whole scene in detail.",
    "Caption of the recording?",
    "Write a detailed description of the sounds.",
    "Depict everything that can be heard.",
)
TRANSCRIBE = (
    "Transcribe the input speech.",
    "Transcribe the speech.",
    "Transcribe what is said.",
    "Transcribe this recording.",
    "Put the words into writing.",
    "Put what is said into writing.",
    "Give a transcript of the speech.",
    "Write a transcript.",
    "Type out what the speaker says.",
    "Please transcribe what you hear.",
    "Transcript, please.",
    "I need the speech as text.",
    "What is the transcript of this?",
    "Put the speech into writing.",
)
TRANSCRIBE_TIMES = (
    "Transcribe the speech with the time of every word.",
    "Transcribe with word times.",
    "Transcribe what is said and give the time of each word.",
    "Transcribe, with a time for each word.",
    "Put the speech into writing with the times of the words.",
    "Write down the words and when each is spoken.",
    "Give a transcript with word times.",
    "Give the start time of every word.",
    "Tell me when each word is spoken.",
    "Please transcribe with a time before every word.",
    "Words with their times?",
    "Which words are spoken, and when does each of them start?",
    "Put the speech into writing and say when each word is spoken.",
)
TRANSCRIBE_VOICES = (
    "Transcribe the dialogue with its speakers.",
    "Who says what? Transcribe.",
    "Transcribe the conversation, one line for each speaker.",
    "Transcribe and tell the speakers apart.",
    "Put the dialogue into writing with its speakers.",
    "Write down the conversation with the speaker of each sentence.",
    "Give a transcript with speakers.",
    "Tell me which speaker says what.",
    "List what is said, by speaker.",
    "Please transcribe the dialogue and mark each speaker.",
    "Transcript by speaker?",
    "What does each speaker of the conversation say?",
    "Put the conversation into writing, speaker by speaker.",
)


def caption(job: Job) -> Made:
    """Sounds, voices and music in one scene, told in order of their start."""
    rng = job.dice.plain
    stage = job.stage()
    if rng.random() < 0.4:
        stage.bed(rng.choice(BED_KINDS))
    if rng.random() < 0.4:
        score = compose(draw_facts(rng, duration_s=rng.uniform(8.0, 14.0)), rng)
        stage.music(score, start_s=0.0, level_db=-10.0)
        stage.clock_s = 0.0
    for voice in job.cast(None, None)[: rng.randint(0, 2)]:
        stage.pause()
        stage.say(statement(rng, test=job.test), voice)
    for _ in range(rng.randint(0 if stage.events else 1, 3)):
        stage.pause()
        stage.sound(rng.choice(EVENT_KINDS))
    timeline = stage.close()
    value = [event.kind for event in timeline.events]
    turn = Turn(job.phrasing.of(CAPTION), described(timeline), "caption", {}, value)
    return Made((timeline,), ((turn,),))


def described(timeline: Timeline) -> str:
    """The scene in a sentence or two."""
    clauses: list[str] = []
    for event in timeline.front:
        clause = _clause(event)
        if not clauses or clauses[-1] != clause:
            clauses.append(clause)
    behind = [sounds.KINDS[event.kind].sentence for event in timeline.events if event.layer == "back"]
    told = sentence(", then ".join(clauses)) if clauses else ""
    return " ".join(part for part in (told, *(f"In the background, {one}." for one in behind)) if part)


def _clause(event: Heard) -> str:
    if event.kind == "speech":
        assert event.text is not None
        return f'{person(event)} says: "{event.text.rstrip(".")}"'
    if event.piece is not None:
        names = [part["instrument"] for part in event.piece["parts"]]
        return f"a {event.piece['style']} piece in a {event.piece['mode']} key is played by {_joined(names)}"
    return "music plays" if event.kind == "music" else sounds.KINDS[event.kind].sentence


def _joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def transcript(job: Job) -> Made:
    """Everyday sentences by one voice, plain; and with word times where the engine tells them."""
    rng = job.dice.plain
    (voice,) = job.cast(None)
    stage = job.stage()
    for _ in range(rng.randint(1, 3)):
        stage.say(job.world.sentences.sentence(rng), voice)
        stage.pause()
    timeline = stage.close()
    words = " ".join(normalise(event.text or "") for event in timeline.events)
    dialogues: list[tuple[Turn, ...]] = [(Turn(job.phrasing.of(TRANSCRIBE), words, "transcript", {}, words),)]
    timed = timed_words(timeline)
    if timed is not None:
        value = [[word, start_s] for word, start_s in timed]
        told = " ".join(f"[{start_s:.2f}] {word}" for word, start_s in timed)
        dialogues.append((Turn(job.phrasing.of(TRANSCRIBE_TIMES), told, "word_times", {}, value),))
    return Made((timeline,), tuple(dialogues))


def timed_words(timeline: Timeline) -> list[tuple[str, float]] | None:
    """Every word (or group of words) with its start in seconds, or None where an engine did not tell."""
    found: list[tuple[str, float]] = []
    for event in timeline.events:
        if event.kind == "speech":
            if event.words is None:
                return None
            found += [(word.text, round(word.start_s, 2)) for word in event.words]
    return found


def dialogue_transcript(job: Job) -> Made:
    """A dialogue of two to four voices, told speaker by speaker; speakers are numbered as they come."""
    rng = job.dice.plain
    cast = job.cast("female", "male", None, None)[: rng.randint(2, 4)]
    stage = job.stage()
    for index in range(rng.randint(3, 6)):
        voice = cast[index] if index < len(cast) else rng.choice(cast)
        stage.say(job.world.sentences.sentence(rng), voice)
        stage.pause()
    timeline = stage.close()
    names: list[str] = []
    value = []
    for event in timeline.events:
        assert event.voice is not None
        if event.voice["name"] not in names:
            names.append(event.voice["name"])
        value.append([names.index(event.voice["name"]) + 1, normalise(event.text or "")])
    told = "\n".join(f"Speaker {number}: {text}" for number, text in value)
    turn = Turn(job.phrasing.of(TRANSCRIBE_VOICES), told, "dialogue", {}, value)
    return Made((timeline,), ((turn,),))
