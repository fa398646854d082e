"""How a video was tokenized, as one web page."""
