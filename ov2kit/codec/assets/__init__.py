"""Canvases as directories in the public layout."""
