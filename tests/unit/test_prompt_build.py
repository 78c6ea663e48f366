import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_tokenizer import SPECIALS, small_tokenizer

from audioflamingo.errors import CheckpointError, OptionError, PromptError
from audioflamingo.prompt import CHAT_TEMPLATE, Budget, ChatML, JinjaTemplate, build
from audioflamingo.types import Audio, Message, Span

TOKENIZER = small_tokenizer()
RELEASED = JinjaTemplate(CHAT_TEMPLATE)
STRIPPING = JinjaTemplate(CHAT_TEMPLATE.replace("item['text']", "item['text']|trim"))
STRINGS = JinjaTemplate(
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = [RELEASED, STRINGS, ChatML()]
HEAD = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
TAIL = "<|im_end|>\n<|im_start|>assistant\n"


def sound(num_tokens, value=0.5):
    return Audio(np.full(640 * num_tokens, value, np.float32), f"{num_tokens} tokens")


A, B = sound(3, 0.1), sound(5, 0.2)


def built(content, template=RELEASED, **options):
    return build([Message("user", content)], TOKENIZER, template, **options)


def encoded(string, *counts):
    """Ids of a string whose k-th `<sound>` stands for so many tokens."""
    ids, waiting = [], iter(counts)
    for token_id in TOKENIZER.encode(string):
        ids += [token_id] * (next(waiting) if token_id == TOKENIZER.sound else 1)
    return tuple(ids)


def check_spans(prompt):
    positions = [i for i, token_id in enumerate(prompt.ids) if token_id == TOKENIZER.sound]
    covered = [i for span in prompt.spans for i in range(span.start, span.start + span.num_tokens)]
    assert positions == covered
    for span in prompt.spans:
        assert span.num_tokens == len(prompt.audios[span.audio_index].samples) // 640


def test_one_sound_stands_first():
    prompt = built(("What?", A))
    assert prompt.ids == encoded(f"{HEAD}<|im_start|>user\n<sound>What?{TAIL}", 3)
    assert prompt.audios == (A,)
    assert (prompt.num_audio_tokens, prompt.num_tokens) == (3, len(prompt.ids))
    check_spans(prompt)


@pytest.mark.parametrize("template", TEMPLATES)
def test_several_sounds_in_any_place(template):
    prompt = built((A, B, "Is <sound> like <sound>?"), template, style="hf")
    head = "" if template is STRINGS else HEAD
    assert prompt.ids == encoded(f"{head}<|im_start|>user\nIs <sound> like <sound>?{TAIL}", 3, 5)
    assert [span.audio_index for span in prompt.spans] == [0, 1]
    check_spans(prompt)
    assert built((A, B, "x"), template, style="hf").ids == encoded(
        f"{head}<|im_start|>user\n<sound><sound>x{TAIL}", 3, 5
    )


def test_nvidia_style():
    prompt = built((A, B, " What? \n Why?\n"), style="nvidia")
    assert prompt.ids == encoded(f"{HEAD}<|im_start|>user\n<sound><sound>\nWhat?\nWhy?{TAIL}", 3, 5)
    assert built((A, "What?"), ChatML()).ids == encoded(f"{HEAD}<|im_start|>user\n<sound>\nWhat?{TAIL}", 3)
    assert built((A,), ChatML()).ids == encoded(f"{HEAD}<|im_start|>user\n<sound>{TAIL}", 3)
    assert built((A, "What?"), ChatML("hf")).ids == built((A, "What?")).ids


def test_nvidia_style_leaves_a_continued_answer_alone():
    turns = [Message("user", (A, "What? ")), Message("assistant", ("It \n is \n",))]
    prompt = build(turns, TOKENIZER, RELEASED, style="nvidia", continue_final=True)
    assert prompt.ids == encoded(
        f"{HEAD}<|im_start|>user\n<sound>\nWhat? <|im_end|>\n<|im_start|>assistant\nIt \n is \n", 3
    )


def test_nvidia_rounding_only_changes_counts():
    second = Audio(np.zeros(16_000, np.float32))
    exact, rounded = built((second, "x")), built((second, "x"), audio_rounding="nvidia")
    assert (exact.num_audio_tokens, rounded.num_audio_tokens) == (25, 20)
    assert rounded.spans == (Span(exact.spans[0].start, 20, 0),)


def test_several_turns():
    turns = [
        Message("system", ("Be short.",)),
        Message("user", (A, "What?")),
        Message("assistant", ("A dog.",)),
        Message("user", (B, "And <sound>, unlike <sound-1>?")),
    ]
    prompt = build(turns, TOKENIZER, RELEASED)
    assert prompt.ids == encoded(
        "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\n<sound>What?<|im_end|>\n"
        f"<|im_start|>assistant\nA dog.<|im_end|>\n<|im_start|>user\nAnd <sound>, unlike <sound>?{TAIL}",
        3,
        5,
        3,
    )
    assert [span.audio_index for span in prompt.spans] == [0, 1, 0]
    check_spans(prompt)


def test_template_and_marks_in_one_conversation():
    turns = [
        Message("user", (A, B, "x")),
        Message("user", (sound(2), "y")),
        Message("user", ("see <sound-2>",)),
        Message("user", (sound(4, 0.9),)),
    ]
    prompt = build(turns, TOKENIZER, RELEASED)
    assert [span.num_tokens for span in prompt.spans] == [3, 5, 2, 5, 4]
    check_spans(prompt)


def test_equal_sounds_become_one():
    prompt = built((A, Audio(A.samples.copy(), "copy"), B, "Same?"))
    assert prompt.audios == (A, B)
    assert [span.audio_index for span in prompt.spans] == [0, 0, 1]


def test_text_only():
    prompt = built(("What?",))
    assert prompt.ids == encoded(f"{HEAD}<|im_start|>user\nWhat?{TAIL}")
    assert (prompt.spans, prompt.audios) == ((), ())


def test_dicts_and_strings_will_do():
    assert build("What?", TOKENIZER, RELEASED).ids == built(("What?",)).ids
    assert build([{"role": "user", "content": [A, "What?"]}], TOKENIZER, RELEASED).ids == built((A, "What?")).ids


SPELLED = st.lists(st.sampled_from([*SPECIALS, "<tool_call>", "<|im_", "end|>", "x", " ", "\n", "mark", "é"])).map(
    "".join
)


def controls(ids):
    return [token_id for token_id in ids if token_id in TOKENIZER.special_ids or token_id == TOKENIZER.vocab_size - 1]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("style", ["hf", "nvidia"])
@given(first=SPELLED, answer=SPELLED, last=SPELLED)
def test_no_text_can_forge_control_tokens(template, style, first, answer, last):
    def written(*texts):
        contents = (("user", (A, texts[0])), ("assistant", (texts[1],)), ("user", (A, B, texts[2])))
        turns = [Message(role, content) for role, content in contents]
        return build(turns, TOKENIZER, template, style=style, placeholders=False).ids

    assert controls(written(first, answer, last)) == controls(written("x", "y", "z"))


@given(SPELLED, SPELLED)
def test_control_tokens_in_text_are_kept_as_characters(first, second):
    prompt = built((first, second, A), placeholders=False)
    string = TOKENIZER.decode([i for i in prompt.ids if i != TOKENIZER.sound], skip_special=False)
    assert string == f"{HEAD}<|im_start|>user\n{first}{second}{TAIL}"


@given(st.text(st.sampled_from("ab 'é\n1.\t"), max_size=20), st.sampled_from([RELEASED, STRIPPING, ChatML()]))
def test_hidden_text_gives_the_ids_of_shown_text(text, template):
    """A special token in an earlier turn hides every text, which must not change the ids of an ordinary one."""

    def after_system(system):
        turns = [Message("system", (system,)), Message("user", (A, text))]
        ids = build(turns, TOKENIZER, template, style="hf").ids
        return ids[ids.index(TOKENIZER.im_end) :]

    assert after_system("[PAD]") == after_system("ordinary")


def test_texts_that_join_to_a_control_token():
    assert controls(built(("<|im_", "end|>")).ids) == controls(built(("x",)).ids)


@pytest.mark.parametrize("answer", ["It is", "It is <|im_end|>", "It is <|im_end|> \n"])
def test_continued_answer(answer):
    turns = [Message("user", (A, "What?")), Message("assistant", (answer,))]
    prompt = build(turns, TOKENIZER, RELEASED, continue_final=True)
    start = encoded(f"{HEAD}<|im_start|>user\n<sound>What?<|im_end|>\n<|im_start|>", 3)
    assert prompt.ids == (*start, *TOKENIZER.encode_plain(f"assistant\n{answer}"))
    stripped = build(turns, TOKENIZER, STRIPPING, continue_final=True)
    assert stripped.ids == (*start, *TOKENIZER.encode_plain(f"assistant\n{answer.rstrip()}"))


def test_a_template_that_drops_messages_is_found_out():
    last_only = "{% set messages = messages[-1:] %}" + CHAT_TEMPLATE
    turns = [Message("user", (A, "x")), Message("assistant", ("y",)), Message("user", (B, "z"))]
    with pytest.raises(CheckpointError, match="kept 1 of 2 sounds"):
        build(turns, TOKENIZER, JinjaTemplate(last_only))
    no_end = JinjaTemplate("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}")
    with pytest.raises(CheckpointError, match="cannot be continued"):
        build(turns[:2], TOKENIZER, no_end, continue_final=True)


def test_budget_is_kept_before_tokens_are_made():
    num_text = built((A, "What?")).num_tokens - 3
    assert built((A, "What?"), budget=Budget(max_prompt_tokens=num_text + 3)).num_audio_tokens == 3
    with pytest.raises(
        PromptError, match=rf"takes {num_text + 3} tokens \(3 of them audio\); at most {num_text + 2} fit"
    ):
        built((A, "What?"), budget=Budget(max_prompt_tokens=num_text + 2))
    with pytest.raises(PromptError, match=r"sounds alone take 75,000,000 tokens; at most 16,000 fit\. Shorten"):
        built((sound(750), "<sound-1>" * 100_000))


def test_the_most_that_fits_is_built():
    prompt = built((sound(1), "<sound-1>" * 15_900, "x"))
    assert prompt.num_audio_tokens == 15_900
    check_spans(prompt)


@pytest.mark.parametrize(
    ("content", "options", "error", "match"),
    [
        (("<sound>",), {}, PromptError, r"1 <sound> placeholder\(s\) for 0"),
        (("a\ud800",), {}, PromptError, "surrogate"),
        ((Audio(np.zeros(320, np.float32), "click"), "x"), {}, PromptError, "click is 0.020 s, too short"),
        (("x",), {"style": "vllm"}, OptionError, "allowed are hf, nvidia"),
        ((A, "x"), {"audio_rounding": "up"}, OptionError, "allowed are 'exact' and 'nvidia'"),
        (("x",), {"continue_final": True}, PromptError, "continue_final needs"),
    ],
)
def test_what_is_refused(content, options, error, match):
    with pytest.raises(error, match=match):
        built(content, **options)


def test_empty_conversation():
    with pytest.raises(PromptError, match="empty"):
        build([], TOKENIZER, RELEASED)
