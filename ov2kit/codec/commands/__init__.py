"""The commands of the codec: each module has `parser()` and `run(parsed)`."""
