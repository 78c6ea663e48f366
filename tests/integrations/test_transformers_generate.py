"""Where `generate` runs, what its other options do, and that a fallback is told."""

import functools
import logging

import pytest
import torch
from transformers import DynamicCache, GenerationConfig, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from audioflamingo.errors import OptionError, PromptError
from audioflamingo.integrations.transformers import AudioFlamingo3ForConditionalGeneration, reasons


@pytest.fixture
def inputs(processor, sound, ask):
    return processor.apply_chat_template(ask(sound(0.5)), tokenize=True, return_dict=True, add_generation_prompt=True)


class Collected(BaseStreamer):
    def __init__(self):
        self.ids, self.ended = [], False

    def put(self, value):
        self.ids += value.flatten().tolist()

    def end(self):
        self.ended = True


def test_a_streamer_sees_prompt_and_tokens_as_they_come(shared_model, inputs):
    streamer = Collected()
    outputs = shared_model.generate(**inputs, max_new_tokens=5, streamer=streamer)
    assert (streamer.ids, streamer.ended) == (outputs[0].tolist(), True)
    assert shared_model.generated_on == "engine"


def test_options_come_from_a_generation_config_and_the_checkpoint(shared_model, inputs):
    prompt = inputs["input_ids"].shape[1]
    assert shared_model.generate(**inputs, suppress_tokens=[2044, 2042]).shape[1] == prompt + 8  # the checkpoint's
    config = GenerationConfig(max_new_tokens=3, do_sample=False, eos_token_id=2044, pad_token_id=2047)
    assert shared_model.generate(**inputs, generation_config=config).shape[1] <= prompt + 3


def test_stopping_criteria_and_stop_strings_work_on_the_engine(shared_model, processor, inputs):
    class AfterTwo(StoppingCriteria):
        def __call__(self, input_ids, scores, **_):
            done = input_ids.shape[1] >= inputs["input_ids"].shape[1] + 2
            return torch.full((input_ids.shape[0],), done, device=input_ids.device)

    free = shared_model.generate(**inputs, max_new_tokens=8)
    outputs = shared_model.generate(**inputs, max_new_tokens=8, stopping_criteria=StoppingCriteriaList([AfterTwo()]))
    assert outputs.tolist() == free[:, : inputs["input_ids"].shape[1] + 2].tolist()
    text = processor.tokenizer.decode(free[0, inputs["input_ids"].shape[1] :][:2])
    stopped = shared_model.generate(**inputs, max_new_tokens=8, stop_strings=[text[-1]], tokenizer=processor.tokenizer)
    assert stopped.shape[1] < free.shape[1]
    assert shared_model.generated_on == "engine"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"return_dict_in_generate": True, "output_scores": True}, "asks for more than tokens"),
        ({"use_cache": False}, "use_cache=False"),
        ({"cache_implementation": "static"}, "cache_implementation='static'"),
        ({"past_key_values": DynamicCache()}, "came from the caller"),
        ({"position_ids": "shifted"}, "position_ids differ"),
        ({"prompt_lookup_num_tokens": 2}, "another decoding method"),
    ],
)
def test_what_the_engine_does_not_do_runs_on_the_plain_path(shared_model, inputs, options, reason, caplog):
    reasons._told.clear()
    if options.get("position_ids") == "shifted":
        options = {"position_ids": inputs["attention_mask"].cumsum(-1) + 4}
    outputs = shared_model.generate(**inputs, **options, max_new_tokens=4, do_sample=False)
    assert reason in shared_model.generated_on
    assert f"not on Audio Flamingo's engine: {shared_model.generated_on.removeprefix('transformers: ')}" in caplog.text
    sequences = outputs.sequences if hasattr(outputs, "sequences") else outputs
    assert sequences.tolist() == shared_model.generate(**inputs, max_new_tokens=4).tolist()


def test_a_fallback_is_told_once(shared_model, inputs, caplog):
    reasons._told.clear()
    with caplog.at_level(logging.WARNING, logger="audioflamingo"):
        for _ in range(2):
            shared_model.generate(**inputs, use_cache=False, max_new_tokens=2)
    assert caplog.text.count("use_cache=False") == 1


def test_hooks_and_replaced_forwards_are_not_passed_by(model, inputs):
    seen = []
    hook = model.model.language_model.layers[0].register_forward_hook(lambda *_: seen.append(1))
    model.generate(**inputs, max_new_tokens=2)
    assert seen
    assert "language_model.layers.0 has forward hooks" in model.generated_on
    hook.remove()
    forward = model.forward
    model.forward = functools.wraps(forward)(lambda **kwargs: forward(**kwargs))
    model.generate(**inputs, max_new_tokens=2)
    assert "forward was replaced" in model.generated_on


