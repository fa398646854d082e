"""`ov2kit predict`: answers as JSON lines."""

from ov2kit.recipes.commands.train_parser import TrainingParser, run

__all__ = ["parser", "run"]
_OPTIONS = {"--predictions FILE": "where the answers go; predictions.jsonl in the run by default"}


def parser() -> TrainingParser:
    """Options of `ov2kit predict`."""
    return TrainingParser("predict", "Write the answers of a model as JSON lines.", _OPTIONS)
