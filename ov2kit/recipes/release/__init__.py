"""Directories in the released format: reading them and writing them."""

from ov2kit.recipes.release.directory import from_lightning_entry, from_pretrained, lightning_entry, save_pretrained

__all__ = ["from_lightning_entry", "from_pretrained", "lightning_entry", "save_pretrained"]
