"""`pipeline(...)`: the hub's own task for this model, and transformers' any-to-any."""

import pytest
import torch
import transformers

import audioflamingo.integrations.transformers as integration
from audioflamingo import load_audio
from audioflamingo.errors import AudioError, OptionError, PromptError
from audioflamingo.integrations.transformers.pipelines import TASK, register_pipeline

QUESTION = "What is it?"
OPTIONS = {"max_new_tokens": 5}


@pytest.fixture
def pipe(shared_model, processor):
    return transformers.pipeline(TASK, model=shared_model, processor=processor)


@pytest.fixture
def answer(shared_model, processor, sound):
    """What the model answers to the question about the sound."""
    inputs = processor(text=QUESTION, audio=sound(0.5))
    ids = shared_model.generate(**inputs, **OPTIONS)[0, inputs["input_ids"].shape[1] :]
    return processor.decode(ids, skip_special_tokens=True)


def test_a_checkpoint_is_loaded_as_our_model(folder, sound, ask, answer):
    pipe = transformers.pipeline(TASK, model=str(folder), dtype=torch.float32, device="cpu")
    assert type(pipe.model) is integration.AudioFlamingo3ForConditionalGeneration
    assert pipe(ask(sound(0.5)), **OPTIONS)[0]["generated_text"] == answer
    assert pipe.model.generated_on == "engine"


def test_chats_texts_with_sounds_and_mappings_give_the_same(pipe, sound, ask, answer):
    samples = sound(0.5)
    for given in ({"text": ask(samples)}, {"text": QUESTION, "audio": samples}):
        assert pipe(**given, **OPTIONS)[0]["generated_text"] == answer
    several = [{"text": QUESTION, "audio": samples}] * 2
    assert [rows[0]["generated_text"] for rows in pipe(several, **OPTIONS)] == [answer] * 2
    both = pipe(text=[QUESTION, QUESTION], audio=[samples, samples], **OPTIONS)
    assert [row["generated_text"] for row in both] == [answer] * 2
    fast = samples.repeat(3)
    assert pipe(text=QUESTION, audio=fast, sampling_rate=48_000, **OPTIONS)[0]["generated_text"]


def test_the_prompt_is_given_back_only_when_asked_for(pipe, sound, ask, answer):
    conversation = ask(sound(0.5))
    full = pipe(conversation, **OPTIONS, return_full_text=True)[0]["generated_text"]
    assert full == [*conversation, {"role": "assistant", "content": answer}]
    assert "generated_token_ids" in pipe(conversation, **OPTIONS, return_tensors=True)[0]


def test_a_text_alone_is_a_message(pipe, shared_model, processor):
    inputs = processor(text="Hello", as_chat=True)
    expected = shared_model.generate(**inputs, **OPTIONS)[0, inputs["input_ids"].shape[1] :]
    found = pipe(text="Hello", **OPTIONS)[0]["generated_text"]
    assert found == processor.decode(expected, skip_special_tokens=True)


def test_no_librosa_is_needed(folder, monkeypatch, answer):
    monkeypatch.setattr("transformers.utils.import_utils.is_librosa_available", lambda: False)
    example = load_audio(integration.resolve("nano").parents[2] / "examples" / "rooster.wav")
    pipe = transformers.pipeline(TASK, model=str(folder))
    assert isinstance(pipe(text=QUESTION, audio=example, **OPTIONS)[0]["generated_text"], str)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"text": QUESTION, "audio": torch.zeros(2, 800)}, AudioError, r"shape \(2, 800\)"),
        ({"text": QUESTION, "audio": "no.wav"}, AudioError, "does not exist"),
        ({"text": QUESTION, "images": "cat.png"}, OptionError, "images came, but this model takes text and sound"),
        ({"text": {"audio": torch.zeros(8000)}}, PromptError, "a sound came without a text"),
        ({"text": QUESTION, "audio": torch.zeros(8000), "timeout": 3}, OptionError, "unknown option 'timeout'"),
    ],
)
def test_what_cannot_be_used(pipe, given, error, message):
    with pytest.raises(error, match=message):
        pipe(**given)


def test_a_saved_pipeline_carries_no_code_of_ours(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.glob("*.py")] == ["audioflamingo_loader.py"]
    assert type(transformers.pipeline(TASK, model=str(tmp_path)).model) is type(pipe.model)


def test_registering_twice_changes_nothing():
    before = transformers.pipelines.PIPELINE_REGISTRY.check_task(TASK)
    register_pipeline()
    assert transformers.pipelines.PIPELINE_REGISTRY.check_task(TASK) == before
    assert not hasattr(integration, "_registered_impl")


def test_any_to_any_runs_on_ours_too(folder, sound, ask, answer):
    pytest.importorskip("librosa", reason="some versions of transformers want it for this task")
    pipe = transformers.pipeline("any-to-any", model=str(folder), dtype=torch.float32)
    assert pipe(ask(sound(0.5)), **OPTIONS, return_full_text=False)[0]["generated_text"] == answer
    assert pipe(text=QUESTION, audio=sound(0.5), **OPTIONS, return_full_text=False)[0]["generated_text"] == answer
