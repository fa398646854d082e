"""Commands of the recipes: a module each, with `parser()` and `run(parsed) -> exit status`."""
