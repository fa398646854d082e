"""Sizes and configs of the released models, and the parts that they describe."""
