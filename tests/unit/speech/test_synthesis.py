import itertools
import json

import numpy as np
import pytest
import torch

from audioflamingo.errors import CheckpointError
from audioflamingo.speech.codec import CodecConfig
from audioflamingo.speech.engines import EMBEDDED_VOICE, VoiceMissingError, open_voice
from audioflamingo.speech.mels import LOG_FLOOR, SILENT_FEATURE, energies, mel_matrix, mels_of_frames
from audioflamingo.speech.model import SpeechBatch, SpeechConfig, SpeechModel, embedded, expand, layers, paper_size
from audioflamingo.speech.phones import PAUSE_ID, PHONES
from audioflamingo.speech.pronounce import BLANK, Pronouncer, letter_ids, merged
from audioflamingo.speech.speaker import Speaker
from audioflamingo.speech.storage import load_voice, save_voice
from audioflamingo.speech.synthesis import OwnSpeaker, OwnVoice, Synthesis

SMALL = {
    "text": layers(32, 2, 2, 48),
    "frames": layers(48, 2, 2, 64),
    "codec": CodecConfig(frame_width=24, subframe_width=16, frame_layers=1, subframe_layers=1),
    "text_window": 12,
    "frame_window": 9,
}
UNITS = [[5, 40, 9], [13, 45], [7, 41, 3, 60, 11, 9], [20, 33, 2], [8, 50, 8, 52], [3, 44]]
DURATIONS = [
    [7, 9, 6],
    [5, 11],
    [6, 8, 3, 9, 4, 10],
    [1, 30, 2],
    [6, 7, 6, 8],
    [5, 13],
]  # with the closing pause, whole codec frames


@pytest.fixture(scope="module", params=["mel", "codes"])
def voice(request):
    torch.manual_seed(0)
    voice = OwnVoice(
        SpeechConfig(target=request.param, **SMALL), ("one", "two"), pronouncer=Pronouncer(layers(16, 1, 2, 32))
    )
    voice.polished = ("two",) if request.param == "mel" else ()
    for parameter in voice.parameters():  # wide enough for codes and words to vary
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return voice.eval().requires_grad_(False)


def streamed(voice, index=0):
    with Synthesis(voice, index) as synthesis:
        parts = [
            synthesis.feed(phones, durations=durations) for phones, durations in zip(UNITS, DURATIONS, strict=True)
        ]
        return torch.cat([*parts, synthesis.flush()])


