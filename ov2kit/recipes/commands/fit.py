"""`ov2kit fit`: train a model, or continue a run."""

from ov2kit.recipes.commands.train_parser import TrainingParser, run

__all__ = ["parser", "run"]
_OPTIONS = {
    "--checkpoint.every_n_train_steps": "steps between two checkpoints (500); last.ckpt is replaced",
    "--checkpoint.save_top_k": "0 keeps last.ckpt alone, -1 keeps all",
    "--checkpoint.monitor": "metric to keep the best by, such as val/loss; needs save_top_k",
    "--allow_changed_settings": "go on from a checkpoint with other settings than its own (false)",
}


def parser() -> TrainingParser:
    """Options of `ov2kit fit`."""
    return TrainingParser("fit", "Train a model, or continue a run that was interrupted.", _OPTIONS)
