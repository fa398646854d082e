"""Conversations about videos and pictures -> batches, in an order that a run can continue; docs/data.md."""