def one_shot(voice, index=0):
    """The training pass over all units and the codes that came before, then the decoder once over all."""
    closing = 8
    phones = torch.tensor([[*itertools.chain(*UNITS), PAUSE_ID]])
    units = torch.tensor([[number for number, unit in enumerate([*UNITS, [0]]) for _ in unit]])
    durations = torch.tensor([[*itertools.chain(*DURATIONS), closing]])
    num_frames = -(-int(durations.sum()) // 4)
    voices = torch.tensor([index])
    history = torch.zeros(1, voice.config.codec.code_width, num_frames)
    if voice.config.target == "mel":
        _, out = voice.model(SpeechBatch(phones, units, durations, voices), num_frames)
        features = out.transpose(1, 2)
        return polished(voice, features) if index else voice.wave_decoder.whole(features)[0]
    for frame in range(num_frames):
        _, out = voice.model(SpeechBatch(phones, units, durations, voices, history), num_frames)
        indices = torch.stack([one.argmax(-1) for one in voice.model.level_logits(out)], -1)
        history[..., frame] = voice.quantiser.from_indices(indices.permute(0, 2, 3, 1))[..., frame]
    assert history.unique(dim=2).shape[2] > num_frames // 2
    return voice.wave_decoder.whole(history)[0]


def polished(voice, features):
    """The decoder over all features and zeros after them, and every window's bands scaled by hand to their mels."""
    num_frames = features.shape[2]
    late = voice.wave_decoder(torch.nn.functional.pad(features, (0, 2)))[0]
    samples = torch.cat([torch.zeros(720), late])
    mels = torch.cat([torch.full((80, 5), SILENT_FEATURE), mels_of_frames(features)[0]], 1)
    mels = torch.nn.functional.pad(mels, (0, 8), value=SILENT_FEATURE)
    wanted, window, matrix = energies(mels), torch.hann_window(960), mel_matrix(1_024, 80)
    out, weight = torch.zeros(len(samples)), torch.zeros(len(samples))
    for number in range(4 * num_frames + 7):
        place = slice(240 * number, 240 * number + 960)
        spectrum = torch.fft.rfft(samples[place] * window, n=1_024)
        own = spectrum.abs() @ matrix * (1_024 / 960) + LOG_FLOOR
        gain = (wanted[:, number : number + 2].mean(1) / own).clamp(0.2, 4)
        per_bin = (matrix * gain).sum(1) / matrix.sum(1).clamp(min=1e-8)
        out[place] += torch.fft.irfft(spectrum * per_bin, n=1_024)[:960] * window
        weight[place] += window.square()
    return (out / weight.clamp(min=1e-9))[1_440 : 1_440 + 960 * num_frames]


@pytest.mark.parametrize("index", [0, 1])
def test_streamed_speech_equals_one_shot(voice, index):
    stream, whole = streamed(voice, index), one_shot(voice, index)
    assert whole.std() > 1e-3
    torch.testing.assert_close(stream, whole, atol=1e-4, rtol=0)


def test_voices_and_rates_differ(voice):
    assert not torch.allclose(streamed(voice, 0)[:9_000], streamed(voice, 1)[:9_000])
    lengths = []
    for rate in (0.7, 1.4):
        with Synthesis(voice, rate=rate) as synthesis:
            lengths.append(len(synthesis.feed([5, 40, 9, 13, 45], 300)) + len(synthesis.flush()))
    assert lengths[0] > lengths[1]


def test_text_in_any_pieces_gives_the_same_sound(voice):
    speaker = Speaker(OwnSpeaker(voice))
    text = "Hello, the dear friend. The apple is 3.5 km."
    whole, letters = (b"".join(packet.pcm for packet in speaker.stream(deltas)) for deltas in ([text], text))
    assert whole == letters
    assert len(whole) > 24_000


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("the apple", ["dh iy0", "ae"]),
        ("the dog", ["dh ax0", "d"]),
        ("the use", ["dh ax0", "y"]),  # letters do not tell, phones do
        ("the hour", ["dh iy0", "aw"]),
        ("the, apple", ["dh ax0", "ae"]),
        ("the", ["dh ax0"]),
    ],
)
def test_the_is_said_by_the_word_after_it(monkeypatch, text, phones):
    fed = []
    feed = Synthesis.feed
    monkeypatch.setattr(Synthesis, "feed", lambda self, ids, *rest: fed.append(ids) or feed(self, ids, *rest))
    stream = Speaker(OwnSpeaker(load_voice(EMBEDDED_VOICE))).stream([text])
    assert all(packet.pcm for packet in stream)
    assert stream.heard_text(60_000) == text
    said = [" ".join(PHONES[one] for one in ids) for ids in fed if ids]
    assert len(said) == len(phones)
    assert all(one.startswith(start) for one, start in zip(said, phones, strict=True))


def test_a_word_counts_as_heard_only_when_its_sound_is_over(voice):
    text, words = "One two, three four. Five", ["one", "two", "three", "four", "five"]
    pauses = [0, 140, 0, 380, 0]
    with Synthesis(voice) as synthesis:
        ends = []
        for word, pause_ms in zip(words, pauses, strict=True):
            synthesis.feed(voice.pronouncer.phones(word), pause_ms)
            ends.append(synthesis.words_end)
    stream = Speaker(OwnSpeaker(voice)).stream([text])
    num_bytes = sum(len(packet.pcm) for packet in stream)
    texts = ["One", "One two,", "One two, three", "One two, three four.", text]
    for end, heard in zip(ends, texts, strict=True):
        assert len(stream.heard_text(1000 * (end - 1) / 24_000)) < len(heard)
    assert stream.heard_text(1000 * num_bytes / 2 / 24_000) == text


def test_memory_of_a_long_stream_is_bounded(voice):
    with Synthesis(voice) as synthesis:
        sizes = []
        for _ in range(30):
            synthesis.feed([5, 40, 9], durations=[4, 4, 4])
            sizes.append(sum(tensor.numel() for tensor in synthesis._state._tensors.values()))
    assert sizes[-1] == sizes[-5]


def test_a_folder_is_a_voice_by_name(voice, tmp_path):
    save_voice(voice, tmp_path)
    assert open_voice("flamingo", str(tmp_path)).name == "flamingo one"
    assert open_voice("flamingo", f"{tmp_path}:two").name == "flamingo two"
    with pytest.raises(VoiceMissingError, match="one, two"):
        open_voice("flamingo", f"{tmp_path}:three")
    with pytest.raises(VoiceMissingError, match="no voice in"):
        open_voice("flamingo", f"{tmp_path / 'x'}:one")


