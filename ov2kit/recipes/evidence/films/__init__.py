"""Procedural clips whose events are known: scenes, actors, masks, encoding."""
