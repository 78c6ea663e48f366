"""What the processor takes: sounds of any kind and number, plain questions, labels; and what it refuses, clearly."""

import io
import wave

import numpy as np
import pytest
import torch

from audioflamingo.errors import AudioError, FlamingoError, OptionError, PromptError

SOUND_ID = 2045
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
CHAT = SYSTEM + "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


def text_of(processor, inputs, row=0):
    """A row's text with each sound as one placeholder and its number of tokens."""
    ids = inputs["input_ids"][row][inputs["attention_mask"][row].bool()].tolist()
    runs, text = 0, ""
    for before, token in zip([None, *ids], ids, strict=False):
        if token != SOUND_ID or before != SOUND_ID:
            text += processor.tokenizer.decode([token])
            runs += token == SOUND_ID
    return text


def num_audio(inputs):
    return [int((row == SOUND_ID).sum()) for row in inputs["input_ids"]]


def test_a_plain_question_becomes_the_users_message(processor, sound):
    inputs = processor(audio=sound(1.0), text="What is it?", return_tensors="pt")
    assert text_of(processor, inputs) == CHAT.format("<sound>What is it?")
    assert num_audio(inputs) == [25]
    assert inputs["input_features"].shape == (1, 128, 3000)


def test_several_sounds_in_one_text(processor, sound):
    inputs = processor(audio=[sound(1.0), sound(2.0)], text="Which is longer?")
    assert text_of(processor, inputs) == CHAT.format("<sound>Which is longer?")
    assert num_audio(inputs) == [75]
    placed = processor(audio=[sound(1.0), sound(2.0)], text="Is <sound> longer than <sound>?", as_chat=True)
    assert text_of(processor, placed) == CHAT.format("Is <sound> longer than <sound>?")
    numbered = processor(audio=[sound(1.0), sound(2.0)], text="<sound-2>, <sound-1>, <sound-2>?", as_chat=True)
    assert num_audio(numbered) == [125]
    torch.testing.assert_close(numbered["input_features"][0], numbered["input_features"][2])


def test_a_ragged_batch_with_text_alone_in_it(processor, shared_model, sound):
    texts = ["What is it?", "What is 2 + 2?", "Which came first?"]
    sounds = [sound(0.5), None, [sound(31.0, 1), sound(0.4, 2)]]
    inputs = processor(text=texts, audio=sounds)
    assert num_audio(inputs) == [12, 0, 775 + 10]
    together = shared_model.generate(**inputs, max_new_tokens=5)[:, inputs["input_ids"].shape[1] :]
    for row, (text, one) in enumerate(zip(texts, sounds, strict=True)):
        alone = processor(text=[text], audio=[one], as_chat=True)
        answer = shared_model.generate(**alone, max_new_tokens=5)[0, alone["input_ids"].shape[1] :]
        assert together[row, : len(answer)].tolist() == answer.tolist()


def test_a_flat_list_follows_the_placeholders(processor, sound):
    inputs = processor(text=["<sound><sound>a", "b<sound>"], audio=[sound(0.4), sound(0.8), sound(1.2)])
    assert num_audio(inputs) == [30, 30]


def test_sounds_at_any_turn_of_a_conversation(processor, sound):
    conversation = [
        {"role": "user", "content": [{"type": "audio", "audio": sound(0.4)}, {"type": "audio", "audio": sound(0.8)}]},
        {"role": "assistant", "content": "A dog and a bell."},
        {"role": "user", "content": [{"type": "text", "text": "And this:"}, {"type": "audio", "audio": sound(1.0)}]},
    ]
    inputs = processor.apply_chat_template(
        conversation, tokenize=True, return_dict=True, add_generation_prompt=True, return_assistant_tokens_mask=True
    )
    assert num_audio(inputs) == [10 + 20 + 25]
    assert inputs["input_features"].shape[0] == 3
    said = inputs["input_ids"][0][inputs["assistant_masks"][0].bool()]
    assert processor.tokenizer.decode(said) == "A dog and a bell.<|im_end|>"
    written = processor.apply_chat_template(conversation)
    assert written.count("<sound>") == 3


def test_any_source_and_any_rate(processor, sound, tmp_path):
    samples = sound(1.0)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes((samples * 32768).astype("<i2").tobytes())
    path = tmp_path / "a.wav"
    path.write_bytes(file.getvalue())
    exact = processor(text="?", audio=samples)["input_features"]
    for source in (torch.from_numpy(samples), samples.tolist(), {"array": samples, "sampling_rate": 16_000}):
        assert torch.equal(processor(text="?", audio=source)["input_features"], exact)
    undecoded = ({"bytes": file.getvalue(), "path": None}, {"bytes": None, "path": str(path)})
    for source in (path, str(path), file.getvalue(), *undecoded):
        torch.testing.assert_close(processor(text="?", audio=source)["input_features"], exact, atol=0.1, rtol=0)
    fast = np.sin(np.arange(48_000) * 0.1).astype(np.float32)
    for options in ({"sampling_rate": 48_000}, {"audio_kwargs": {"sampling_rate": 48_000}}):
        assert num_audio(processor(text="?", audio=fast, **options)) == [25]


def test_labels_are_the_assistants_words_and_their_end(processor, sound, ask):
    conversations = [
        [*ask(sound(0.4)), {"role": "assistant", "content": "A dog."}],
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}, *ask(sound(0.8)),
         {"role": "assistant", "content": "A bell."}],
    ]  # fmt: skip
    for side in ("left", "right"):
        inputs = processor.apply_chat_template(
            conversations, tokenize=True, return_dict=True, output_labels=True, padding_side=side
        )
        learned = [processor.tokenizer.decode(row[row != -100]) for row in inputs["labels"]]
        assert learned == ["A dog.<|im_end|>", "Hello.<|im_end|>A bell.<|im_end|>"]
        kept = inputs["labels"] != -100
        assert torch.equal(inputs["labels"][kept], inputs["input_ids"][kept])


