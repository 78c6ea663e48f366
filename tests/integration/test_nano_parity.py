"""The embedded model: transformers loads its folder as the large one's, and gives the same on every example."""

from pathlib import Path

import pytest
import torch

from audioflamingo import Message, load_audio, load_model
from audioflamingo.audio import log_mel_batch, split_windows
from audioflamingo.model.weights.locate import NANO_FOLDER
from audioflamingo.prompt import TRANSCRIBE_PROMPT, build

EXAMPLES = sorted(
    path for path in (Path(__file__).parents[2] / "examples").iterdir() if path.suffix in (".wav", ".flac")
)
QUESTIONS = ("What do you hear?", TRANSCRIBE_PROMPT)


@pytest.fixture(scope="module")
def nano():
    return load_model("nano", device="cpu")


@pytest.fixture(scope="module")
def loaded():
    """transformers' model, and its report on loading."""
    from transformers import AudioFlamingo3ForConditionalGeneration

    return AudioFlamingo3ForConditionalGeneration.from_pretrained(
        NANO_FOLDER, dtype=torch.float32, output_loading_info=True, local_files_only=True
    )


@pytest.fixture(scope="module")
def reference(loaded):
    return loaded[0].eval()


@pytest.fixture(scope="module")
def processor():
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(NANO_FOLDER, local_files_only=True)


@pytest.fixture(scope="module", params=EXAMPLES, ids=lambda path: path.stem)
def sound(request):
    return load_audio(request.param)


def reference_inputs(processor, sound, question):
    content = [{"type": "audio", "audio": sound.samples}, {"type": "text", "text": question}]
    return processor.apply_chat_template(
        [[{"role": "user", "content": content}]], tokenize=True, add_generation_prompt=True, return_dict=True
    )


def our_prompt(nano, sound, question):
    return build((Message("user", (sound, question)),), nano.tokenizer, nano.template)


def test_there_are_sounds_to_compare():
    assert len(EXAMPLES) >= 5


def test_transformers_finds_every_tensor(loaded):
    _, report = loaded
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))


@pytest.mark.parametrize("question", QUESTIONS)
def test_prompt_ids_are_those_of_its_chat_template(nano, processor, sound, question):
    expected = reference_inputs(processor, sound, question)["input_ids"][0]
    assert our_prompt(nano, sound, question).ids == tuple(expected.tolist())


def test_a_transcription_request_is_the_same_prompt(nano, processor, sound):
    expected = processor.apply_transcription_request(sound.samples)["input_ids"][0]
    assert our_prompt(nano, sound, TRANSCRIBE_PROMPT).ids == tuple(expected.tolist())


@torch.no_grad()
def test_logits_are_those_of_transformers(nano, reference, processor, sound):
    prompt = our_prompt(nano, sound, QUESTIONS[0])
    mel, num_mel_frames = log_mel_batch(split_windows(sound.samples), torch.device("cpu"))
    ours = nano.model(torch.tensor(prompt.ids), [prompt.num_tokens], mel, list(num_mel_frames))
    theirs = reference(**reference_inputs(processor, sound, QUESTIONS[0])).logits[0]
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert torch.equal(ours.argmax(-1), theirs.argmax(-1))


@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_are_those_of_transformers_with_the_folders_own_settings(nano, reference, processor, sound, question):
    inputs = reference_inputs(processor, sound, question)
    theirs = reference.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
    reply = nano.ask(sound, question)
    assert reply.token_ids == tuple(theirs.tolist())
    assert reply.text == processor.decode(theirs, skip_special_tokens=True)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "top_p": 0.95, "seed": 11}])
def test_a_batch_of_all_sounds_gives_what_each_gives_alone(nano, options):
    conversations = [[Message("user", (load_audio(path), question))] for path in EXAMPLES for question in QUESTIONS]
    conversations.append("Who are you?")
    together = nano.generate(conversations, max_new_tokens=60, **options)
    for conversation, reply in zip(conversations, together, strict=True):
        assert nano.generate([conversation], max_new_tokens=60, **options) == [reply]


def test_the_same_seed_gives_the_same_answer_and_others_differ(nano, sound):
    def ask(seed):
        return nano.ask(
            sound, "Tell me a long story about it.", temperature=2.0, seed=seed, max_new_tokens=30
        ).token_ids

    assert ask(3) == ask(3)
    assert len({ask(seed) for seed in range(4)}) > 1


def test_the_same_question_twice_gets_the_same_answer(nano, sound):
    assert nano.ask(sound, QUESTIONS[0]) == nano.ask(sound, QUESTIONS[0])
