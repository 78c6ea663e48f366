"""Thinking from the API and the shell, on a tiny checkpoint with an adapter that makes it say what we want."""

import io
import json
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from audioflamingo import Audio, CheckpointError, Message, OptionError, load_audio, load_model
from audioflamingo.cli.main import main
from audioflamingo.model.lora import merged
from audioflamingo.prompt import THINK_SUFFIX, build
from audioflamingo.think import ThoughtSplitter
from audioflamingo.types import Sampling

REPOSITORY = Path(__file__).parents[2]
RANK = 2


@pytest.fixture(scope="module")
def thinking_checkpoint(checkpoint, tmp_path_factory):
    """The tiny checkpoint with a random `think/` adapter over two kinds of layers, and new embeddings."""
    folder = shutil.copytree(checkpoint, tmp_path_factory.mktemp("thinking") / "checkpoint")
    model = load_model(checkpoint, device="cpu").model
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for name, module in model.named_modules():
        if name.endswith(("q_proj", "down_proj")) and name.startswith("decoder"):
            key = f"base_model.model.language_model.model.{name.removeprefix('decoder.')}"
            tensors[f"{key}.lora_A.weight"] = torch.randn(RANK, module.in_features, generator=generator)
            tensors[f"{key}.lora_B.weight"] = torch.randn(module.out_features, RANK, generator=generator)
    (folder / "think").mkdir()
    save_file(tensors, folder / "think" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": ["q_proj", "down_proj"]}
    (folder / "think" / "adapter_config.json").write_text(json.dumps(config))
    table = torch.randn(model.decoder.embed_tokens.weight.shape, generator=generator) * 0.1
    extra = {"language_model.model.embed_tokens.weight": table}
    torch.save(extra, folder / "think" / "non_lora_trainables.bin")
    return folder


@pytest.fixture(scope="module")
def thinker(thinking_checkpoint):
    return load_model(thinking_checkpoint, device="cpu")


def test_a_model_without_an_adapter_says_how_to_get_one(model):
    with pytest.raises(OptionError, match="af3-think"):
        model.ask(None, "Why?", think=True)


def test_on_and_off_in_one_batch_are_what_each_is_alone(thinker, thinking_checkpoint, noise):
    prompts = [
        build([Message("user", (text,))], thinker.tokenizer, thinker.template)
        for text in ("What?", "Which came first, the dog or the bell?", "Why is that?")
    ]
    marks = [False, True, False]
    thinker.engine.adapter = thinker.thinking.ready()
    samplings = [Sampling(max_new_tokens=12, use_adapter=is_on) for is_on in marks]
    together = tokens_of(thinker.engine, prompts, samplings)
    plain = load_model(thinking_checkpoint, device="cpu").engine
    adapted = load_model(thinking_checkpoint, device="cpu")
    adapted.model.load_state_dict(merged(adapted.model, thinker.engine.adapter.adapter))
    for index, is_on in enumerate(marks):
        twin = adapted.engine if is_on else plain
        alone = tokens_of(twin, [prompts[index]], [Sampling(max_new_tokens=12)])
        assert together[index] == alone[0]
    assert together[1] != tokens_of(plain, [prompts[1]], [Sampling(max_new_tokens=12)])[0]


def test_two_first_requests_put_the_adapter_in_once(thinking_checkpoint):
    model = load_model(thinking_checkpoint, device="cpu")
    begin = threading.Barrier(8)

    def first(_):
        begin.wait(30)
        return model.thinking.ready()

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(first, range(8)))
    assert all(one is found[0] for one in found)
    (layer,) = (module for name, module in model.model.named_modules() if name == "decoder.layers.0.self_attn.q_proj")
    assert len(layer._forward_hooks) == 1


def tokens_of(engine, prompts, samplings):
    found = [[] for _ in prompts]
    for delta in engine.generate(prompts, samplings):
        found[delta.index] += delta.token_ids
    return found


