"""Time into groups."""
