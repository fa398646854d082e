"""`ov2kit test`: loss and answers on the test data."""

from ov2kit.recipes.commands.train_parser import TrainingParser, run

__all__ = ["parser", "run"]


def parser() -> TrainingParser:
    """Options of `ov2kit test`."""
    return TrainingParser("test", "Loss and answers of a model on the test data.")
