"""Questions about scenes, with exact answers: the scene's own timeline is the source of every word.

Every task has several phrasings; the last of each list is held out: training never asks it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from audioflamingo.world import sounds
from audioflamingo.world.scenes import Event, Scene

TRANSCRIBE = (
    "Transcribe the input speech.",
    "Transcribe any speech you hear.",
    "Transcribe the audio.",
    "What is said?",
    "What does the speaker say?",
    "Write down what you hear being said.",
    "What are the words of the speaker?",
    "What words are spoken here?",
    "Which words can you make out?",
    "Tell me what is said.",
    "Give the words that you hear.",
    "Please transcribe the speech.",
    "Transcript?",
    "What are the words that are spoken?",
)
IDENTIFY = (
    "What do you hear?",
    "What sound is this?",
    "What can be heard?",
    "Name the sound.",
    "Name the sounds.",
    "Which sounds do you hear?",
    "What is this?",
    "What is happening?",
    "What is it?",
    "What is heard?",
    "What is going on?",
    "Identify the sound.",
    "Tell me which sounds are in this recording.",
    "Please name what you hear.",
    "What is going on in this recording?",
)
CAPTION = (
    "Please describe the audio in detail",
    "Describe the audio.",
    "Describe what you hear in this audio.",
    "Give a caption.",
    "Caption this sound.",
    "What happens in this recording?",
    "What do you hear? Answer in a sentence.",
    "Describe this recording.",
    "Tell me about the scene.",
    "Tell me in a sentence what you hear.",
    "Write a caption.",
    "Say in a sentence what happens.",
    "Caption?",
    "Tell me about this recording.",
)
FIRST = (
    "Which sound comes first?",
    "What do you hear first?",
    "Which sound came first?",
    "What is the first sound?",
    "What is heard at the beginning?",
    "Which sound is at the start?",
    "Name the first sound.",
    "Name the sound at the beginning.",
    "Tell me the first sound.",
    "Identify the sound that comes first.",
    "Please name the sound that is first.",
    "Sound at the beginning?",
    "Name the sound that is heard at the beginning.",
)
LAST = (
    "Which sound comes last?",
    "What do you hear last?",
    "Which sound came last?",
    "What is the last sound?",
    "What is heard at the end?",
    "Which sound is it that comes at the end?",
    "Name the last sound.",
    "Name the sound at the end.",
    "Tell me the last sound.",
    "Identify the sound that comes last.",
    "Please name the sound that is last.",
    "Sound at the end?",
    "Name the sound that is heard at the end.",
)
WHICH_FIRST = (
    "Which came first, {a} or {b}?",
    "Which comes first: {a} or {b}?",
    "What do you hear first, {a} or {b}?",
    "Which is heard first: {a} or {b}?",
    "Which was first, {a} or {b}?",
    "Did {a} or {b} come first?",
    "Is {a} or {b} the first sound?",
    "Name the one that comes first: {a} or {b}.",
    "Tell me which is first, {a} or {b}.",
    "Please say whether {a} or {b} came first.",
    "First: {a} or {b}?",
    "Is {a} or {b} heard first?",
)
PRESENT = (
    "Is there {a}?",
    "Do you hear {a}?",
    "Can you hear {a}?",
    "Can {a} be heard?",
    "Is {a} heard here?",
    "Is {a} there?",
    "Did you hear {a}?",
    "Is there {a} in this recording?",
    "Tell me if you hear {a}.",
    "Say whether there is {a}.",
    "Please tell me if there is {a}.",
    "Any {a}?",
    "{Does}?",
    "Can {a} be heard here?",
)
CHOICE = (
    "Which sound is this? Choose the correct option from the following options:",
    "What do you hear? Choose the correct option from the following options:",
    "What can be heard? Choose the correct option from the following options:",
    "Which of these sounds is it?",
    "Which of these do you hear?",
    "Choose the sound that you hear:",
    "Choose the right sound:",
    "Choose what can be heard from this list:",
    "Pick the sound that is heard:",
    "Select the correct sound:",
    "Please choose the option that you hear:",
    "Tell me which of the following it is:",
    "Choose the sound that can be heard:",
)
SPEECH_PRESENT = (
    "Is anyone speaking?",
    "Does somebody speak?",
    "Do you hear speech?",
    "Is there any speech?",
    "Is somebody talking?",
    "Do you hear a voice?",
    "Is a voice heard?",
    "Can you hear anyone talk?",
    "Does anyone say something?",
    "Tell me whether there is speech.",
    "Please say if anyone speaks.",
    "Any speech?",
    "Is there a voice?",
)
SPEAKER_SEX = (
    "Is it a man or a woman?",
    "Is the speaker a man or a woman?",
    "Who is speaking, a man or a woman?",
    "Who speaks here, a woman or a man?",
    "Does a man or a woman talk?",
    "Do you hear a man speak or a woman?",
    "Is this the voice of a man or of a woman?",
    "Is the voice male or female?",
    "Tell me if the speaker is a man or a woman.",
    "Say who is speaking: a man or a woman.",
    "Please tell whether it is a woman or a man.",
    "Male or female?",
    "Does a woman or a man speak?",
)
BACKGROUND = (
    "What do you hear in the background?",
    "Which sound is in the background?",
    "What is behind the speech?",
    "What sound goes on behind the voice?",
    "Which sound is behind the speech?",
    "What goes on in the background?",
    "What else is heard besides the speech?",
    "Name the sound behind the speech.",
    "Tell me what is in the background.",
    "Identify the sound in the background.",
    "Please say what you hear behind the voice.",
    "Sound in the background?",
    "What goes on behind the speech?",
)
WITHOUT_AUDIO = tuple(
    text for phrasings in (IDENTIFY, TRANSCRIBE, CAPTION, FIRST, SPEECH_PRESENT) for text in phrasings[:-1]
)
GREETING = ("Hello!", "Hi.", "Hello, who are you?", "Who are you?", "What can you do?", "Good morning.", "Help.")
GREETING_WEIGHT = 7.0  # so that greetings are two fifths of what is asked without a sound

NO_SPEECH = "There is no speech."
NOISE = "Nothing recognisable, only noise."
SILENCE = "Silence."
NO_AUDIO = "I cannot hear anything, because no sound was given."
I_AM = "I am a small audio model. Give me a sound and ask about it."


@dataclass(frozen=True)
class Question:
    """One question about a scene.

    Attributes:
        task: its generator's name.
        text: what is asked.
        answer: the truth, in the words the model should use.
        weight: how often it is drawn in training, relative to the scene's other questions.
    """

    task: str
    text: str
    answer: str
    weight: float = 1.0


@dataclass(frozen=True)
class Phrasing:
    """Draws a phrasing: the last of a list only when it is held out, never otherwise."""

    rng: random.Random
    held_out: bool = False

    def of(self, phrasings: tuple[str, ...], **words: str) -> str:
        """One of the phrasings with its words filled in."""
        chosen = phrasings[-1] if self.held_out else self.rng.choice(phrasings[:-1])
        return chosen.format(**words) if words else chosen


def questions(scene: Scene, rng: random.Random, *, held_out_phrasings: bool = False) -> list[Question]:
    """All questions that this scene can answer, one phrasing each."""
    phrasing = Phrasing(rng, held_out_phrasings)
    return [question for task in TASKS for question in task(scene, phrasing)]


def text_only_questions() -> list[Question]:
    """Questions without any sound: asked about one, the model says that there is none."""
    asked = [Question("without_audio", text, NO_AUDIO) for text in WITHOUT_AUDIO]
    return asked + [Question("greeting", text, I_AM, weight=GREETING_WEIGHT) for text in GREETING]


def transcribe(scene: Scene, phrasing: Phrasing) -> Iterator[Question]:
    """The words that are spoken."""
    said = scene.transcript
    text = TRANSCRIBE[0] if phrasing.rng.random() < 0.5 and not phrasing.held_out else phrasing.of(TRANSCRIBE)
    yield Question("transcribe", text, said if said else NO_SPEECH, weight=8.0 if said else 0.4)


def identify(scene: Scene, phrasing: Phrasing) -> Iterator[Question]:
    """Names of all that is heard, in order."""
    yield Question("identify", phrasing.of(IDENTIFY), heard(scene), weight=3.0 if not scene.transcript else 0.7)


def caption(scene: Scene, phrasing: Phrasing) -> Iterator[Question]:
    """A sentence about the scene."""
    yield Question("caption", phrasing.of(CAPTION), described(scene), weight=1.5 if not scene.transcript else 0.7)


def order(scene: Scene, phrasing: Phrasing) -> Iterator[Question]:
    """What comes first and last."""
    events = scene.sound_events
    if len(events) < 2:
        return
    first, last = events[0], events[-1]
    yield Question("first", phrasing.of(FIRST), _sentence(_label(first)))
    yield Question("last", phrasing.of(LAST), _sentence(_label(last)))
    pair = [_label(first), _label(last)]
    phrasing.rng.shuffle(pair)
    yield Question("which_first", phrasing.of(WHICH_FIRST, a=pair[0], b=pair[1]), _sentence(_label(first)), 2.0)


def presence(scene: Scene, phrasing: Phrasing) -> Iterator[Question]:
    """Whether a kind of sound is there: one that is, and one that is not."""
    there = {event.kind for event in scene.sound_events} | ({scene.background} if scene.background else set())
    absent = phrasing.rng.choice(sorted(set(sounds.KINDS) - there))
    if there and phrasing.rng.random() < 0.5:
        kind = sounds.KINDS[phrasing.rng.choice(sorted(there))]
        yield Question("presence", phrasing.of(PRESENT, **_words(kind)), f"Yes, {kind.label}.", 0.8)
    else:
        yield Question("presence", phrasing.of(PRESENT, **_words(sounds.KINDS[absent])), "No.", 0.8)


def _words(kind: sounds.Kind) -> dict[str, str]:
    """What phrasings call a kind."""
    return {"a": kind.label, "Does": kind.question[0].upper() + kind.question[1:]}


def choice(scene: Scene, phrasing: Phrasing) -> Iterator[Question]:
    """Multiple choice of four, for scenes with one sound event."""
    if len(scene.sound_events) != 1 or scene.transcript:
        return
    right = scene.sound_events[0].kind
    options = [right, *phrasing.rng.sample(sorted(set(sounds.KINDS) - {right}), 3)]
    phrasing.rng.shuffle(options)
    lines = [f"({letter}) {sounds.KINDS[name].label}" for letter, name in zip("ABCD", options, strict=True)]
    yield Question("choice", "\n".join([phrasing.of(CHOICE), *lines]), lines[options.index(right)], 1.5)


def speaker(scene: Scene, phrasing: Phrasing) -> Iterator[Question]:
    """Whether anyone speaks, and who."""
    voices = [event for event in scene.events if event.sex]
    yield Question("speech_present", phrasing.of(SPEECH_PRESENT), "Yes." if voices else "No.", 0.3)
    if voices:
        yield Question("speaker_sex", phrasing.of(SPEAKER_SEX), f"A {_person(voices[0])}.", 0.4)


def background(scene: Scene, phrasing: Phrasing) -> Iterator[Question]:
    """The steady sound behind speech."""
    if scene.background:
        label = sounds.KINDS[scene.background].label
        yield Question("background", phrasing.of(BACKGROUND), _sentence(label), 2.0)


TASKS: tuple[Callable[[Scene, Phrasing], Iterator[Question]], ...] = (
    transcribe, identify, caption, order, presence, choice, speaker, background,
)  # fmt: skip


def heard(scene: Scene) -> str:
    """What is heard, as noun phrases in order: "A dog barking, then rain falling."."""
    if scene.backdrop != "scene":
        return NOISE if scene.backdrop == "noise" else SILENCE
    labels: list[str] = []
    for event in scene.events:
        label = _label(event)
        if not labels or labels[-1] != label:
            labels.append(label)
    told = ", then ".join(labels)
    if scene.background:
        told += f", with {sounds.KINDS[scene.background].label} in the background"
    return _sentence(told)


def described(scene: Scene) -> str:
    """The scene in a sentence: "A dog barks, then a woman says: it is late."."""
    if scene.backdrop != "scene":
        return NOISE if scene.backdrop == "noise" else SILENCE
    clauses = [sounds.KINDS[event.kind].sentence for event in scene.sound_events]
    voices = [event for event in scene.events if event.sex]
    if voices:
        behind = f" while {sounds.KINDS[scene.background].sentence}" if scene.background else ""
        clauses.append(f"a {_person(voices[0])} speaks{behind}")
    return _sentence(", then ".join(clauses))


def _label(event: Event) -> str:
    if event.sex:
        return f"a {_person(event)} speaking"
    return sounds.KINDS[event.kind].label


def _person(event: Event) -> str:
    return "woman" if event.sex == "female" else "man"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
