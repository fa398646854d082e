"""A small model that points and tracks, trained and scored through the whole path: tokens, text, masks."""
