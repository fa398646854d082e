"""Questions about the set of events, what of their answers canvases show, and the tables."""
