"""Ours against transformers' own class and processor, wherever that one runs: inputs, logits, tokens."""

import copy

import pytest
import torch

SAMPLING = {"do_sample": True, "temperature": 0.9, "top_k": 20, "top_p": 0.95, "max_new_tokens": 6}


def same(ours, theirs):
    assert set(ours) == set(theirs)
    for key, expected in theirs.items():
        assert ours[key].dtype == expected.dtype, key
        if expected.is_floating_point():
            torch.testing.assert_close(ours[key], expected, atol=2e-5, rtol=0)
        else:
            assert torch.equal(ours[key], expected), key


def both(processor, stock_processor, call):
    return call(processor), call(stock_processor)


def test_a_batch_of_conversations_gives_the_same_inputs(processor, stock_processor, sound, ask):
    def call(one):
        conversations = [ask(sound(seconds, seed)) for seed, seconds in enumerate((0.021, 0.5, 31.0, 60.0))]
        return one.apply_chat_template(conversations, tokenize=True, return_dict=True, add_generation_prompt=True)

    ours, theirs = both(processor, stock_processor, call)
    same(ours, theirs)
    assert ours["input_features"].shape == (6, 128, 3000)


def test_transcription_requests_give_the_same_inputs(processor, stock_processor, sound):
    sounds = [sound(0.4), sound(1.1)]
    ours, theirs = both(
        processor, stock_processor, lambda one: one.apply_transcription_request(sounds, prompt=[None, "Write it down."])
    )
    same(ours, theirs)
    assert processor.decode(ours["input_ids"][0]).count("Transcribe the input speech.") == 1


def test_written_out_prompts_and_labels_are_the_references_by_name(processor, stock_processor, sound):
    text = ["<|im_start|>user\n<sound>Hm?<|im_end|>\n<|im_start|>assistant\nA dog.<|im_end|>\n", "<sound>raw"]
    sounds = [sound(0.4), sound(0.8)]
    ours = processor(text=text, audio=sounds, output_labels=True, label_scope="reference")
    same(ours, stock_processor(text=copy.copy(text), audio=sounds, output_labels=True))
    same(processor(text="plain text"), stock_processor(text="plain text"))


def test_the_template_writes_what_the_references_writes(processor, stock_processor, sound, ask):
    conversation = [
        {"role": "system", "content": "Be brief."},
        *ask(sound(0.1)),
        {"role": "assistant", "content": [{"type": "text", "text": "A dog."}]},
        {"role": "user", "content": "Sure?"},
    ]
    for options in ({"add_generation_prompt": True}, {}):
        ours = processor.apply_chat_template(copy.deepcopy(conversation), **options)
        assert ours == stock_processor.apply_chat_template(copy.deepcopy(conversation), **options)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_logits_are_the_references(model, stock, batch, attention):
    model.set_attn_implementation(attention)
    with torch.no_grad():
        ours, theirs = model(**batch).logits, stock(**batch).logits
    valid = batch["attention_mask"].bool()
    torch.testing.assert_close(ours[valid], theirs[valid], atol=1e-4, rtol=0)


def test_loss_and_gradients_are_the_references(model, stock, batch):
    reference = copy.deepcopy(stock)
    labels = batch["input_ids"].masked_fill(batch["input_ids"] == 2045, -100)
    losses = []
    for one in (model, reference):
        one.train()
        losses.append(one(**batch, labels=labels).loss)
        losses[-1].backward()
    torch.testing.assert_close(losses[0], losses[1])
    theirs = dict(reference.named_parameters())
    for name, parameter in model.named_parameters():
        expected = theirs[name].grad
        assert (parameter.grad is None) == (expected is None), name
        if expected is not None:
            torch.testing.assert_close(parameter.grad, expected, atol=2e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": False, "max_new_tokens": 12},
        SAMPLING,
        {"do_sample": False, "repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "max_new_tokens": 8},
        {"do_sample": False, "min_new_tokens": 5, "suppress_tokens": [2045], "max_new_tokens": 6},
    ],
)
def test_tokens_are_the_references_on_our_engine(shared_model, stock, batch, options):
    found = []
    for one in (shared_model, stock):
        torch.manual_seed(5)
        found.append(one.generate(**batch, **options))
    assert torch.equal(*found)
    assert shared_model.generated_on == "engine"


