"""`ov2kit validate`: loss and answers on the validation data."""

from ov2kit.recipes.commands.train_parser import TrainingParser, run

__all__ = ["parser", "run"]


def parser() -> TrainingParser:
    """Options of `ov2kit validate`."""
    return TrainingParser("validate", "Loss and answers of a model on the validation data.")
