"""Data modules for tests that care for a few options and not for the sections in which they stand."""

from typing import Any

from ov2kit.recipes import ConversationData
from ov2kit.recipes.data.sections import SECTIONS, in_sections


def conversation_data(path: str, **options: Any) -> ConversationData:
    """`ConversationData` of a path and options by their names."""
    sections = in_sections({"path": path, **options})
    return ConversationData(**{name: SECTIONS[name](**values) for name, values in sections.items()})