def test_beam_search_runs_on_the_plain_path(shared_model, stock, processor, sound, ask, caplog):
    inputs = processor.apply_chat_template(
        [ask(sound(0.5)), ask(sound(1.0, 1))], tokenize=True, return_dict=True, add_generation_prompt=True
    )
    options = {"num_beams": 3, "do_sample": False, "max_new_tokens": 5, "num_return_sequences": 2}
    ours = shared_model.generate(**inputs, **options)
    assert torch.equal(ours, stock.generate(**inputs, **options))
    assert "another decoding method" in shared_model.generated_on


def test_several_answers_keep_each_rows_own_windows(shared_model, stock, processor, sound, ask):
    """transformers hands the first of two windows to one answer and the second to the other."""
    inputs = processor.apply_chat_template(
        ask(sound(31.0)), tokenize=True, return_dict=True, add_generation_prompt=True
    )
    alone = stock.generate(**inputs, do_sample=False, max_new_tokens=6, num_beams=1)
    twice = {key: torch.cat([value, value]) for key, value in inputs.items()}
    torch.manual_seed(0)
    expected = stock.generate(**twice, **SAMPLING)
    torch.manual_seed(0)
    assert torch.equal(shared_model.generate(**inputs, **SAMPLING, num_return_sequences=2), expected)
    beams = shared_model.generate(**inputs, do_sample=False, max_new_tokens=6, num_beams=2, num_return_sequences=2)
    assert beams.shape[0] == 2
    assert torch.equal(shared_model.generate(**inputs, do_sample=False, max_new_tokens=6), alone)


def test_a_row_alone_answers_as_in_a_batch_whatever_the_padding(shared_model, processor, sound, ask):
    conversations = [ask(sound(0.5)), ask(sound(1.5, 1), "What do you hear in this sound, please?")]
    options = {"tokenize": True, "return_dict": True, "add_generation_prompt": True}
    together = {
        side: processor.apply_chat_template(conversations, padding_side=side, **options) for side in ("left", "right")
    }
    for row, conversation in enumerate(conversations):
        alone = processor.apply_chat_template(conversation, **options)
        expected = shared_model.generate(**alone, max_new_tokens=6)[0, alone["input_ids"].shape[1] :]
        for inputs in together.values():
            ids = shared_model.generate(**inputs, max_new_tokens=6)[row, inputs["input_ids"].shape[1] :]
            assert ids[: len(expected)].tolist() == expected.tolist()


def test_generation_from_embeddings_equals_that_from_ids(shared_model, stock, batch):
    with torch.no_grad():
        embeddings = shared_model.get_input_embeddings()(batch["input_ids"]).clone()
        audio = shared_model.get_audio_features(batch["input_features"], batch["input_features_mask"]).pooler_output
        embeddings[batch["input_ids"] == 2045] = audio
    inputs = {"inputs_embeds": embeddings, "attention_mask": batch["attention_mask"]}
    ours = shared_model.generate(**inputs, max_new_tokens=6)
    assert shared_model.generated_on == "engine"
    assert torch.equal(ours, stock.generate(**inputs, max_new_tokens=6))
    assert torch.equal(ours, shared_model.generate(**batch, max_new_tokens=6)[:, batch["input_ids"].shape[1] :])


def test_audio_features_have_the_references_shape(shared_model, stock, batch):
    features = (batch["input_features"], batch["input_features_mask"])
    with torch.no_grad():
        ours, theirs = shared_model.get_audio_features(*features), stock.get_audio_features(*features)
        recorded = shared_model.get_audio_features(*features, output_hidden_states=True)
    torch.testing.assert_close(ours.pooler_output, theirs.pooler_output, atol=1e-4, rtol=0)
    assert ours.last_hidden_state.shape == theirs.last_hidden_state.shape
    assert len(recorded.hidden_states) == 3
