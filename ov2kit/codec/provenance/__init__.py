"""How canvases were made, as a value with names and types."""