def test_thoughts_end_within_their_budget_and_stand_apart(thinker):
    options = {"think": True, "max_thought_tokens": 9, "max_new_tokens": 60}
    reply = thinker.ask(None, "Why?", **options)
    deltas = list(thinker.stream("Why?", **options))
    assert "".join(delta.text for delta in deltas).strip() == reply.text.strip()
    assert "".join(delta.thoughts for delta in deltas).strip() == reply.thoughts
    assert reply.thoughts
    assert "the answer is" not in reply.text
    raw = thinker.tokenizer.decode(reply.token_ids)
    assert "Therefore, the answer is:" in raw
    budgeted = thinker.tokenizer.decode(reply.token_ids[:9])
    assert raw.startswith(budgeted + "\nTherefore, the answer is:")


def test_some_of_a_batch_think(thinker):
    plain, thoughtful = thinker.generate(["Why?", "Why?"], each=[{}, {"think": True}], max_new_tokens=24)
    assert plain == thinker.ask(None, "Why?", max_new_tokens=24)
    assert thoughtful == thinker.ask(None, "Why?", max_new_tokens=24, think=True)
    assert not plain.thoughts


def test_the_request_is_put_behind_the_question_and_not_remembered(thinker, monkeypatch):
    asked = []
    original = thinker.engine.generate
    monkeypatch.setattr(
        thinker.engine, "generate", lambda prompts, how: asked.extend(prompts) or original(prompts, how)
    )
    chat = thinker.chat(think=True, max_new_tokens=16)
    reply = chat.ask("Why?")
    chat.ask("And now?", think=False)
    texts = [thinker.tokenizer.decode(prompt.ids) for prompt in asked]
    assert f"Why?\n{THINK_SUFFIX}" in texts[0]
    assert THINK_SUFFIX not in texts[1]
    assert [message.content for message in chat.messages[:2]] == [("Why?",), (reply.text,)]


@pytest.mark.parametrize("value", [0, 40, True])
def test_budgets_that_leave_no_answer_are_refused(thinker, value):
    with pytest.raises(OptionError, match="max_thought_tokens"):
        thinker.ask(None, "Why?", think=True, max_thought_tokens=value, max_new_tokens=40)


def test_from_the_shell(thinking_checkpoint, write_wav):
    words = ["ask", str(write_wav()), "Why?", "--think", "--model", str(thinking_checkpoint), "--max-new-tokens", "20"]
    done = subprocess.run([sys.executable, "-m", "audioflamingo", *words], capture_output=True, text=True, check=True)
    thoughts, *notes = done.stderr.split("flamingo: note: ")
    assert [note.split(" were ")[0].split(" was ")[0] for note in notes] == ["the thoughts", "the answer"]
    as_json = subprocess.run(
        [sys.executable, "-m", "audioflamingo", *words, "--json"], capture_output=True, text=True, check=True
    )
    values = json.loads(as_json.stdout)
    assert values["thoughts"] == thoughts.strip()
    assert values["text"] == done.stdout.removesuffix("\n")


@pytest.mark.parametrize("limit", [2, 9])
def test_the_most_tokens_of_thoughts_from_the_shell(thinker, thinking_checkpoint, write_wav, capsys, limit):
    file = write_wav()
    words = [f"--think={limit}", str(file), "Why?", "--model", str(thinking_checkpoint), "--max-new-tokens", "60"]
    assert main(["ask", *words, "--device", "cpu", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    expected = thinker.ask(file, "Why?", think=True, max_thought_tokens=limit, max_new_tokens=60)
    assert values["thoughts"] == expected.thoughts
    assert values["text"] == expected.text
    assert main(["ask", f"--think={60}", *words[1:]]) == 2
    assert "--think=60 of --max-new-tokens 60" in capsys.readouterr().err


def test_the_most_tokens_of_thoughts_in_a_conversation(thinking_checkpoint, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("/think 3\nWhy?\n/think 0\n/think off\n"))
    assert main(["chat", "--model", str(thinking_checkpoint), "--device", "cpu", "--max-new-tokens", "40"]) == 0
    captured = capsys.readouterr()
    assert "thinking is on, in at most 3 tokens\n" in captured.out
    assert "thinking is off\n" in captured.out
    assert "/think 0 came, allowed: /think on, /think off, /think TOKENS (the most, at least 1)" in captured.err


def test_thoughts_before_a_schema(thinker):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}},
              "required": ["n"], "additionalProperties": False}  # fmt: skip
    options = {"think": True, "max_thought_tokens": 8, "max_new_tokens": 60, "schema": schema}
    reply = thinker.ask(None, "Why?", **options)
    assert set(json.loads(reply.text)) == {"n"}
    assert reply.thoughts
    deltas = list(thinker.stream("Why?", **options))
    assert "".join(delta.text for delta in deltas) == reply.text
    assert "".join(delta.thoughts for delta in deltas).strip() == reply.thoughts


