"""Many videos -> shards of canvases and a manifest: in processes that may die, resumable, byte for byte the same."""
