"""All parts put together: models, training, data, metrics, evidence. The only part that knows every other."""
