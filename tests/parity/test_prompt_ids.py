"""Our prompt ids against transformers' processor, template, and tokenizer."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AudioFlamingo3Processor, Qwen2Tokenizer, WhisperFeatureExtractor
from transformers.utils.chat_template_utils import render_jinja_template

from audioflamingo.prompt import CHAT_TEMPLATE, Budget, JinjaTemplate, build, strip_transcription
from audioflamingo.tokenizer import Tokenizer
from audioflamingo.types import Audio

CORPUS = ["user\nWhat happens here? assistant\nsystem You are a helpful assistant.\n\nA dog, they're barking.\n"] * 9
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<sound>", "[BOS]", "[PAD]"]

# Written from the description of the released template, in another manner than our own.
REFERENCE_TEMPLATE = """\
{% if messages[0]['role'] != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}
{% for message in messages %}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}
{% set audio = message.content | selectattr('type', '==', 'audio') | list %}
{% if audio | length > 0 %}{{ '<sound>' }}{% endif %}
{% for item in message.content %}{% if item.type == 'text' %}{{ item.text }}{% endif %}{% endfor %}
{% endif %}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
STRIPPING_TEMPLATE = REFERENCE_TEMPLATE.replace("item.text }}", "item.text | trim }}")

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50).filter(
    lambda text: not any(special in text for special in SPECIALS)
)


def write_tokenizer(folder):
    backend = Backend(models.BPE())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = Qwen2Tokenizer()._tokenizer.pre_tokenizer
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet))
    reference = Qwen2Tokenizer(
        vocab=backend.get_vocab(),
        merges=[tuple(m) for m in merges_of(backend)],
        eos_token="<|im_end|>",
        pad_token="[PAD]",
    )
    reference.add_special_tokens({"additional_special_tokens": SPECIALS})
    reference.save_pretrained(folder)
    return folder


def merges_of(backend):
    return json.loads(backend.to_str())["model"]["merges"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def ours(folder):
    return Tokenizer.from_folder(folder)


@pytest.fixture(scope="module")
def processor(folder):
    extractor = WhisperFeatureExtractor(feature_size=128, return_attention_mask=True)
    tokenizer = Qwen2Tokenizer.from_pretrained(folder)
    return AudioFlamingo3Processor(extractor, tokenizer, chat_template=REFERENCE_TEMPLATE)


def tone(num_samples):
    return np.sin(np.arange(num_samples, dtype=np.float32) * 0.05).astype(np.float32)


SHORT = tone(1_600)
SHORT_TOKENS = 2


def item(part):
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "audio", "audio": part}


def ours_of(conversation, tokenizer, template, **options):
    """Our ids of [(role, [text or samples, ...]), ...]."""
    messages = [
        {"role": role, "content": [part if isinstance(part, str) else Audio(part) for part in parts]}
        for role, parts in conversation
    ]
    budget = Budget(max_prompt_tokens=20_000)
    return list(build(messages, tokenizer, JinjaTemplate(template), budget=budget, **options).ids)


def theirs_of(conversation, processor, *, tokenize=True, continue_final=False):
    """The processor's ids, or its string before sounds are expanded."""
    messages = [{"role": role, "content": [item(part) for part in parts]} for role, parts in conversation]
    result = processor.apply_chat_template(
        messages,
        tokenize=tokenize,
        add_generation_prompt=not continue_final,
        continue_final_message=continue_final,
        **({"return_dict": True} if tokenize else {}),
    )
    return result["input_ids"][0].tolist() if tokenize else result


def both(processor, tokenizer, conversation):
    return theirs_of(conversation, processor), ours_of(conversation, tokenizer, processor.chat_template)


def both_of_texts(processor, tokenizer, conversation, continue_final=False):
    """The same without the processor's features, which take most of its time; `SHORT` sounds only."""
    string = theirs_of(conversation, processor, tokenize=False, continue_final=continue_final)
    string = string.replace("<sound>", "<sound>" * SHORT_TOKENS)
    expected = processor.tokenizer(string, add_special_tokens=False)["input_ids"]
    return expected, ours_of(conversation, tokenizer, processor.chat_template, continue_final=continue_final)


@pytest.mark.parametrize("duration_s", [0.1, 1, 29.99, 30, 30.01, 75, 600])
def test_one_sound(processor, ours, duration_s):
    samples = tone(round(duration_s * 16_000))
    expected, ids = both(processor, ours, [("user", ["What happens here?", samples])])
    assert ids == expected
    assert ids.count(ours.sound) > 0


@pytest.mark.parametrize("num_samples", [321, 480, 481, 640, 641, 479_999, 480_000, 480_321, 480_480])
def test_one_sound_by_the_sample(processor, ours, num_samples):
    expected, ids = both(processor, ours, [("user", [tone(num_samples), "What happens here?"])])
    assert ids == expected


