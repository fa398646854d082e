"""Made-up clips whose events are known: scenes, actors, encoding."""
