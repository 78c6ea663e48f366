"""Typed values from answers: what is asked, how answers are read, and what is refused rather than made up."""

import dataclasses
import random
import re
from pathlib import Path

import numpy as np
import pytest

from audioflamingo import Audio, load_model
from audioflamingo.errors import AnswerError, OptionError
from audioflamingo.facts import Emotion, FactsModel, SongFacts, Tags, questions
from audioflamingo.facts.asking import listed, names_music
from audioflamingo.types import Reply, Usage
from audioflamingo.world.music import synth
from audioflamingo.world.music.compose import compose, draw_facts

EXAMPLES = Path(__file__).parents[3] / "examples"
SIREN = EXAMPLES / "siren.flac"
SOUND = Audio(np.zeros(16_000, dtype=np.float32), "street.wav")
ANSWERS = {
    "Is anyone speaking?": "Yes.",
    "How does the speaker sound?": "(F) angry",
    "Describe the speaker's tone of voice in a few words.": " Sharp and loud. ",
    "The speaker sounds angry. What in the voice": "A raised pitch, hurried words.",
    "Is there music?": "Yes.",
    "What is the genre of this music?": "Trance pop.",
    "What is the mood of this music?": "Uplifting.",
    "Which instruments play in this music?": "A synthesizer, drums and the bass.",
    "What is the tempo of this music in": "128 BPM",
    "Is the tempo slow, moderate or fast?": "(C) fast",
    "What is the key of this music?": "F sharp minor",
    "Describe the structure of this music": "An intro, two drops, an outro.",
    "What do you hear?": "A dog barking, then rain in the background, and a dog barking.",
    "Can you hear a dog barking?": "Yes.",
    "Can you hear rain?": "No.",
}


class Scripted(FactsModel):
    """Says what stands in a table, within what each question allows."""

    def __init__(self, **changed):
        self.answers = ANSWERS | changed
        self.asked = []

    def generate(self, conversations, *, each, **options):
        return [self._reply(*one, options) for one in zip(conversations, each, strict=True)]

    def _reply(self, conversation, own, options):
        (message,) = conversation
        sound, text = message.content
        assert sound is SOUND
        answer = next(answer for question, answer in self.answers.items() if text.startswith(question))
        assert answer in own.get("choices", (answer,))
        self.asked.append((text, own | options))
        return Reply(answer, (1,), "length" if answer.endswith("...") else "stop", Usage(1, 1, 1, 1.0))


def test_the_emotion_of_a_speaker():
    model = Scripted()
    assert model.emotion(SOUND) == Emotion("angry", "Sharp and loud.", "A raised pitch, hurried words.")
    assert model.asked[2][0].endswith("options:\n" + "\n".join(model.asked[2][1]["choices"]))


@pytest.mark.parametrize(
    ("named", "speaks"), [("Music.", False), ("Music, then a man speaking.", True), ("Rain.", True)]
)
def test_speech_that_is_affirmed_in_nothing_but_music_is_not_believed(named, speaks):
    model = Scripted(**{"What do you hear?": named})
    if speaks:
        assert model.emotion(SOUND).label == "angry"
    else:
        with pytest.raises(AnswerError, match="hears no speech"):
            model.emotion(SOUND)


def test_the_facts_of_a_song():
    expected = SongFacts(
        genre="Trance pop", mood="Uplifting", instruments=("synthesizer", "drums", "bass"), tempo_bpm=128, pace="fast",
        key="F# minor", structure="An intro, two drops, an outro.",
    )  # fmt: skip
    assert Scripted().song(SOUND) == expected


def test_tags_as_the_model_names_them_or_among_given_ones():
    assert Scripted().tags(SOUND) == Tags(("dog barking", "rain"))
    assert Scripted().tags(SOUND, among=["rain", "a dog barking"]) == Tags(("a dog barking",))
    assert Scripted(**{"What do you hear?": "Nothing recognisable, only noise."}).tags(SOUND) == Tags(())


def test_options_reach_every_question():
    model = Scripted()
    model.tags(SOUND, temperature=0.5)
    model.emotion(SOUND, max_new_tokens=9)
    assert model.asked[0][1] == {"temperature": 0.5, "max_new_tokens": questions.SHORT_TOKENS}
    assert all(options["max_new_tokens"] == 9 for _, options in model.asked[1:])


def answering(changed):
    """The script with other answers to the questions that begin so."""
    return Scripted(
        **{next(question for question in ANSWERS if question.startswith(begun)): one for begun, one in changed.items()}
    )


@pytest.mark.parametrize(
    ("call", "changed", "message"),
    [
        ("emotion", {"Is anyone speaking?": "No."}, "hears no speech in street.wav"),
        ("emotion", {"How does the speaker sound?": "(J) unclear"}, "cannot tell the emotion in street.wav"),
        ("song", {"Is there music?": "No."}, "hears no music in street.wav"),
        ("tags", {"What do you hear?": "A dog and a dog and a dog..."}, "tags of street.wav was cut"),
    ],
)
def test_what_the_model_cannot_tell_is_an_error(call, changed, message):
    with pytest.raises(AnswerError, match=message) as error:
        getattr(answering(changed), call)(SOUND)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "changed", "field", "message"),
    [
        (
            "emotion",
            {"Describe the speaker's tone": "No."},
            "tone",
            "not tell the tone of street.wav, it answers 'No.'",
        ),
        ("emotion", {"The speaker sounds": "  "}, "evidence", "does not tell the evidence of street.wav"),
        ("song", {"What is the genre": "The recording does not say."}, "genre", "does not tell the genre"),
        ("song", {"What is the mood": "Unclear."}, "mood", "does not tell the mood"),
        ("song", {"Which instruments": "Silence."}, "instruments", "names no instrument"),
        ("song", {"Which instruments": "Three."}, "instruments", "names no instrument"),
        (
            "song",
            {"Describe the structure": "An intro, an intro..."},
            "structure",
            "street.wav was cut.*max_new_tokens",
        ),
    ],
)
def test_what_the_model_does_not_tell_is_none_with_a_reason(call, changed, field, message):
    whole, found = getattr(Scripted(), call)(SOUND), getattr(answering(changed), call)(SOUND)
    (reason,) = found.untold
    assert re.search(message, reason)
    assert "\n" not in reason
    assert getattr(found, field) in (None, ())
    assert dataclasses.replace(found, **{field: getattr(whole, field)}, untold=()) == whole


