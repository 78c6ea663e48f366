"""`flamingo eval`: a model's answers to a data set, judged."""

from __future__ import annotations

import argparse
from pathlib import Path

from audioflamingo.cli.answering import Answerer
from audioflamingo.cli.arguments import add_beams, add_model, add_thinking, whole_number
from audioflamingo.cli.output import report_notes, show_progress, write_text

SUMMARY = (
    "Answer the questions of a data set and judge the answers: word errors, choices, yes or no, numbers, captions."
)
EXAMPLES = """\
flamingo eval --data test.json --out results
flamingo eval --data "mmau.json+librispeech.jsonl" --model af3 --out results
flamingo eval --data test.json --adapter my-adapter --think --metric choice --out with-thoughts
flamingo eval --data clotho.jsonl --metric caption --num-beams 4 --out captions
flamingo eval --data librispeech.jsonl --model af3 --normalize english --out words
"""
NORMALIZATIONS = ("plain", "english")
METRICS = ("auto", "words", "choice", "yes_no", "number", "caption", "open")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words and options of the verb."""
    parser.usage = "flamingo eval --data DATA --out DIR [OPTION...]"
    parser.add_argument("--data", required=True, metavar="DATA", help="as for flamingo train: files, shards, mixtures")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where everything is kept and gone on")
    parser.add_argument("--metric", choices=METRICS, default="auto", help="of all answers; auto looks at each question")
    parser.add_argument(
        "--normalize", choices=NORMALIZATIONS, default="plain",
        help="before words of transcripts are compared: lower case without punctuation, or all that Whisper's does",
    )  # fmt: skip
    parser.add_argument(
        "--choices-by", choices=("answer", "likelihood"), default="answer",
        help="answer a multiple-choice question by what the model says, or by the option that it finds likeliest",
    )  # fmt: skip
    parser.add_argument(
        "--references", metavar="DATA",
        help="how rare a caption's words are is told by the true captions of this data, say of the whole set",
    )  # fmt: skip
    parser.add_argument("--max-rows", type=whole_number(1), metavar="N", help="the first so many of each file")
    add_model(parser)
    parser.add_argument("--max-new-tokens", type=whole_number(1), metavar="N", help="most tokens of an answer")
    add_beams(parser)
    add_thinking(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate; returns the exit code."""
    from audioflamingo.eval.normalize import PLAIN, normalizer
    from audioflamingo.eval.report import REPORT, write_report
    from audioflamingo.eval.run import PREDICTIONS, evaluate
    from audioflamingo.train.data.mixtures import parse_mixture

    components = parse_mixture(arguments.data)
    references = parse_mixture(arguments.references) if arguments.references else ()
    how = normalizer(arguments.normalize)  # what is missing is told before the model is loaded
    answerer = Answerer(arguments, as_json=False)
    options, model = answerer.options, answerer.model
    metric = None if arguments.metric == "auto" else arguments.metric
    found = evaluate(
        model, components, arguments.out, metric=metric, references=references, max_rows=arguments.max_rows,
        normalize=arguments.normalize, by_likelihood=arguments.choices_by == "likelihood",
        told=lambda done, of: show_progress(f"{done:,} of {of:,} answers"), **options,
    )  # fmt: skip
    show_progress("")
    if found.num_kept:
        report_notes([f"{found.num_kept:,} answers were there before"])
    if found.bad:
        report_notes([f"{len(found.bad)} rows were left out; {arguments.out / 'bad_rows.jsonl'} lists them"])
    report_notes(found.notes)
    about = {
        "model": model.name,
        "data": arguments.data,
        "metric": arguments.metric,
        **({"references": arguments.references} if arguments.references else {}),
        **({"normalize": how.description} if how is not PLAIN else {}),
        "choices by": arguments.choices_by,
        "options": str(options),
    }
    write_text(write_report(found, arguments.out, about) + "\n")
    write_text(f"\nevery answer: {arguments.out / PREDICTIONS}; mistakes: {arguments.out / REPORT}\n")
    return 0
