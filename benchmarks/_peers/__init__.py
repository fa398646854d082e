"""Helpers of `peers.py`: environments, workers, looping of clips, agreement, tables."""
