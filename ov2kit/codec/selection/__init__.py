"""Which frames, which blocks, and where they go."""
