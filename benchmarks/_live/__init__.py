"""Parts of `benchmarks.live`."""
