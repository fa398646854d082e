"""The question of a conversation, by which a `Router` chooses what a video is shown as."""

import re
from collections.abc import Sequence

from ov2kit.errors import DataError
from ov2kit.recipes.prompt.chat import Message, Supervise
from ov2kit.recipes.prompt.text_tokenizer import IM_END, IM_START

_WORD = re.compile(r"\w")
_USER_TURN = re.compile(f"{re.escape(IM_START)}user\n(.*?)(?:{re.escape(IM_END)}|$)", re.DOTALL)
_NONE = (
    "source 'route' chooses by the question, and there is no text of a user: ask something, give it as the option "
    "question, or choose another source"
)


def asked_question(messages: Sequence[Message], *, supervise: Supervise = "last", generate: bool = False) -> str:
    """The text of the user's turn before the answer: the one to write, or the one that is learned.

    Args:
        messages: of a conversation.
        supervise: which of its answers are learned.
        generate: none is, one is to be written at the end.

    Raises:
        DataError: no user's turn before it has a word, or several answers are learned, each to a question of its own.
    """
    answers = [place for place, message in enumerate(messages) if message.role == "assistant"]
    if supervise != "all" or generate:
        answers = answers[-1:]
    if len(answers) > 1:
        raise DataError(
            f"source 'route' chooses by one question, and {len(answers)} answers of this conversation are supervised; "
            "supervise the last alone, or choose another source"
        )
    end = len(messages) if generate or not answers else answers[0]
    texts = ["\n".join(part for part in m.parts if isinstance(part, str)) for m in messages[:end] if m.role == "user"]
    return _last_with_words(texts)


def asked_in_prompt(text: str) -> str:
    """The same of a prompt that is text already: its last user's turn in ChatML, or all of it if it has none.

    Raises:
        DataError: there is no word in it.
    """
    return _last_with_words(_USER_TURN.findall(text) if IM_START in text else [text])


def _last_with_words(texts: Sequence[str]) -> str:
    found = [text.strip() for text in texts if _WORD.search(text)]
    if not found:
        raise DataError(_NONE)
    return found[-1]
