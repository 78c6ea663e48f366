"""From a folder that transformers wrote to answers: its greedy tokens, real batching, chats, long sounds, bad input."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

import audioflamingo
from audioflamingo import Audio, AudioError, CheckpointError, Message, OptionError, PromptError, load_audio, load_model
from audioflamingo.audio import split_windows
from audioflamingo.prompt import build

NUM_NEW_TOKENS = 12


@pytest.fixture(scope="module")
def sound(noise):
    """A function of (duration_s, seed) to an `Audio`."""
    return lambda duration_s, seed=0: Audio(noise(duration_s, seed), f"noise {seed}")


@torch.no_grad()
def reference_tokens(model, transformers_model, messages):
    """transformers' greedy tokens for the ids that we build, with features from its own extractor."""
    prompt = build(messages, model.tokenizer, model.template)
    ids = torch.tensor([prompt.ids])
    features = {}
    if prompt.audios:
        windows = [window for span in prompt.spans for window in split_windows(prompt.audios[span.audio_index].samples)]
        extractor = WhisperFeatureExtractor(feature_size=128)
        out = extractor(windows, sampling_rate=16_000, return_tensors="pt", return_attention_mask=True)
        features = {"input_features": out["input_features"], "input_features_mask": out["attention_mask"]}
    generated = transformers_model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), **features, do_sample=False,
        max_new_tokens=NUM_NEW_TOKENS, eos_token_id=list(model.tokenizer.eos_ids), pad_token_id=model.tokenizer.pad,
    )  # fmt: skip
    return tuple(generated[0, prompt.num_tokens :].tolist())


@pytest.mark.parametrize("duration_s", [0.1, 1.0, 29.99, 30.0, 30.01])
def test_greedy_tokens_are_those_of_transformers(model, transformers_model, sound, duration_s):
    messages = [Message("user", (sound(duration_s), "What is it?"))]
    reply = model.generate([messages], max_new_tokens=NUM_NEW_TOKENS)[0]
    assert reply.token_ids == reference_tokens(model, transformers_model, messages)


def test_a_name_that_would_be_read_as_words_is_refused(model, write_wav):
    path = write_wav("two words.wav")
    for name in ("dog.wav", str(path)):
        for answer in (model.stream, model.answer, lambda one: model.generate([one])):
            with pytest.raises(OptionError, match=r"names a sound that would not be heard; give Path\('"):
                answer([{"role": "user", "content": [name, "What do you hear?"]}])
    kept = [{"type": "text", "text": "dog.wav"}, path, "Is it this.wav or that.wav?"]
    assert model.answer([{"role": "user", "content": kept}], max_new_tokens=1).usage.audio_tokens > 0


@pytest.fixture(scope="module")
def conversations(sound):
    return [
        [Message("user", (sound(0.4), "What is it?"))],
        "No sound at all?",
        [Message("user", (sound(2, 1), sound(1, 2), "Which is louder?"))],
        [
            Message("user", (sound(1, 3), "What is it?")),
            Message("assistant", ("Rain.",)),
            Message("user", ("And this?", sound(0.7, 4))),
        ],
    ]


def test_a_ragged_batch_gives_transformers_tokens_too(model, transformers_model, conversations):
    replies = model.generate(conversations, max_new_tokens=NUM_NEW_TOKENS)
    for conversation, reply in zip(conversations, replies, strict=True):
        assert reply.token_ids == reference_tokens(model, transformers_model, conversation)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.9, "top_p": 0.9, "seed": 3}])
def test_streamed_equals_batched(model, conversations, options):
    replies = model.generate(conversations, max_new_tokens=20, **options)
    for conversation, reply in zip(conversations, replies, strict=True):
        deltas = list(model.stream(conversation, max_new_tokens=20, **options))
        assert "".join(delta.text for delta in deltas) == reply.text
        assert tuple(token for delta in deltas for token in delta.token_ids) == reply.token_ids
        assert (deltas[-1].finish_reason, deltas[-1].usage) == (reply.finish_reason, reply.usage)


def test_one_bad_conversation_does_not_lose_the_others(model, conversations, tmp_path):
    (tmp_path / "notes.wav").write_text("this is no sound")
    bad = [{"role": "user", "content": [tmp_path / "notes.wav", "What?"]}]
    unplaced = [Message("user", ("<sound> is what?",))]
    found = model.generate([conversations[0], bad, unplaced, conversations[1]], errors="return", max_new_tokens=5)
    assert isinstance(found[1], AudioError)
    assert "notes.wav" in str(found[1])
    assert isinstance(found[2], PromptError)
    assert [found[0], found[3]] == model.generate(conversations[:2], max_new_tokens=5)
    with pytest.raises(AudioError):
        model.generate([conversations[0], bad], max_new_tokens=5)