def test_short_is_what_it_says(processor, ours):
    expected, ids = both(processor, ours, [("user", [SHORT])])
    assert ids == expected
    assert ids.count(ours.sound) == SHORT_TOKENS


@settings(deadline=None)
@given(TEXT, TEXT)
def test_one_sound_any_text(processor, ours, first, second):
    expected, ids = both_of_texts(processor, ours, [("user", [first, SHORT, second])])
    assert ids == expected


@settings(max_examples=50)
@given(st.lists(TEXT, min_size=1, max_size=3), st.booleans())
def test_text_only(processor, ours, texts, with_system):
    conversation = [("system", ["Answer shortly."])] * with_system + [("user", texts)]
    expected, ids = both(processor, ours, conversation)
    assert ids == expected


def test_several_turns_with_sound(processor, ours):
    turns = [("user", [SHORT, "What happens here?"]), ("assistant", ["A dog."]), ("user", ["Which?\n"])]
    expected, ids = both(processor, ours, turns)
    assert ids == expected


@settings(deadline=None)
@given(TEXT, TEXT)
def test_several_turns_any_text(processor, ours, question, answer):
    turns = [("user", [SHORT, "What happens here?"]), ("assistant", [answer]), ("user", [question])]
    expected, ids = both_of_texts(processor, ours, turns)
    assert ids == expected


@settings(deadline=None)
@given(TEXT)
def test_continued_answer(processor, ours, answer):
    turns = [("user", [SHORT, "What?"]), ("assistant", [answer])]
    expected, ids = both_of_texts(processor, ours, turns, continue_final=True)
    assert ids == expected


@settings(deadline=None)
@given(TEXT, st.booleans())
def test_our_template_equals_the_reference(ours, text, final):
    turns = [("user", [SHORT, text])] + [("assistant", [text])] * final
    ids = [ours_of(turns, ours, source, continue_final=final) for source in (CHAT_TEMPLATE, REFERENCE_TEMPLATE)]
    assert ids[0] == ids[1]


@settings(deadline=None)
@given(TEXT.filter(str.strip), st.booleans())
def test_a_template_that_strips(processor, ours, text, final):
    stripping = AudioFlamingo3Processor(processor.feature_extractor, processor.tokenizer, STRIPPING_TEMPLATE)
    turns = [("user", [SHORT, f" {text} "])] + [("assistant", [f"{text}  "])] * final
    expected, ids = both_of_texts(stripping, ours, turns, continue_final=final)
    assert ids == expected


RICH_TEMPLATE = """
  {%- for m in messages %}
  {% if loop.index > 2 %}{% break %}{% endif %}
{{ loop.index0 ~ m.role|upper }}: {{ m.content.strip() }} {{ m['content'].split(' ')[-1] }}
  {% if 'a' in m.content and not loop.last %}{{- ['x', m.role]|join('+') -}}{% else %}
{{ m|tojson(indent=2) }}{% endif %}
  {% endfor %}

{% generation %}{{ {'a': '<é>', 'b': [1, none, true]}|tojson }}{% endgeneration %}
{% macro twice(text) %}{{ text * 2 }}{{ caller() if caller else '' }}{% endmacro %}
{% set names = namespace(n=0, parts=[]) %}
{% for i in range(3) %}{% set names.n = names.n + i * 2 %}{% set names.parts = names.parts + [i] %}{% endfor %}
{{ twice('ab') }} {{ names.n }} {{ names.parts[::-1] }} {{ 7 % 4 }} {{ 'aXa'.replace('a', 'b') }}
{{ 'aba'|replace('a', 'c', 1) }} {{ '-'.join(['p', 'q']) }}
{{ messages|map(attribute='role')|list }} {{ tools is none }}
{{ strftime_now('%Y')|length }} {{ undefined_name }} {{ bos_token|default('none') }} {{ 'x' if add_generation_prompt }}
{{ messages|selectattr('role', 'equalto', 'user')|list|length }} {{ '  t '|trim }} {{ (1, 2) }} {{ 3.5|int }}
"""


@pytest.mark.parametrize("source", [RICH_TEMPLATE, CHAT_TEMPLATE, REFERENCE_TEMPLATE])
def test_templates_render_as_in_transformers(source):
    messages = [{"role": role, "content": f" I say <{role}> a "} for role in ("system", "user", "assistant", "user")]
    (expected,), _ = render_jinja_template([messages], chat_template=source, add_generation_prompt=True)
    assert JinjaTemplate(source).render(messages, add_generation_prompt=True) == expected


SAID = st.lists(
    st.sampled_from(
        ["The spoken content of the audio is", "The content of the input audio is", "hello", " ", ".", "'", '"', "\n"]
    ),
    max_size=8,
).map("".join)


@given(SAID)
def test_strip_transcription(processor, text):
    assert strip_transcription(text) == processor._strip_assistant_prefix_and_quotes(text)