@pytest.mark.parametrize("precision", ["int8", "bf16", "fp32"])
def test_a_voice_survives_the_disk(voice, precision, tmp_path):
    voice.pronouncer.exceptions = {"one": ("w", "ah1", "n")}
    save_voice(voice, tmp_path, precision)
    loaded = load_voice(tmp_path)
    tolerance = {"int8": 2e-2, "bf16": 1e-2, "fp32": 0}[precision]
    for name, tensor in voice.state_dict().items():
        assert (loaded.state_dict()[name] - tensor).abs().max() <= tolerance * tensor.abs().max()
    assert loaded.config == voice.config
    assert loaded.pronouncer.exceptions == voice.pronouncer.exceptions


def test_damaged_voices_are_refused(voice, tmp_path):
    with pytest.raises(CheckpointError, match="no readable voice"):
        load_voice(tmp_path)
    save_voice(voice, tmp_path)
    values = json.loads((tmp_path / "voice.json").read_text())
    for change in ({"format": "x"}, {"voices": ["one"]}, {"config": {}}, {"exceptions": 3}):
        (tmp_path / "voice.json").write_text(json.dumps(values | change))
        with pytest.raises(CheckpointError):
            load_voice(tmp_path)
    values["config"]["frames"]["num_layers"] = 3
    (tmp_path / "voice.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="does not fit"):
        load_voice(tmp_path)


def test_sizes_are_as_promised(tmp_path):
    for target in ("mel", "codes"):
        folder = tmp_path / target
        save_voice(OwnVoice(embedded(target), ("a", "b")), folder)
        assert sum(file.stat().st_size for file in folder.iterdir()) <= 12_000_000
    with torch.device("meta"):
        large = OwnVoice(paper_size(), tuple(map(str, range(16))))
    total = sum(p.numel() for p in large.model.parameters()) + sum(p.numel() for p in large.wave_decoder.parameters())
    assert round(total / 1e6) == pytest.approx(644, abs=3)


def test_expansion_counts_from_both_ends():
    index, since, until = expand(torch.tensor([[2, 0, 3]]), 7)
    assert index.tolist() == [[0, 0, 2, 2, 2, 2, 2]]
    assert since.tolist()[0][:5] == [0, 1, 0, 1, 2]
    assert until.tolist()[0][:5] == [1, 0, 2, 1, 0]


def test_no_frame_sees_what_comes_after_it():
    torch.manual_seed(0)
    model = SpeechModel(SpeechConfig(**SMALL)).eval()
    phones = torch.randint(1, 60, (1, 9))
    units = torch.tensor([[0, 0, 0, 1, 1, 1, 2, 2, 2]])
    durations = torch.full((1, 9), 4)
    history = torch.randn(1, 32, 9)
    batch = SpeechBatch(phones, units, durations, torch.zeros(1, dtype=torch.int64), history)
    changed_phones, changed_history = phones.clone(), history.clone()
    changed_phones[0, 6:] = 1
    changed_history[..., 5:] = 0
    changed = SpeechBatch(changed_phones, units, durations, batch.voices, changed_history)
    with torch.no_grad():
        before, after = model(batch, 9)[1], model(changed, 9)[1]
    assert torch.allclose(before[:, :6], after[:, :6], atol=1e-6)
    assert not torch.allclose(before[:, 6:], after[:, 6:], atol=1e-3)


def test_padding_does_not_change_a_pronunciation():
    torch.manual_seed(0)
    pronouncer = Pronouncer(layers(16, 2, 2, 32)).eval()
    with torch.no_grad():
        alone = pronouncer(letter_ids(["cat"]))[0]
        padded = pronouncer(letter_ids(["cat", "elephants"]))[0, :6]
    torch.testing.assert_close(alone, padded, atol=1e-5, rtol=0)


def test_paths_are_merged():
    assert merged([BLANK, 3, 3, BLANK, 3, 5, 5]) == [3, 3, 5]
    assert merged([]) == []


def test_no_word_is_silent(voice):
    for word in ("a", "b", "'", "strength", "zzzz"):
        assert len(voice.pronouncer.phones(word)) > 0


def test_sound_is_finite_and_of_the_right_length(voice):
    sound = streamed(voice).numpy()
    assert np.isfinite(sound).all()
    assert abs(len(sound) - (sum(map(sum, DURATIONS)) + 8) * 240) <= 960


def test_a_small_voice_speaks_in_the_calling_thread_and_leaves_the_callers_threads_alone(voice):
    inside, before = [], torch.get_num_threads()
    hook = voice.wave_decoder.register_forward_pre_hook(lambda *_: inside.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        outside = [torch.get_num_threads() for _ in Speaker(OwnSpeaker(voice)).stream(["Two words, and a pause."])]
    finally:
        torch.set_num_threads(before)
        hook.remove()
    assert set(inside) == {1}
    assert set(outside) == {2}
