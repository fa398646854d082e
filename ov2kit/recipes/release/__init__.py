"""Directories in the released format: reading them and writing them."""

from ov2kit.recipes.release.checkpoint_entry import from_lightning_entry, lightning_entry  # noqa: F401 # the public way to them
