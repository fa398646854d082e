"""Which source, and how much of it, for a question about a stream."""
