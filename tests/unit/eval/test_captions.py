"""CIDEr-D, BLEU and ROUGE-L: by hand, beside direct twins of their formulas, and what must always hold."""

import math
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioflamingo.eval.captions import (
    FIGURES,
    MAX_TEXT_CHARS,
    Frequencies,
    caption_figures,
    caption_words,
    compared,
    judge_captions,
)

WORDS = st.sampled_from(["a", "dog", "barks", "rain", "falls", "then", "loud", "man's"])
CAPTION = st.lists(WORDS, min_size=1, max_size=9).map(" ".join)
ITEMS = st.lists(st.tuples(CAPTION | st.just(""), st.lists(CAPTION, min_size=1, max_size=4)), min_size=1, max_size=6)


def ngrams(words, order):
    return [tuple(words[place : place + order]) for place in range(len(words) - order + 1)]


def cider_twin(answers, references):
    """The paper's formula, term by term: whole vectors over every n-gram that there is."""
    said = [caption_words(answer) for answer in answers]
    true = [[caption_words(one) for one in some] for some in references]
    scores = []
    for c, truths in zip(said, true, strict=True):
        by_order = []
        for order in (1, 2, 3, 4):
            texts = [*said, *(one for some in true for one in some)]
            axes = sorted({g for text in texts for g in ngrams(text, order)})
            in_items = [sum(any(g in ngrams(one, order) for one in some) for some in true) for g in axes]
            idf = [math.log(len(true) / max(1, count)) for count in in_items]

            def vector(words, order=order, axes=axes, idf=idf):
                return np.array([ngrams(words, order).count(g) * w for g, w in zip(axes, idf, strict=True)])

            values = []
            for s in truths:
                norms = np.linalg.norm(vector(c)) * np.linalg.norm(vector(s))
                cosine = np.minimum(vector(c), vector(s)) @ vector(s) / norms if norms else 0.0
                values.append(10 * math.exp(-((len(c) - len(s)) ** 2) / (2 * 6.0**2)) * cosine)
            by_order.append(sum(values) / len(values))
        scores.append(sum(by_order) / 4)
    return scores


def longest_common_twin(one, other):
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, x in enumerate(one):
        for j, y in enumerate(other):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def rouge_twin(answer, references):
    said, truths = caption_words(answer), [caption_words(one) for one in references]
    if not said:
        return 0.0
    p = max(longest_common_twin(one, said) / len(said) for one in truths)
    r = max(longest_common_twin(one, said) / len(one) for one in truths)
    return 2.44 * p * r / (r + 1.44 * p) if p and r else 0.0


def bleu_twin(answers, references, up_to):
    said = [caption_words(answer) for answer in answers]
    true = [[caption_words(one) for one in some] for some in references]
    product = 1.0
    for order in range(1, up_to + 1):
        right, all_ = 0, 0
        for c, truths in zip(said, true, strict=True):
            for g, count in Counter(ngrams(c, order)).items():
                right += min(count, max(ngrams(one, order).count(g) for one in truths))
                all_ += count
        product *= right / all_ if all_ else 0.0
    length = sum(map(len, said))
    nearest = sum(
        min((abs(len(one) - len(c)), len(one)) for one in some)[1] for c, some in zip(said, true, strict=True)
    )
    brevity = 1.0 if length >= nearest else math.exp(1 - nearest / length) if length else 0.0
    return brevity * product ** (1 / up_to)


@settings(max_examples=50, deadline=None)
@given(ITEMS)
def test_all_figures_are_their_formulas(items):
    answers, references = [answer for answer, _ in items], [some for _, some in items]
    known = Frequencies.of(references)
    scores = [compared(a, r, known) for a, r in zip(answers, references, strict=True)]
    assert [score.cider for score in scores] == pytest.approx(cider_twin(answers, references), abs=1e-9)
    assert [score.rouge_l for score in scores] == pytest.approx(list(map(rouge_twin, answers, references)), abs=1e-9)
    measured = judge_captions(answers, references)
    assert tuple(measured) == FIGURES
    assert measured["CIDEr-D"].value == pytest.approx(np.mean([score.cider for score in scores]), abs=1e-9)
    for order in (1, 2, 3, 4):
        assert measured[f"BLEU-{order}"].value == pytest.approx(bleu_twin(answers, references, order), abs=1e-9)