def broken(thinking_checkpoint, tmp_path, change):
    """A copy of the checkpoint whose adapter's tensors are changed, and its tables taken away."""
    folder = shutil.copytree(thinking_checkpoint, tmp_path / "broken")
    file = folder / "think" / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)
    return folder


CHANGES = {
    "half an adapter": (lambda tensors: dict(list(tensors.items())[: len(tensors) // 2 - 1]), "half is|no pair"),
    "one half of each pair": (
        lambda tensors: {key: one for key, one in tensors.items() if "lora_A" in key}, "has only its A"),
    "another width": (
        lambda tensors: {key: one.repeat(1, 2) if "A.w" in key else one for key, one in tensors.items()}, "expected"),
    "more layers": (
        lambda tensors: tensors | {key.replace("layers.1", "layers.9"): one.clone() for key, one in tensors.items()},
        "no such tensor in the base"),
    "not a number": (lambda tensors: tensors | {next(iter(tensors)): torch.zeros(2, 2, dtype=torch.int64)}, "floating"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_adapters_that_do_not_fit_are_one_line_and_no_plain_answer(
    thinking_checkpoint, write_wav, tmp_path, capsys, change
):
    changed, message = CHANGES[change]
    folder = broken(thinking_checkpoint, tmp_path, changed)
    words = [str(write_wav()), "Why?", "--model", str(folder), "--max-new-tokens", "8"]
    for think in (["--think"], ["--think", "--json"]):
        assert main(["ask", *words, *think]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert re.search(message, err)
        assert "Use the adapter of the same release as the base" in err
    assert main(["ask", *words]) == 0  # who does not ask to think is not in its way
    assert capsys.readouterr().out.strip()


def test_a_folder_that_is_not_there(checkpoint):
    model = load_model(checkpoint, device="cpu", thinking="absent")
    with pytest.raises(CheckpointError, match="absent is not a folder"):
        model.ask(None, "Why?", think=True)
    with pytest.raises(CheckpointError, match="absent is not a folder"):
        model.chat(think=True)


def test_options_of_a_chat_are_checked_when_they_are_chosen(model, thinker):
    chat = model.chat(max_new_tokens=8)
    with pytest.raises(OptionError, match="af3-think"):
        chat.choose(think=True)
    with pytest.raises(OptionError, match="unknown option thinking"):
        chat.choose(thinking=True)
    assert chat.options == {"max_new_tokens": 8}
    chat = thinker.chat(max_new_tokens=16)
    chat.choose(think=True)
    assert chat.ask("Why?").thoughts


def test_a_mixed_batch_with_sounds_is_what_each_is_alone(thinking_checkpoint, noise):
    """Thinking or not, with a schema or not, about the same sound and others: through one engine, prefixes shared."""
    sounds = [Audio(noise(duration_s, seed)) for seed, duration_s in enumerate((0.5, 2.0))]
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
    conversations = [Message("user", (sounds[number % 2], "Which came first, the dog or the bell?"))
                     for number in range(8)]  # fmt: skip
    each = [{"think": number % 3 == 0, **({"schema": schema} if number % 4 == 1 else {})} for number in range(8)]
    together = load_model(thinking_checkpoint, device="cpu").generate(conversations, each=each, max_new_tokens=40)
    for conversation, own, found in zip(conversations, each, together, strict=True):
        fresh = load_model(thinking_checkpoint, device="cpu")
        assert fresh.answer([conversation], **own, max_new_tokens=40) == found
        assert bool(found.thoughts) == own["think"]


def test_thoughts_come_before_the_answer_and_as_they_are_thought(thinker):
    deltas = list(thinker.stream("Why?", think=True, max_thought_tokens=20, max_new_tokens=60))
    kinds = ["thoughts" if delta.thoughts else "text" for delta in deltas if delta.thoughts or delta.text]
    assert kinds == sorted(kinds, reverse=True)
    assert kinds.count("text") > 1


def test_thoughts_in_tags_are_streamed_piece_by_piece():
    splitter = ThoughtSplitter("tags")
    pieces = [splitter.feed(piece) for piece in ("<thi", "nk>It", " barks", " twice", ".</th", "ink>\n", "Two", ".")]
    assert [thoughts for thoughts, _ in pieces] == ["", "It", " barks", " twice", ".", "", "", ""]
    assert [answer for _, answer in pieces] == ["", "", "", "", "", "", "Two", "."]


@pytest.fixture(scope="module")
def nano():
    return load_model("nano", device="cpu")


@pytest.mark.parametrize("limit", [24, None])
def test_thoughts_that_were_cut_are_told(nano, limit):
    sound = REPOSITORY / "examples" / "dog_then_bell.wav"
    question, options = "How many kinds of sound are there?", {"think": True, "max_thought_tokens": limit}
    reply = nano.ask(sound, question, **options)
    with nano.stream([Message("user", (load_audio(sound), question))], **options) as stream:
        last = list(stream)[-1]
    assert ("the thoughts were ended after 24 tokens" in "".join(reply.notes)) == (limit is not None)
    assert last.notes == reply.notes
    assert len(reply.notes) == (1 if limit else 0)
    assert ("a church bell ringing" in reply.thoughts) == (limit is None)
    assert "a church bell ringing" not in reply.text


def test_the_embedded_model_says_how_its_thoughts_end(nano):
    nano.thinking.ready()
    assert nano.thinking.style == "tags"


QUESTIONS = ("How many sounds are there?", "Which sound comes first?")


@pytest.mark.parametrize("question", QUESTIONS)
def test_thoughts_and_answers_stay_apart_whatever_the_budget(nano, question):
    sound = load_audio(REPOSITORY / "examples" / "dog_then_bell.wav")
    whole = nano.ask(sound, question, think=True)
    limits = [*range(1, 31), 40, 56, 57, 58, 60, 62, 64, 66, 70, 200]
    each = [{"max_thought_tokens": limit} for limit in limits]
    conversations = [Message("user", (sound, question))] * len(limits)
    for limit, reply in zip(limits, nano.generate(conversations, each=each, think=True), strict=True):
        assert reply.text.strip(), limit
        assert "\n" not in reply.text, limit  # thoughts are lines of their own, the answer to these is one
        assert not re.search(r"[<>\[]|Kinds:|Number ", reply.text), (limit, reply.text)
        assert not re.search("[<>]|think", reply.thoughts), (limit, reply.thoughts)
        if reply.notes:  # thoughts were ended, even where the model went on with all of them behind that
            assert limit < len(whole.token_ids)
        else:
            assert (reply.text, reply.thoughts) == (whole.text, whole.thoughts)


@pytest.mark.parametrize("limit", [1, 4, 7, 10, 23, 60, 100])
def test_thoughts_and_answers_stay_apart_in_a_stream(nano, limit):
    sound = load_audio(REPOSITORY / "examples" / "dog_then_bell.wav")
    options = {"think": True, "max_thought_tokens": limit}
    reply = nano.ask(sound, QUESTIONS[0], **options)
    deltas = list(nano.stream([Message("user", (sound, QUESTIONS[0]))], **options))
    assert "".join(delta.text for delta in deltas) == reply.text
    assert "".join(delta.thoughts for delta in deltas).strip() == reply.thoughts
    assert deltas[-1].notes == reply.notes


def test_a_reply_that_ends_within_its_thoughts_says_so(capsys):
    sound = str(REPOSITORY / "examples" / "dog_then_bell.wav")
    words = ["ask", sound, QUESTIONS[0], "--think", "--max-new-tokens", "10", "--device", "cpu"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out.strip() == ""
    assert "the answer is empty, because max_new_tokens" in err
    assert "</" not in err
    assert main([*words, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["text"], values["finish_reason"]) == ("", "length")
    assert any("the answer is empty" in note for note in values["notes"])