def test_options_of_one_that_are_not_allowed_are_its_own_error(model):
    each = [{}, {"max_new_tokens": 0}, None]
    replies = model.generate(["One?", "Two?", "Three?"], each=each, errors="return", max_new_tokens=3)
    assert replies[0].usage.completion_tokens == 3
    assert [type(one) for one in replies[1:]] == [OptionError, OptionError]
    with pytest.raises(OptionError, match="max_new_tokens is 0"):
        model.generate(["One?", "Two?"], each=[{}, {"max_new_tokens": 0}])
    with pytest.raises(OptionError, match="top_q"):
        model.generate(["One?"], errors="return", top_q=1)


@pytest.mark.parametrize("one", ["Hello?", Message("user", ("Hello?",)), {"role": "user", "content": "Hello?"}])
def test_a_conversation_is_not_taken_for_a_list_of_them(model, one):
    with pytest.raises(PromptError, match="list of conversations"):
        model.generate(one)


@pytest.mark.parametrize(
    "samples", [np.full(16_000, np.nan, np.float32), np.zeros((16_000, 2), np.float32), np.zeros(16_000, np.int16)]
)
def test_an_audio_made_by_hand_is_checked_wherever_it_stands(model, samples):
    audio = Audio(samples, "made by hand")
    for content in ((audio, "What is it?"), [{"type": "audio", "audio": audio}, "What is it?"]):
        with pytest.raises(AudioError, match="made by hand"):
            model.answer([{"role": "user", "content": content}])
    with pytest.raises(AudioError, match="made by hand"):
        model.answer(Message("user", (audio, "What is it?")))


def test_sounds_from_anywhere_are_the_same_sound(model, write_wav, noise):
    path = write_wav("clip.wav", 1.0, seed=5)
    options = {"max_new_tokens": 8}
    with path.open("rb") as file:
        sources = [path, str(path), path.read_bytes(), file, load_audio(path), [path]]
        replies = [model.ask(source, "What?", **options) for source in sources]
    replies += model.generate(
        [[{"role": "user", "content": [{"type": "audio", "audio": str(path)}, "What?"]}]], **options
    )
    samples = load_audio(path).samples
    replies.append(model.ask(samples, "What?", sample_rate_hz=16_000, **options))
    assert all(reply == replies[0] for reply in replies)


def test_an_array_without_a_rate_is_refused(model, noise):
    with pytest.raises(AudioError, match="sample_rate_hz"):
        model.ask(noise(1), "What?")


def test_defaults_come_from_the_checkpoint(model):
    assert model.ask(None, "Hello?").usage.completion_tokens == 40
    assert model.info["options"]["max_new_tokens"] == 40


def test_transcription_and_caption_ask_the_released_prompts(model, sound, monkeypatch):
    asked = []
    original = model.engine.generate
    monkeypatch.setattr(
        model.engine, "generate", lambda prompts, how: asked.extend(prompts) or original(prompts, how), raising=True
    )
    model.transcribe(sound(1), max_new_tokens=2)
    model.caption(sound(1), max_new_tokens=2)
    texts = [model.tokenizer.decode(prompt.ids) for prompt in asked]
    assert "user\nTranscribe the input speech." in texts[0].replace("\n\n", "\n")
    assert "Please describe the audio in detail" in texts[1]


def test_a_chat_remembers_and_equals_the_same_conversation_at_once(model, sound):
    chat = model.chat("Be brief.", max_new_tokens=6)
    first = chat.ask("What is it?", sound(1))
    streamed = "".join(delta.text for delta in chat.stream("And this?", sound(0.5, 1)))
    last = chat.ask("Which came first?")
    written = [
        Message("system", ("Be brief.",)),
        Message("user", (sound(1), "What is it?")),
        Message("assistant", (first.text,)),
        Message("user", (sound(0.5, 1), "And this?")),
        Message("assistant", (streamed,)),
        Message("user", ("Which came first?",)),
    ]
    assert model.generate([written], max_new_tokens=6)[0] == last
    assert len(chat.messages) == 7


def test_a_failed_question_leaves_the_chat_as_it_was(model, tmp_path):
    chat = model.chat()
    with pytest.raises(AudioError):
        chat.ask("What is it?", tmp_path / "missing.wav")
    assert chat.messages == ()


