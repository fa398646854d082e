"""A model and a folder of questions -> predictions and scores."""