def test_a_decoder_that_ours_does_not_have_runs_on_the_plain_path(folder, inputs):
    from audioflamingo.integrations.transformers import AudioFlamingo3Config

    config = AudioFlamingo3Config.from_pretrained(folder)
    config.text_config.rope_parameters = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e6}
    model = AudioFlamingo3ForConditionalGeneration.from_pretrained(folder, config=config)
    model.generate(**inputs, max_new_tokens=2)
    assert "rope type is 'linear'" in model.generated_on


def test_changed_weights_are_seen_at_once(model, inputs):
    before = model.generate(**inputs, max_new_tokens=6)
    with torch.no_grad():
        model.lm_head.weight.neg_()
    assert not torch.equal(model.generate(**inputs, max_new_tokens=6), before)
    model.load_state_dict({"lm_head.weight": -model.lm_head.weight}, strict=False)
    assert torch.equal(model.generate(**inputs, max_new_tokens=6), before)
    assert model.generated_on == "engine"
    model.to(torch.bfloat16)
    assert model.generate(**inputs, max_new_tokens=2).shape[0] == 1  # features come in fp32 and are cast here
    assert model(**inputs).logits.dtype == torch.bfloat16


def held_bytes(model):
    """Memory behind all parameters, each storage once."""
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in model.parameters()}
    return sum(storages.values())


def test_no_weight_is_held_twice(model, inputs):
    before = held_bytes(model)
    model.generate(**inputs, max_new_tokens=2)
    encoder = model.config.audio_config
    zeros = (
        4 * encoder.hidden_size * encoder.num_hidden_layers
    )  # bytes: where queries and values have biases, keys' are 0
    assert held_bytes(model) == before + zeros
    places = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    model.generate(**inputs, max_new_tokens=2)
    assert {name: parameter.data_ptr() for name, parameter in model.named_parameters()} == places
    ours = {parameter.data_ptr() for parameter in model.model.twin.flamingo.parameters()}
    assert ours == set(places.values())
    assert not any("twin" in name or "flamingo" in name for name in model.state_dict())


def test_a_compiled_model_gives_the_same(model, inputs):
    with torch.no_grad():
        expected = model(**inputs).logits
        compiled = torch.compile(model, backend="eager")
        torch.testing.assert_close(compiled(**inputs).logits, expected, atol=1e-5, rtol=0)
    assert torch.equal(compiled.generate(**inputs, max_new_tokens=4), model.generate(**inputs, max_new_tokens=4))


def test_attention_that_is_not_available_is_an_error(folder):
    with pytest.raises(OptionError, match=r"'flash_attention_2' needs .*'sdpa' and 'eager' run here"):
        AudioFlamingo3ForConditionalGeneration.from_pretrained(folder, attn_implementation="flash_attention_2")


def test_placeholders_and_features_that_disagree(shared_model, inputs):
    fewer = {**inputs, "input_ids": inputs["input_ids"].masked_fill(inputs["input_ids"] == 2045, 5)}
    for call in (shared_model.generate, shared_model):
        with pytest.raises(PromptError, match=r"0 audio placeholders stand .* 12 audio\s+tokens"):
            call(**fewer)
    for call in (shared_model.generate, functools.partial(shared_model.generate, num_beams=2), shared_model):
        with pytest.raises(PromptError, match=r"(12|24) audio placeholders .* the sounds give 0 .* processor"):
            call(input_ids=inputs["input_ids"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: {**i, "attention_mask": torch.zeros_like(i["attention_mask"])}, "row 1 of the batch has no token"),
        (lambda i: {"input_features": i["input_features"]}, "got input_features and no input_ids"),
        (
            lambda i: {**i, "input_features": i["input_features"][:, :80]},
            r"shape \(1, 80, 3000\), expected \(windows, 128",
        ),
        (lambda i: {**i, "input_features": i["input_features"] * torch.nan}, "are not finite in torch.float32"),
        (lambda i: {"input_ids": torch.tensor([[5, 9_999]])}, "input_ids hold 9999, the model's vocabulary 0 to 2047"),
        (lambda i: {"input_ids": torch.tensor([[5, -1]])}, "input_ids hold -1"),
    ],
)
def test_inputs_made_by_hand_that_cannot_be_right(shared_model, inputs, change, message):
    with pytest.raises(PromptError, match=message):
        shared_model.generate(**change(inputs), max_new_tokens=2)


def test_a_model_that_drafts_for_another_gets_no_sounds_and_does_not_mind(shared_model, model, inputs):
    expected = shared_model.generate(**inputs, max_new_tokens=6)
    assert torch.equal(shared_model.generate(**inputs, max_new_tokens=6, assistant_model=model), expected)
    assert not model.model.is_drafting