def test_a_question_in_the_place_of_the_sound_is_told(model, write_wav, noise):
    dog, asked = str(write_wav("dog")), "How many sounds are there?"
    ask, chat = r"the order is ask\(audio, question\)", r"the order is ask\(question, audio\)"
    for call, message in (
        (lambda: model.ask(asked, dog), f"names a sound, and the sound is '{asked[:-1]}.'; {ask}: swap the two"),
        (lambda: model.ask(asked, "absent.wav"), f"{ask}: swap the two"),
        (
            lambda: model.ask(asked, noise(1), sample_rate_hz=16_000),
            f"the question is a ndarray, allowed: a text; {ask}",
        ),
        (lambda: model.chat().ask(dog, asked), f"{chat}: swap the two"),
        (lambda: model.chat().stream(noise(1), asked), f"the question is a ndarray, allowed: a text; {chat}"),
    ):
        with pytest.raises(OptionError, match=message):
            call()
    with pytest.raises(AudioError, match="absent does not exist"):  # nothing says that these two are swapped
        model.ask("absent", asked)
    assert model.ask(dog, "Is absent.wav", max_new_tokens=1).token_ids  # a sound that is there is one


def test_sounds_that_no_question_could_bring_in(model, sound):
    chat = model.chat(max_windows=1)
    chat.check_sounds([sound(1), sound(30)])
    chat.check_sounds(None)
    with pytest.raises(AudioError, match="long_audio"):
        chat.check_sounds([sound(1), sound(31)])
    with pytest.raises(PromptError, match="does not fit"):
        chat.check_sounds([sound(30)] * 200)
    assert chat.messages == ()


def test_a_chat_keeps_what_was_said_before_it_was_stopped(model):
    chat = model.chat()
    with chat.stream("Tell me everything.") as stream:
        said = ""
        while len(said) < 3:
            said += next(stream).text
    assert [message.content for message in chat.messages] == [("Tell me everything.",), (said,)]


def test_long_sounds(model, sound):
    long = sound(65)
    with pytest.raises(AudioError, match="long_audio"):
        model.ask(long, "What?", max_windows=1)
    cut = model.ask(long, "What?", max_windows=1, long_audio="truncate", max_new_tokens=4)
    assert "only its first 30 s" in cut.notes[0]
    split = model.ask(long, "What?", max_windows=1, long_audio="split", max_new_tokens=4)
    assert [line[:14] for line in split.text.splitlines() if line.startswith("[")] == [
        "[0:00 - 0:30] ", "[0:30 - 1:00] ", "[1:00 - 1:05] "
    ]  # fmt: skip
    assert split.usage.audio_s == pytest.approx(65)
    assert "3 parts" in split.notes[0]
    stream = model.stream([Message("user", (long, "What?"))], max_windows=1, long_audio="split", max_new_tokens=4)
    assert stream.notes == split.notes
    assert "".join(delta.text for delta in stream) == split.text


def test_features(model, transformers_model, sound):
    audio = sound(1.5)
    features = model.encode(audio)
    projected = model.encode(audio, project=True)
    assert features.shape == (37, model.model.config.encoder.width)
    out = WhisperFeatureExtractor(feature_size=128)(
        audio.samples, sampling_rate=16_000, return_tensors="pt", return_attention_mask=True
    )
    with torch.no_grad():
        expected = transformers_model.get_audio_features(out["input_features"], out["attention_mask"]).pooler_output
    torch.testing.assert_close(projected, expected.reshape(-1, expected.shape[-1]), atol=1e-4, rtol=1e-4)
    assert not features.is_inference()


@pytest.mark.parametrize("dtype", ["bf16", torch.float16])
def test_every_dtype_answers(checkpoint, sound, dtype):
    model = load_model(checkpoint, device="cpu", dtype=dtype)
    assert model.ask(sound(1), "What?", max_new_tokens=3).usage.completion_tokens >= 1
    assert model.encode(sound(1)).dtype == model.model.dtype


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"device": "tpu9"}, "allowed here: cpu"),
        ({"device": "cuda:99"}, "allowed here: cpu"),
        ({"dtype": "int8"}, "float32, fp32, bfloat16"),
        ({"dtype": torch.int8}, "float32, fp32, bfloat16"),
    ],
)
def test_unavailable_devices_and_dtypes_list_what_is_allowed(checkpoint, given, message):
    with pytest.raises(OptionError, match=message):
        load_model(checkpoint, **given)


def test_unknown_model_names_list_what_is_allowed():
    with pytest.raises(CheckpointError, match="nano"):
        load_model("nanoo")


@pytest.fixture
def broken(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "broken")


def test_a_tokenizer_of_another_checkpoint_is_refused(broken):
    config = json.loads((broken / "config.json").read_text())
    config["audio_token_id"] = 7
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="different checkpoints"):
        load_model(broken)


def test_missing_weights_are_named(broken):
    (broken / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="safetensors"):
        load_model(broken)


def test_importing_the_package_imports_no_torch():
    import subprocess
    import sys

    code = "import sys, audioflamingo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_public_names_exist():
    for name in audioflamingo.__all__:
        assert getattr(audioflamingo, name) is not None


def test_random_state_of_the_caller_is_untouched(model):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    model.ask(None, "Hello?", temperature=1.0, seed=5, max_new_tokens=4)
    assert torch.equal(before, torch.get_rng_state())
