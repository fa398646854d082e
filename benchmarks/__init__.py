"""Measurements: `bench_*.py` run by pytest, the others by `python -m benchmarks.NAME` from the root of the checkout."""
