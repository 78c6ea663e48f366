import json
import time

import pytest

from audioflamingo.errors import CheckpointError, PromptError
from audioflamingo.prompt import CHAT_TEMPLATE, ChatML, JinjaTemplate, load_template
from audioflamingo.prompt.template import MAX_TEMPLATE_BYTES

SHOWN = "{{ messages[0]['content'] }}"
QUESTION = [{"role": "user", "content": "What?"}]
ITEMS = [{"role": "user", "content": [{"type": "text", "text": "What?"}, {"type": "audio"}, {"type": "audio"}]}]
OPENED = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
CLOSED = "What?<|im_end|>\n<|im_start|>assistant\n"


def test_chatml():
    assert ChatML().render(QUESTION, add_generation_prompt=True) == f"{OPENED}{CLOSED}"
    turns = [{"role": "system", "content": "Sing."}, *QUESTION]
    assert ChatML().render(turns, add_generation_prompt=False) == (
        "<|im_start|>system\nSing.<|im_end|>\n<|im_start|>user\nWhat?<|im_end|>\n"
    )


def test_released_form_has_one_sound_first():
    template = JinjaTemplate(CHAT_TEMPLATE)
    assert template.takes_items
    assert template.default_style == "hf"
    assert template.render(ITEMS, add_generation_prompt=True) == f"{OPENED}<sound>{CLOSED}"
    assert template.render(QUESTION, add_generation_prompt=True) == f"{OPENED}{CLOSED}"


def test_template_of_strings():
    template = JinjaTemplate(
        "{% for m in messages %}{{ m.role ~ ': ' ~ m.content }}{{ eos_token }}{% endfor %}", {"eos_token": "!"}
    )
    assert not template.takes_items
    assert template.default_style == "nvidia"
    assert template.render(QUESTION, add_generation_prompt=True) == "user: What?!"


def test_refusals_reach_the_user():
    template = JinjaTemplate(
        SHOWN + "{% if messages|length > 1 %}{{ raise_exception('roles must alternate') }}{% endif %}"
    )
    with pytest.raises(PromptError, match=r"refuses this conversation: .*roles must alternate"):
        template.render(QUESTION * 2, add_generation_prompt=True)


DOUBLED = "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = DOUBLE %}{% endfor %}"
LONG = "{% set a = 'a' * 100000 %}"
BOMBS = {
    "repetition": "{{ 'a' * 10000000000 }}",
    "list repetition": "{{ 10000000000 * [1] }}",
    "plus": DOUBLED.replace("DOUBLE", "ns.s + ns.s"),
    "tilde": DOUBLED.replace("DOUBLE", "ns.s ~ ns.s"),
    "join": LONG + "{{ range(100000)|join(a) }}",
    "join method": LONG + "{{ a.join(range(100000)|map('string')) }}",
    "replace": LONG + "{{ a|replace('a', a) }}",
    "replace method": LONG + "{{ a.replace('a', a) }}",
    "replace in a list": "{% set a = 'a' * 9000 %}{{ range(100000)|map('replace', '1', a)|list|length }}",
    "block": "{% set a %}aa{% endset %}" + "{% set a %}{{ a }}{{ a }}{% endset %}" * 60,
    "lists": "{% set a = [1] %}" + "{% set a = [a, a] %}" * 40 + "{{ a }}",
    "dicts": "{% set a = 1 %}" + "{% set a = {'a': a, 'b': a} %}" * 40 + "{{ a }}",
    "dict calls": "{% set a = 1 %}" + "{% set a = dict(a=a, b=a) %}" * 40 + "{{ a }}",
    "slices": "{% set a = 'ab' * 1000000 %}" + "".join(f"{{% set a{i} = a[1:] %}}" for i in range(2000)),
    "output": "{% for i in range(100000) %}{{ 'a' * 1000 }}{% endfor %}",
    "loops": "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "power": "{{ 9 ** 9 ** 9 }}",
    "squares": "{% set ns = namespace(n=99) %}{% for i in range(60) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "padding": "{{ 'a'.ljust(10000000000) }}",
    "format": "{{ '{:>10000000000}'.format(1) }}",
    "percent": "{{ '%10000000000d' % 1 }}",
    "json": "{{ [[1]]|tojson(indent=1000000000) }}",
    "filter": "{{ 'a'|center(10000000000) }}",
    "nesting": "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
}
BREAKOUTS = {
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ raise_exception.__globals__['datetime'] }}",
    "attr filter": "{{ messages|attr('__class__') }}",
    "include": "{% include '/etc/passwd' %}",
    "mutation": "{{ messages.append(1) }}",
    "format": "{{ '{0.__class__}'.format(1) }}",
    "cycler": "{{ cycler.__init__.__globals__.os }}",
}


@pytest.fixture
def short_time(monkeypatch):
    monkeypatch.setattr("audioflamingo.prompt.sandbox.MAX_RENDER_S", 0.3)


@pytest.mark.usefixtures("short_time")
@pytest.mark.parametrize("source", [*BOMBS.values(), *BREAKOUTS.values()], ids=[*BOMBS, *BREAKOUTS])
def test_bombs_and_breakouts(source):
    started = time.monotonic()
    with pytest.raises(CheckpointError):
        JinjaTemplate(SHOWN + source)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("{% if %}", "cannot be compiled: TemplateSyntaxError"),
        ("Hello", "leaves out what the user says"),
        (SHOWN + "{{ 1 / 0 }}", "fails: ZeroDivisionError"),
        (SHOWN + " " * MAX_TEMPLATE_BYTES, "at most 65,536"),
    ],
)
def test_unusable_templates(source, match):
    with pytest.raises(CheckpointError, match=match):
        JinjaTemplate(source)


def rendered(folder):
    return load_template(folder).render(QUESTION, add_generation_prompt=True)


def test_where_templates_are_found(tmp_path):
    assert load_template(tmp_path) == ChatML(default_style="nvidia")
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"pad_token": None}))
    assert load_template(tmp_path) == ChatML(default_style="nvidia")
    config.write_text(json.dumps({"chat_template": SHOWN + "1{{ eos_token }}", "eos_token": {"content": "<e>"}}))
    assert rendered(tmp_path) == "What?1<e>"
    named = [{"name": "tools", "template": "x"}, {"name": "default", "template": SHOWN + "2"}]
    config.write_text(json.dumps({"chat_template": named}))
    assert rendered(tmp_path) == "What?2"
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": SHOWN + "3"}))
    assert rendered(tmp_path) == "What?3"
    (tmp_path / "chat_template.jinja").write_text(SHOWN + "4")
    assert rendered(tmp_path) == "What?4"


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("chat_template.json", "{", r"chat_template\.json is corrupt"),
        ("chat_template.json", "[" * 100_000, r"chat_template\.json is corrupt"),
        ("chat_template.json", "[]", "holds no JSON object"),
        ("tokenizer_config.json", '{"chat_template": 7}', "is a int, expected a string"),
        ("chat_template.jinja", b"\xff\xfe", r"chat_template\.jinja is corrupt"),
        ("chat_template.jinja", b" " * (MAX_TEMPLATE_BYTES + 1), "at most 65,536"),
    ],
)
def test_corrupt_files(tmp_path, name, content, match):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CheckpointError, match=match):
        load_template(tmp_path)