DOG, RAIN = "a dog barks loudly", "rain falls"
TWO = Frequencies.of([[DOG], [RAIN]])  # every n-gram is in one of two items and weighs log 2, which cancels


@pytest.mark.parametrize(
    ("answer", "references", "score"),
    [
        (DOG, [DOG], 10.0),
        ("A DOG barks... loudly!", [DOG], 10.0),
        # words 3 of 4, pairs 2 of 3, threes 1 of 2, no fours; one word too short
        (
            "a dog barks",
            [DOG],
            10 / 4 * math.exp(-1 / 72) * (3 / math.sqrt(12) + 2 / math.sqrt(6) + 1 / math.sqrt(2)),
        ),
        # four times the one word: clipped to once, over norms 4 and 1; three words too long
        ("dog dog dog dog", ["dog"], 10 / 4 * math.exp(-9 / 72) / 4),
        (DOG, [DOG, RAIN], 5.0),
        (RAIN, [RAIN], 5.0),  # two words have no threes and no fours
        ("wind blows hard", [DOG], 0.0),
        ("", [DOG], 0.0),
    ],
)
def test_cider_by_hand(answer, references, score):
    assert compared(answer, references, TWO).cider == pytest.approx(score, abs=1e-12)


def test_a_word_of_all_items_weighs_nothing():
    known = Frequencies.of([["a dog"], ["a bell"]])
    assert known.weight(("a",)) == 0
    assert known.weight(("dog",)) == known.weight(("never", "heard")) == pytest.approx(math.log(2))
    assert compared("a", ["a dog"], known).cider == 0


def test_bleu_and_rouge_by_hand():
    measured = judge_captions(["the " * 7], [["the cat is on the mat", "there is a cat on the mat"]])
    assert measured["BLEU-1"].value == pytest.approx(2 / 7)  # "the" twice at most
    assert measured["BLEU-2"].value == 0
    known = Frequencies.of([["police killed the gunman"]])
    assert compared("police kill the gunman", ["police killed the gunman"], known).rouge_l == pytest.approx(3 / 4)
    assert compared("the gunman kill police", ["police killed the gunman"], known).rouge_l == pytest.approx(2 / 4)
    short = judge_captions(["a dog barks"], [["a dog barks loudly now"]])
    assert short["BLEU-2"].value == pytest.approx(math.exp(1 - 5 / 3))  # all right, but too short


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(WORDS, min_size=4, max_size=9).map(" ".join), min_size=2, max_size=5, unique=True))
def test_a_caption_that_is_its_only_reference_scores_ten(captions):
    marked = [f"{caption} of kind {place} only there" for place, caption in enumerate(captions)]
    measured = judge_captions(marked, [[one] for one in marked])
    assert measured["CIDEr-D"].value == pytest.approx(10)
    assert measured["CIDEr-D"].low == pytest.approx(10)
    assert measured["BLEU-4"].value == pytest.approx(1)
    assert measured["ROUGE-L"].value == pytest.approx(1)


