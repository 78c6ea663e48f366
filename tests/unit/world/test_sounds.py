"""Sound events: the registry's promises, and whether the sounds are what their names say."""

import time
from itertools import pairwise

import numpy as np
import pytest
from scipy import signal

from audioflamingo.errors import OptionError
from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world.sounds import HELD_OUT_VARIANT, KINDS, PEAK, TRAINING_VARIANTS, VARIANTS, render, render_by
from audioflamingo.world.sounds.more import MORE

NAMES = sorted(KINDS)
EACH = [(name, variant) for name in NAMES for variant in range(len(VARIANTS[name]))]
SEPARABLE = NAMES[::3]


def make(kind, seed=0, **options):
    return render(kind, np.random.default_rng(seed), **options)


def spectrum(x):
    """Power in 20 Hz wide bins, and their frequencies."""
    return signal.welch(x, SAMPLE_RATE_HZ, nperseg=800)


def share(x, low_hz, high_hz):
    """Part of the energy that lies between two frequencies."""
    hz, power = spectrum(x)
    return power[(hz >= low_hz) & (hz < high_hz)].sum() / power.sum()


def centroid_hz(x):
    hz, power = spectrum(x)
    return (hz * power).sum() / power.sum()


def envelope(x, window_s=0.02):
    n = round(window_s * SAMPLE_RATE_HZ)
    return np.sqrt(np.mean(x[: len(x) // n * n].reshape(-1, n) ** 2, axis=1))


def num_bursts(x, gap_s=0.04):
    """Stretches of sound that are separated by at least `gap_s` of near silence."""
    loud = np.flatnonzero(envelope(x, 0.01) > 0.03 * envelope(x, 0.01).max())
    return 1 + int((np.diff(loud) > gap_s / 0.01).sum())


def modulation_hz(x, low_hz, high_hz):
    """Strongest rate of the loudness between two rates."""
    contour = envelope(x, 0.002)
    power = np.abs(np.fft.rfft((contour - contour.mean()) * np.hanning(len(contour)))) ** 2
    hz = np.fft.rfftfreq(len(contour), 0.002)
    inside = (hz >= low_hz) & (hz <= high_hz)
    return hz[inside][power[inside].argmax()]


def test_there_are_enough_kinds_with_enough_variants():
    assert len(KINDS) >= 30
    assert all(len(variants) >= 2 for variants in VARIANTS.values())
    assert len({kind.family for kind in KINDS.values()}) >= 8


@pytest.mark.parametrize("name", NAMES)
def test_the_words_of_a_kind_fit_together(name):
    kind = KINDS[name]
    assert kind.name == name
    assert kind.label
    assert len(kind.sentence.split()) >= 2
    assert kind.phrases
    assert not kind.sentence.endswith(".")
    assert kind.countable != kind.steady


def test_no_two_kinds_share_words():
    wordings = [words for kind in KINDS.values() for words in {kind.label, kind.noun, *kind.phrases}]
    assert len(wordings) == len(set(wordings)), sorted({w for w in wordings if wordings.count(w) > 1})


def test_the_held_out_variant_is_the_last_and_never_drawn():
    for name in NAMES:
        assert HELD_OUT_VARIANT[name] == len(VARIANTS[name]) - 1
        assert HELD_OUT_VARIANT[name] not in TRAINING_VARIANTS[name]
        assert len(set(VARIANTS[name])) == len(VARIANTS[name])


@pytest.mark.parametrize(("name", "variant"), EACH)
def test_every_variant_renders_within_its_bounds(name, variant):
    for seed in range(2):
        x = make(name, seed, variant=variant, duration_s=1.5 if KINDS[name].steady else None)
        assert x.dtype == np.float32
        assert x.ndim == 1
        assert np.isfinite(x).all()
        assert np.abs(x).max() == pytest.approx(PEAK, abs=1e-3)
        seconds = len(x) / SAMPLE_RATE_HZ
        assert seconds == 1.5 if KINDS[name].steady else 0.3 <= seconds <= 4.0


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_samples_and_another_seed_others(name):
    one, same, other = make(name, 3), make(name, 3), make(name, 4)
    np.testing.assert_array_equal(one, same)
    assert len(one) != len(other) or not np.array_equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_variants_of_one_seed_differ(name):
    sounds = [make(name, 5, variant=variant) for variant in range(len(VARIANTS[name]))]
    num = min(map(len, sounds))
    similar = [abs(np.corrcoef(sounds[-1][:num], other[:num])[0, 1]) for other in sounds[:-1]]
    assert max(similar) < 0.95


@pytest.mark.parametrize("name", ["dog_bark", "glass_breaking", "piano"])
def test_a_longest_duration_is_kept_for_single_events(name):
    assert all(len(make(name, seed, duration_s=0.4)) <= 0.4 * SAMPLE_RATE_HZ + 1 for seed in range(5))


def test_steady_kinds_last_as_long_as_asked():
    for duration_s in (0.3, 1.234, 12.0):
        assert len(make("rain", duration_s=duration_s)) == round(duration_s * SAMPLE_RATE_HZ)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "unicorn"}, "dog_bark"),
        ({"kind": "rain", "variant": 99}, "choose 0 to"),
        ({"kind": "rain", "duration_s": 0.0}, "0.3 s"),
        ({"kind": "rain", "duration_s": 1e9}, "600 s"),
        ({"kind": "dog_bark", "repeats": 99}, "takes 1 to 3"),
    ],
)
def test_what_is_not_allowed_is_refused_in_one_line(options, words):
    with pytest.raises(OptionError, match=words) as caught:
        render(rng=np.random.default_rng(0), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_a_dog_barks_as_often_as_asked(repeats):
    for seed in range(6):
        assert num_bursts(make("dog_bark", seed, variant=0, repeats=repeats)) == repeats


@pytest.mark.parametrize("variant", range(3))
def test_a_rooster_is_loudest_between_500_and_3000_hz(variant):
    for seed in range(5):
        x = make("rooster_crow", seed, variant=variant)
        assert share(x, 500, 3000) > 5 * share(x, 0, 200)


@pytest.mark.parametrize(
    ("name", "low_hz", "high_hz"),
    [
        ("bird_chirp", 1_500, 8_000),
        ("cricket", 2_500, 7_000),
        ("smoke_alarm", 2_500, 3_700),
        ("glass_breaking", 1_500, 8_000),
        ("thunder", 0, 600),
        ("cow_moo", 60, 1_500),
        ("owl_hoot", 200, 1_500),
        ("baby_cry", 250, 5_500),
        ("whistle", 600, 5_000),
    ],
)
def test_energy_lies_where_the_real_sound_has_it(name, low_hz, high_hz):
    for variant in range(len(VARIANTS[name])):
        shares = [share(make(name, seed, variant=variant), low_hz, high_hz) for seed in range(4)]
        assert np.median(shares) > 0.75, (variant, shares)


def test_small_things_sound_brighter_than_large_ones():
    for small, large in (
        ("bird_chirp", "crow_caw"),
        ("cat_meow", "cow_moo"),
        ("rain", "thunder"),
        ("violin", "engine"),
    ):
        bright = np.median([centroid_hz(make(small, seed)) for seed in range(6)])
        dark = np.median([centroid_hz(make(large, seed)) for seed in range(6)])
        assert bright > 1.2 * dark, (small, large)


@pytest.mark.parametrize("variant", range(len(VARIANTS["helicopter"])))
def test_rotor_blades_slap_about_ten_to_twenty_times_a_second(variant):
    for seed in range(4):
        rate = modulation_hz(make("helicopter", seed, variant=variant, duration_s=4.0), 5.0, 60.0)
        assert 8.0 <= rate <= 50.0


def test_laughter_has_four_to_seven_syllables_a_second():
    rates = [modulation_hz(make("laughter", seed, variant=0), 2.0, 12.0) for seed in range(8)]
    assert 3.5 <= np.median(rates) <= 7.0


def test_impacts_start_at_once_and_decay():
    for name in ("door_slam", "gunshot", "piano", "guitar", "drum", "church_bell"):
        contour = envelope(make(name, 1, variant=0, repeats=1), 0.01)
        assert contour[:25].max() == contour.max(), name
        assert contour[-5:].mean() < 0.5 * contour.max(), name


def test_steady_noises_have_no_gaps():
    for name in ("rain", "vacuum_cleaner", "engine", "stream", "airplane"):
        for variant in range(len(VARIANTS[name])):
            contour = envelope(make(name, 2, variant=variant, duration_s=3.0), 0.1)
            assert contour[1:-1].min() > 0.1 * contour.max(), (name, variant)


def _features(x):
    """Mean and deviation of 32 bands of the log spectrum, about a mel scale."""
    hz, _, power = signal.spectrogram(x, SAMPLE_RATE_HZ, nperseg=400, noverlap=80, nfft=512)
    edges = np.searchsorted(hz, 700.0 * (10 ** (np.linspace(60, 2_820, 33) / 2_595) - 1.0))
    bands = np.stack([power[a : max(b, a + 1)].mean(0) for a, b in pairwise(edges)])
    log_bands = np.log(bands + 1e-10)
    return np.concatenate([log_bands.mean(1), log_bands.std(1)])


def _set(num, first_seed):
    sounds = [
        make(name, first_seed + seed, duration_s=1.5 if KINDS[name].steady else None)
        for name in SEPARABLE
        for seed in range(num)
    ]
    return np.stack([_features(x) for x in sounds]).reshape(len(SEPARABLE), num, -1)


def test_kinds_can_be_told_apart_by_a_nearest_centroid():
    known, unknown = _set(20, 0), _set(10, 1_000)
    mean, scale = known.mean((0, 1)), known.std((0, 1))
    centroids = ((known - mean) / scale).mean(1)
    distances = np.linalg.norm(((unknown - mean) / scale)[:, :, None] - centroids, axis=-1)
    accuracy = (distances.argmin(-1) == np.arange(len(SEPARABLE))[:, None]).mean()
    print(f"nearest centroid over {len(SEPARABLE)} kinds: {accuracy:.1%}")
    assert accuracy > 0.6


@pytest.mark.parametrize(
    ("name", "index"), [(name, index) for name in sorted(MORE) for index in range(len(MORE[name]))]
)
def test_algorithms_for_training_alone_make_sound(name, index):
    """Of short, usual and long durations where they may be asked for, never silent, the same again from one seed."""
    for seed, duration_s in enumerate((0.3, 1.5, 20.0) if KINDS[name].steady else (0.3, None, None)):
        x, same = (
            render_by(MORE[name][index], name, np.random.default_rng(seed), duration_s=duration_s) for _ in range(2)
        )
        np.testing.assert_array_equal(x, same)
        assert np.isfinite(x).all()
        assert np.abs(x).max() == pytest.approx(PEAK, rel=1e-3)
        assert np.sqrt(np.mean(x**2)) > 0.004
        seconds = len(x) / SAMPLE_RATE_HZ
        assert seconds == pytest.approx(duration_s, abs=1e-3) if KINDS[name].steady else 0.3 <= seconds <= 4.0


@pytest.mark.parametrize("name", sorted(name for name in MORE if KINDS[name].steady))
def test_algorithms_for_training_alone_are_quick(name):
    """A bound far above what they take (about a hundredth of the sound's time), so that a loop over samples fails."""
    for algorithm in MORE[name]:
        start = time.process_time()
        render_by(algorithm, name, np.random.default_rng(0), duration_s=20.0)
        assert time.process_time() - start < 1.0, algorithm


def test_algorithms_for_training_alone_are_different_ones():
    algorithms = [one for more in MORE.values() for one in more]
    assert len(set(algorithms)) == len(algorithms)


def test_no_kind_is_known_by_one_algorithm_only():
    assert all(len(TRAINING_VARIANTS[name]) + len(MORE.get(name, ())) >= 2 for name in NAMES)
    assert not {algorithm for more in MORE.values() for algorithm in more} & {v[-1] for v in VARIANTS.values()}


def test_every_kind_can_be_asked_about_by_a_clause():
    found = {name: kind.question for name, kind in KINDS.items()}
    wanted = {
        "dog_bark": "does a dog bark", "baby_cry": "does a baby cry", "insect_buzz": "does an insect buzz",
        "applause": "do people applaud", "gunshot": "is a gun fired", "toilet_flush": "does a toilet flush",
        "hand_clap": "does somebody clap", "glass_breaking": "does glass break", "sneeze": "does somebody sneeze",
    }  # fmt: skip
    assert {name: found[name] for name in wanted} == wanted
    assert all(text.split()[0] in ("do", "does", "is") for text in found.values())
