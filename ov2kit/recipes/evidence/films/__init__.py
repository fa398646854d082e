"""Ablations on made-up clips."""
