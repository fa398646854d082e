"""`ov2kit compare`: two prediction files -> a paired test."""

import json

from jsonargparse import ArgumentParser, Namespace

from ov2kit.files import refuse_overwriting_inputs, write_text
from ov2kit.recipes.paired import compare_predictions, predictions_file


def parser() -> ArgumentParser:
    """Its options."""
    command = ArgumentParser(description="Test two prediction files on the same items.", exit_on_error=False)
    command.add_argument("a", metavar="A", help="predictions.jsonl, or its folder")
    command.add_argument("b", metavar="B", help="another; the difference is B - A")
    command.add_argument(
        "--metric", default="jumpscore", help="jumpscore, temporal_iou, exact, or a number of the lines"
    )
    command.add_argument("--threshold", type=float | None, help="scores from here on are right; adds McNemar's test")
    command.add_argument("--errors", default="zero", choices=("zero", "skip"), help="how a failed item counts")
    command.add_argument("--resamples", type=int, default=10_000, help="bootstrap draws")
    command.add_argument("--seed", type=int, default=0, help="of the draws")
    command.add_argument("--out", type=str | None, metavar="FILE", help="write the JSON here too")
    return command


def run(parsed: Namespace) -> int:
    """`ov2kit compare`."""
    if parsed.out is not None:
        refuse_overwriting_inputs(parsed.out, [predictions_file(parsed.a), predictions_file(parsed.b)])
    names = ("metric", "threshold", "errors", "resamples", "seed")
    found = compare_predictions(parsed.a, parsed.b, **{name: parsed[name] for name in names})
    text = json.dumps(found, indent=2)
    if parsed.out is not None:
        write_text(parsed.out, text + "\n")
    print(text)
    return 0
