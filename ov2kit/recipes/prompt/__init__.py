"""A conversation -> a Sample: text with a place for each visual token."""
