"""All of it in order: videos, frames and pictures into canvases."""