@settings(max_examples=15, deadline=None)
@given(ITEMS, st.randoms(use_true_random=False))
def test_neither_the_order_of_references_nor_of_items_matters(items, dice):
    mixed = [(answer, dice.sample(some, len(some))) for answer, some in dice.sample(items, len(items))]
    first, second = (judge_captions(*zip(*some, strict=True)) for some in (items, mixed))
    assert [first[name].value for name in FIGURES] == pytest.approx([second[name].value for name in FIGURES], abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(ITEMS)
def test_all_figures_stay_in_their_ranges(items):
    for name, found in judge_captions(*zip(*items, strict=True)).items():
        most = 10 if name == "CIDEr-D" else 1
        assert -1e-9 <= found.low <= found.high <= most + 1e-9
        assert found.num_items == len(items)


def test_empty_answers_count_as_nothing():
    alone = judge_captions([DOG], [[DOG]], TWO)
    half = judge_captions([DOG, " ..."], [[DOG], [RAIN]], TWO)
    assert half["CIDEr-D"].value == pytest.approx(alone["CIDEr-D"].value / 2)
    assert half["ROUGE-L"].value == pytest.approx(0.5)
    assert judge_captions(["", ""], [[DOG], [RAIN]])["BLEU-1"].value == 0


def test_one_item_alone_has_no_rare_words_and_a_larger_set_gives_it_some():
    alone = Frequencies.of([[DOG, "a dog"]])
    assert not alone.tells_apart
    assert compared(DOG, [DOG], alone).cider == 0
    assert TWO.tells_apart
    assert not Frequencies.of([[DOG], [DOG]]).tells_apart


def test_a_part_scores_like_the_whole_with_the_references_of_the_whole():
    answers = ["a dog", "rain falls hard", "a bell"]
    references = [[DOG, "the dog barks"], [RAIN], ["a bell rings"]]
    known = Frequencies.of(references)
    whole = judge_captions(answers, references)["CIDEr-D"].value
    parts = [judge_captions([a], [r], known)["CIDEr-D"].value for a, r in zip(answers, references, strict=True)]
    assert sum(parts) / 3 == pytest.approx(whole, abs=1e-12)


def test_intervals_come_from_resampled_answers_with_weights_as_they_are():
    scores = [compared(a, [DOG], TWO) for a in (DOG, "wind")]
    measured = caption_figures(scores)["CIDEr-D"]
    assert (measured.low, measured.value, measured.high) == (0, pytest.approx(5), pytest.approx(10))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A dog's bark, isn't it?", ["a", "dog", "'s", "bark", "is", "n't", "it"]),
        ("High-pitched - don’t!", ["high-pitched", "do", "n't"]),
        ("Vögel; 鳥が鳴く (3)", ["vögel", "鳥が鳴く", "3"]),
        ("<think>Is it rain? No.</think> Wind.", ["wind"]),
        ("birds' nest", ["birds", "nest"]),
        (" ...- ' ", []),
    ],
)
def test_words_of_a_caption(text, words):
    assert caption_words(text) == words


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ([], r"the references are \[\], expected a list of one text or more"),
        ("a dog", "the references are 'a dog', expected a list"),
        ([DOG, 7], "the reference 7 is no text"),
        ([None], "the reference None is no text"),
        (["..."], "has no words"),
        (["a " * MAX_TEXT_CHARS], "has 200,000 characters, at most 100,000"),
    ],
)
def test_references_that_cannot_be_compared(references, message):
    with pytest.raises(ValueError, match=message) as error:
        judge_captions(["a dog"], [references])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_what_else_is_refused():
    with pytest.raises(ValueError, match="100,001 characters, at most 100,000 are judged"):
        compared("a" * (MAX_TEXT_CHARS + 1), [DOG], TWO)
    with pytest.raises(ValueError, match="nothing to measure"):
        judge_captions([], [])
    with pytest.raises(ValueError, match="argument 2 is longer"):
        judge_captions(["a dog"], [[DOG], [RAIN]])


@pytest.mark.parametrize("piece", ["a", "a ", "a-", "n't", "n'", "dog ", "<think>", "\n"])
def test_huge_texts_take_bounded_time(piece):
    text = piece * (MAX_TEXT_CHARS // len(piece))
    began = time.perf_counter()
    compared(text, [DOG] * 5, TWO)
    if caption_words(text):
        assert compared(text, [text], Frequencies.of([[text], [RAIN]])).rouge_l == pytest.approx(1)
    assert time.perf_counter() - began < 20
