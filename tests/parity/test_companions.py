"""The small files beside the weights are those that transformers' own processor and converter would write."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from audioflamingo.errors import CheckpointError
from audioflamingo.model.weights import load_config, resolve, save_flamingo, write_companions
from audioflamingo.model.weights.companions import TOKENIZER_FILES, generation_config, processor_config
from audioflamingo.tokenizer import Tokenizer

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from small_tokenizer import write_json_layout, write_parts_layout

WRITTEN = ("generation_config.json", "processor_config.json")


@pytest.fixture
def nano():
    return resolve("nano")


@pytest.fixture
def processor(nano):
    from transformers import AudioFlamingo3Processor, AutoTokenizer, WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=128, return_attention_mask=True)
    return AudioFlamingo3Processor(extractor, AutoTokenizer.from_pretrained(nano, local_files_only=True))


def test_the_processors_settings_are_what_transformers_saves(processor, nano, tmp_path):
    processor.save_pretrained(tmp_path)
    assert processor_config(load_config(nano)) == json.loads((tmp_path / "processor_config.json").read_text())
    assert not (tmp_path / "preprocessor_config.json").exists()


def test_the_defaults_of_generation_are_what_transformers_reads(nano):
    from transformers import GenerationConfig

    tokenizer, found = Tokenizer.from_folder(nano), GenerationConfig.from_pretrained(nano)
    assert (found.eos_token_id, found.pad_token_id) == (list(tokenizer.eos_ids), tokenizer.pad)
    assert (found.max_new_tokens, bool(found.do_sample)) == (1024, False)


def test_the_embedded_model_holds_what_is_written_today(nano, tmp_path):
    pieces = {"transcription": {"at_once_s": 20.0, "overlap_s": 4.0, "piece_s": 20.0}}
    written = generation_config(Tokenizer.from_folder(nano)) | pieces, processor_config(load_config(nano))
    write_companions(tmp_path, load_config(nano), nano)
    for name, values in zip(WRITTEN, written, strict=True):
        assert json.loads((nano / name).read_text()) == values
        assert (nano / name).read_text() == (tmp_path / name).read_text()


def test_transformers_loads_the_processor_of_a_folder_that_we_saved(nano, tmp_path):
    from transformers import AutoProcessor

    write_companions(tmp_path, load_config(nano), nano)
    (tmp_path / "config.json").write_bytes((nano / "config.json").read_bytes())
    found = AutoProcessor.from_pretrained(tmp_path, local_files_only=True)
    assert type(found).__name__ == "AudioFlamingo3Processor"
    assert found.feature_extractor.feature_size == 128
    assert (found.max_audio_len, found.default_transcription_prompt) == (600, "Transcribe the input speech.")
    assert found.chat_template == (nano / "chat_template.jinja").read_text()
    assert found.tokenizer.convert_tokens_to_ids("<sound>") == load_config(nano).audio_token_id


@pytest.fixture
def small(tmp_path):
    """A tokenizer's folder, and the configuration of the embedded model made to fit it."""
    from dataclasses import replace

    folder = tmp_path / "tokenizer"
    folder.mkdir()
    tokenizer = Tokenizer.from_folder(write_parts_layout(folder))
    return folder, replace(load_config(resolve("nano")), audio_token_id=tokenizer.sound)


def test_a_tokenizer_in_parts_is_copied_in_parts_and_replaces_another(small, tmp_path):
    folder, config = small
    target = tmp_path / "checkpoint"
    target.mkdir()
    write_json_layout(target)
    (target / "config.json").write_text("{}")
    write_companions(target, config, folder)
    held = {path.name for path in target.iterdir()}
    assert held == {path.name for path in folder.iterdir() if path.name in TOKENIZER_FILES} | {"config.json", *WRITTEN}
    assert Tokenizer.from_folder(target).encode("What is it?") == Tokenizer.from_folder(folder).encode("What is it?")


def test_another_models_tokenizer_is_refused_and_nothing_is_written(small, nano, tmp_path):
    folder, _ = small
    with pytest.raises(CheckpointError, match="the two are of different checkpoints"):
        write_companions(tmp_path / "x", load_config(nano), folder)
    assert not (tmp_path / "x").exists()


def test_saving_the_weights_again_keeps_them(flamingo, small, tmp_path):
    folder, config = small
    target = tmp_path / "checkpoint"
    write_companions(target, config, folder)
    save_flamingo(flamingo, target, overwrite=True)
    assert {*WRITTEN, "vocab.json", "config.json", "model.safetensors"} <= {path.name for path in target.iterdir()}


def test_what_others_may_read_is_the_umasks_to_say(flamingo, tmp_path):
    save_flamingo(flamingo, tmp_path / "saved", max_shard_bytes=60_000)
    (tmp_path / "plain").write_text("")
    expected = (tmp_path / "plain").stat().st_mode
    for path in (tmp_path / "saved").iterdir():
        assert path.stat().st_mode == expected, path.name


def test_loading_and_saving_import_no_compiler(nano, tmp_path):
    """It would take longer than loading the embedded model."""
    code = (
        "import sys; from audioflamingo.model.weights import load_flamingo, save_flamingo\n"
        f"save_flamingo(load_flamingo({str(nano)!r}), {str(tmp_path / 'saved')!r})\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
