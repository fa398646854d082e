"""One variant, trained and scored: its canvases, its small model, its run."""
