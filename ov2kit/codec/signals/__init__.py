"""What the stream says of a frame, on a grid: motion, residual, bits."""