@pytest.mark.parametrize("among", ["rain", [], ["rain", "rain"], ["x"] * 1001])
def test_labels_that_cannot_be_asked_for(among):
    with pytest.raises(OptionError, match="among is"):
        Scripted().tags(SOUND, among=among)


@pytest.mark.parametrize("name", ["schema", "choices"])
def test_what_the_answers_must_be_is_not_an_option(name):
    with pytest.raises(OptionError, match=f"{name} came"):
        Scripted().tags(SOUND, **{name: None})


@pytest.mark.parametrize(
    ("answer", "labels"),
    [
        ("A dog, a bell and then rain.", ("dog", "bell", "rain")),
        ("I hear the sound of an owl", ("owl",)),
        ("A man speaking, with rain falling in the background.", ("man speaking", "rain falling")),
        ("- Piano\n- Drums\n- piano", ("piano", "drums")),
        ("Nothing.", ()),
        ("Nothing recognisable, only noise.", ()),
        ("", ()),
    ],
)
def test_lists_in_answers(answer, labels):
    assert listed(answer) == labels


@pytest.mark.parametrize(
    ("answer", "is_so"),
    [
        ("Music, then a man speaking.", True),
        ("A man speaks over background music.", True),
        ("No speech, but a slow melody.", True),
        ("There is no background music.", False),
        ("Birds sing without any music, then rain falls.", False),
        ("The song of a bird.", False),
        ("A piano note.", False),
        ("Nothing.", False),
        ("", False),
    ],
)
def test_whether_music_is_named(answer, is_so):
    assert names_music(answer) is is_so


def test_music_that_is_named_but_not_affirmed_is_music():
    named = answering({"Is there music?": "No.", "What do you hear?": "Music, then a man speaking."})
    assert named.song(SOUND) == Scripted().song(SOUND)


def test_the_questions_fit_what_may_be_answered():
    keys = set(questions.KEY.choices.values())
    assert {"C major", "F# minor", "Bb minor"} <= keys
    assert all(re.fullmatch(r"[A-G][#b]? (major|minor)", key) for key in keys)
    assert [int(value) for value in questions.TEMPO.choices.values()] == list(range(30, 261))
    for question in (questions.EMOTION, questions.PACE):
        assert list(question.choices) == question.text.split("\n")[1:]


@pytest.fixture(scope="module")
def nano():
    return load_model("nano", device="cpu")


def test_the_embedded_model_names_what_it_hears(nano):
    phone, knock = nano.tags(EXAMPLES / "phone_then_knock.flac").labels
    assert "phone" in phone
    assert "knock" in knock
    assert nano.tags(EXAMPLES / "silence.flac") == Tags(())
    with pytest.raises(AnswerError, match=r"hears no speech in siren\.flac"):
        nano.emotion(SIREN)
    with pytest.raises(AnswerError, match=r"hears no music in siren\.flac"):
        nano.song(SIREN)


@pytest.mark.parametrize("is_held_out", [False, True])
def test_the_embedded_model_tells_the_facts_of_music(nano, is_held_out):
    """Of six pieces by instruments as it knows them and as it never heard them; one of each may be taken for none."""
    told = 0
    for seed in range(6):
        rng = random.Random(seed)
        score = compose(draw_facts(rng, duration_s=9.0), rng)
        piece = Audio(synth.render(score, np.random.default_rng(seed), held_out=is_held_out), "piece")
        try:
            found = nano.song(piece)
        except AnswerError:
            continue
        told += 1
        assert questions.SLOWEST_BPM <= found.tempo_bpm <= questions.FASTEST_BPM
        assert found.key in questions.KEY.choices.values()
    assert told >= 5


def test_the_embedded_model_hears_no_music_in_other_sounds(nano):
    for name in ("dog_then_bell.wav", "man_speaking.flac", "noise.wav", "phone_then_knock.flac", "silence.flac"):
        with pytest.raises(AnswerError, match="hears no music"):
            nano.song(EXAMPLES / name)


def test_captions_in_both_lengths(nano):
    for detail, question in questions.CAPTIONS.items():
        assert nano.caption(SIREN, detail=detail) == nano.ask(SIREN, question)
    with pytest.raises(OptionError, match="detail is 'middle', allowed: 'short', 'long'"):
        nano.caption(SIREN, detail="middle")


def test_choices_are_kept_to_streamed_and_whole(nano):
    question, choices = "What do you hear?", ("A siren wails.", "A dog barks.")
    assert nano.ask(SIREN, question, choices=choices).text in choices
    message = {"role": "user", "content": question}
    assert "".join(delta.text for delta in nano.stream([message], choices=choices)) in choices
    with pytest.raises(ValueError, match="before a choice"):
        nano.ask(SIREN, question, choices=choices, max_new_tokens=1)
