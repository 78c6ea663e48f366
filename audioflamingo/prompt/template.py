"""From turns to one string: the checkpoint's own chat template, or plain ChatML where it has none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from audioflamingo.errors import CheckpointError, FlamingoError, PromptError
from audioflamingo.prompt.phrases import SYSTEM_PROMPT
from audioflamingo.tokenizer import IM_END, IM_START, MAX_FILE_BYTES, SOUND

PromptStyle = Literal["hf", "nvidia"]

MAX_TEMPLATE_BYTES = 64 * 2**10

CHAT_TEMPLATE = f"""\
{{%- if messages[0]['role'] != 'system' -%}}
    {{{{- '{IM_START}system\\n{SYSTEM_PROMPT}{IM_END}\\n' -}}}}
{{%- endif -%}}
{{%- for message in messages -%}}
    {{{{- '{IM_START}' ~ message['role'] ~ '\\n' -}}}}
    {{%- if message['content'] is string -%}}
        {{{{- message['content'] -}}}}
    {{%- else -%}}
        {{%- if message['content'] | selectattr('type', 'equalto', 'audio') | list -%}}
            {{{{- '{SOUND}' -}}}}
        {{%- endif -%}}
        {{%- for item in message['content'] | selectattr('type', 'equalto', 'text') -%}}
            {{{{- item['text'] -}}}}
        {{%- endfor -%}}
    {{%- endif -%}}
    {{{{- '{IM_END}\\n' -}}}}
{{%- endfor -%}}
{{%- if add_generation_prompt -%}}
    {{{{- '{IM_START}assistant\\n' -}}}}
{{%- endif -%}}
"""
"""What our own checkpoints carry: the released template's behaviour, one `<sound>` first in any message with sound."""


class ChatTemplate(Protocol):
    """Writes a conversation as the one string that the model was trained on.

    Attributes:
        default_style: how this checkpoint puts sounds before text, see `build`.
        takes_items: whether contents are lists of items, `{"type": "audio"}` among them, or else plain strings.
    """

    @property
    def default_style(self) -> PromptStyle: ...  # noqa: D102

    @property
    def takes_items(self) -> bool: ...  # noqa: D102

    def render(self, turns: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool) -> str:
        """The conversation as a string; `turns` have a `role` and a `content`."""


@dataclass(frozen=True)
class ChatML:
    """The format of Qwen2 written out, for checkpoints without a template (NVIDIA's own folders)."""

    default_style: PromptStyle = "nvidia"
    takes_items: bool = field(default=False, init=False)

    def render(self, turns: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool) -> str:
        """See `ChatTemplate.render`."""
        if turns[0]["role"] != "system":
            turns = [{"role": "system", "content": SYSTEM_PROMPT}, *turns]
        written = "".join(f"{IM_START}{turn['role']}\n{turn['content']}{IM_END}\n" for turn in turns)
        return f"{written}{IM_START}assistant\n" if add_generation_prompt else written


class JinjaTemplate:
    """A checkpoint's `chat_template`, run in a metered sandbox."""

    def __init__(self, source: str, variables: Mapping[str, str] | None = None) -> None:
        """Compile a template and find out which form of contents it takes.

        Args:
            source: the template.
            variables: special tokens by the names that templates use, such as `eos_token`.

        Raises:
            CheckpointError: the template is too large, cannot be compiled, or leaves out what users say.
        """
        from audioflamingo.prompt.sandbox import compile_template

        if (size := len(source.encode("utf-8", errors="replace"))) > MAX_TEMPLATE_BYTES:
            raise CheckpointError(f"the chat template has {size:,} bytes; at most {MAX_TEMPLATE_BYTES:,} are allowed")
        try:
            self._render = compile_template(source)
        except (Exception, MemoryError) as error:
            raise CheckpointError(f"the chat template cannot be compiled: {_line(error)}") from error
        self._variables = dict(variables or {})
        self.takes_items = self._failure([{"type": "audio"}, {"type": "text", "text": _PROBE}], num_sounds=1) is None
        if not self.takes_items and (failure := self._failure(_PROBE, num_sounds=0)):
            raise CheckpointError(f"the chat template takes neither items nor strings: {failure}")

    @property
    def default_style(self) -> PromptStyle:
        """A template that knows audio items is the transformers release's, any other comes from NVIDIA's folders."""
        return "hf" if self.takes_items else "nvidia"

    def render(self, turns: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool) -> str:
        """See `ChatTemplate.render`.

        Raises:
            PromptError: the template refuses the conversation.
            CheckpointError: the template fails, or exceeds its limits of time or size.
        """
        from audioflamingo.prompt.sandbox import RefusalError

        try:
            return self._render(
                **self._variables,
                messages=[dict(turn) for turn in turns],
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
            )
        except RefusalError as error:
            raise PromptError(f"the checkpoint's chat template refuses this conversation: {_line(error)}") from error
        except (Exception, MemoryError) as error:
            raise CheckpointError(f"the checkpoint's chat template fails: {_line(error)}") from error

    def _failure(self, content: Any, num_sounds: int) -> str | None:
        try:
            shown = self.render([{"role": "user", "content": content}], add_generation_prompt=True)
        except FlamingoError as error:
            return str(error)
        return None if _PROBE in shown and shown.count(SOUND) == num_sounds else "it leaves out what the user says"


def load_template(folder: str | Path) -> ChatTemplate:
    """The chat template of a checkpoint's folder, or ChatML if it has none.

    Looked for in `chat_template.jinja`, `chat_template.json` and `tokenizer_config.json`, in this order.

    Raises:
        CheckpointError: a file is corrupt or too large, or its template is unusable.
    """
    config = _read_json(Path(folder) / "tokenizer_config.json")
    source = _find_source(Path(folder), config)
    if source is None:
        return ChatML()
    tokens = {name: config.get(name) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    contents = {name: token.get("content") if isinstance(token, dict) else token for name, token in tokens.items()}
    return JinjaTemplate(source, {name: text for name, text in contents.items() if isinstance(text, str)})


_PROBE = "Any question?"


def _find_source(folder: Path, config: Mapping[str, Any]) -> str | None:
    if (path := folder / "chat_template.jinja").is_file():
        return _read_text(path, MAX_TEMPLATE_BYTES)
    for values in (_read_json(folder / "chat_template.json"), config):
        found = values.get("chat_template")
        if isinstance(found, list):  # several named templates
            named = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
            found = named.get("default")
        if isinstance(found, str):
            return found
        if found is not None:
            raise CheckpointError(f"chat_template is a {type(found).__name__}, expected a string")
    return None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(_read_text(path, MAX_FILE_BYTES))
    except (json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path.name} is corrupt: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path.name} is corrupt: it holds no JSON object")
    return values


def _read_text(path: Path, max_bytes: int) -> str:
    if (size := path.stat().st_size) > max_bytes:
        raise CheckpointError(f"{path.name} has {size:,} bytes; at most {max_bytes:,} are read")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path.name} is corrupt: {error}") from error


def _line(error: BaseException) -> str:
    """An error as one line of bounded length."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
