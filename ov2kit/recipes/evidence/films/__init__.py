"""Procedural clips of which everything is known."""
