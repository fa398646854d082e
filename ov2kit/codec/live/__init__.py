"""Canvases from a stream that has not ended."""