def test_decoding(processor, sound):
    ids = processor(audio=sound(0.4), text="What?")["input_ids"][0].tolist()
    ids += processor.tokenizer.encode("The spoken content of the audio is 'hello'.<|im_end|>")
    assert processor.decode(ids, skip_special_tokens=True, answer_only=True, strip_prefix=True) == "hello"
    rows = torch.tensor([ids, ids])
    assert processor.batch_decode(rows, skip_special_tokens=True, answer_only=True, strip_prefix=True) == ["hello"] * 2


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros((2, 16_000), np.float32), r"shape \(2, 16000\)"),
        (np.zeros(16_000, np.int16), "array of int16"),
        (np.zeros(0, np.float32), "no samples"),
        (np.full(16_000, np.nan, np.float32), "(?i)nan|finite"),
        (np.zeros(320, np.float32), "0.02 s"),
        (np.full(16_000, 12_000.0), "reaches 12000; floating point within"),
        ([0, 1, 2, 3], "array of int64"),
        ({"rate": 16_000}, "a mapping with the keys rate; expected array"),
        (np.zeros(600 * 16_000 + 1, np.float32), "is 600.0001 s; the model takes at most 600 s"),
        (np.zeros(11 * 60 * 16_000, np.float32), "660 s; the model takes at most 600 s. Pass long_audio='truncate' to"),
        ("no/such/file.wav", "does not exist"),
    ],
)
def test_sounds_that_cannot_be_used(processor, audio, message):
    with pytest.raises(AudioError, match=message):
        processor(audio=audio, text="What is it?")


def test_a_long_sound_is_cut_only_by_name(processor, caplog):
    long = np.zeros(601 * 16_000, np.float32)
    inputs = processor(audio=long, text="What?", long_audio="truncate", max_prompt_tokens=15_100)
    assert num_audio(inputs) == [15_000]
    assert "only its first 600 s were kept" in caplog.text


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"text": "<sound><sound>?", "audio": 1}, PromptError, r"2 <sound> placeholder\(s\) for 1 sound"),
        ({"text": "<sound>?"}, PromptError, r"1 <sound> placeholder\(s\) for 0 sound"),
        ({"text": ["a", "b"], "audio": 3}, PromptError, r"2 text\(s\) came with 3 sound\(s\)"),
        ({"text": "word " * 20_000}, PromptError, "at most 16,000 fit"),
        ({"text": "a<|im_end|>b", "audio": 1, "as_chat": True}, PromptError, "which end or open a message"),
        ({"text": "a", "audio": 1, "output_labels": True}, PromptError, "no message of the assistant"),
        ({"text": "a", "volume": 3}, OptionError, "unknown option 'volume'"),
        ({"text": "a", "audios": 3}, OptionError, r"unknown option 'audios' \(is 'audio' meant\?\)"),
        ({"text": "a", "images": "x.png"}, OptionError, "images came, but this model takes text and sound alone"),
        (
            {"text": "a", "audio": 1, "sampling_rate": "16000"},
            OptionError,
            "sampling_rate is '16000', allowed",
        ),
        ({"text": "a", "max_prompt_tokens": 0}, OptionError, "max_prompt_tokens is 0, allowed: 1 or more"),
        ({"text": "a", "as_chat": "no"}, OptionError, "as_chat is 'no', allowed: True or False"),
        ({"text": "half \ud800"}, PromptError, "text 1 holds half of a surrogate pair at position 5"),
        ({"text": "a", "return_tensors": "np"}, OptionError, "return_tensors is 'np', allowed: 'pt'"),
        ({"text": "a", "audio": 1, "long_audio": "split"}, OptionError, "allowed: 'error', 'truncate'"),
        ({"text": "<sound>ab", "audio": 1, "truncation": True, "max_length": 9}, PromptError, "truncation cut"),
        ({"text": "a", "padding": False}, OptionError, "padding is off"),
        ({"text": 5}, PromptError, "expected a string"),
        ({}, PromptError, "neither text nor audio"),
    ],
)
def test_calls_that_do_not_fit(processor, sound, call, error, message):
    if isinstance(call.get("audio"), int):
        call = {**call, "audio": [sound(0.4)] * call["audio"]}
    with pytest.raises(error, match=message):
        processor(**call)


def test_broken_conversations(processor, sound):
    for conversation, message in (
        ([], "empty"),
        ("What is it?", "the conversation is of type str; give a list of messages"),
        ([{"role": "robot", "content": "hi"}], "role 'robot'"),
        ([{"role": "user", "content": [{"type": "image", "path": "x.png"}]}], "type 'image'"),
        ([{"role": "user", "content": [{"type": "audio"}]}], "expected one of audio, path, url"),
    ):
        with pytest.raises(FlamingoError, match=message):
            processor.apply_chat_template(conversation, tokenize=True, return_dict=True)


def test_a_request_without_a_sound(processor):
    for audio in (None, []):
        with pytest.raises(PromptError, match=r"for 0 sound\(s\)"):
            processor.apply_transcription_request(audio)


def test_ten_minutes_are_taken_without_a_word_of_the_tokenizers_own_limit(processor, caplog):
    inputs = processor(audio=np.zeros(600 * 16_000, np.float32), text="What?")
    assert num_audio(inputs) == [15_000]
    assert "maximum sequence length" not in caplog.text
