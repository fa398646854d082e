"""Controlled comparisons at a size that two CPU cores finish: a procedural set, one small model, sweeps and tables."""
