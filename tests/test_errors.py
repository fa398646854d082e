"""Warnings about old spellings: where they point, what they say, and that the suite itself uses none."""

import pytest

from ov2kit.errors import deprecated


def old_name():
    deprecated("old_name()", "new_name()", "9.9")


def test_a_deprecated_spelling_is_reported_at_the_line_that_uses_it():
    text = r"^old_name\(\) is deprecated .* ov2kit 9\.9; use new_name\(\)$"
    line = old_name.__code__.co_firstlineno
    with pytest.warns(DeprecationWarning, match=text) as caught:
        old_name()
    assert caught[0].filename == __file__
    assert caught[0].lineno > line + 1  # here, not inside the function that is deprecated


def test_an_old_spelling_that_no_test_expects_fails_it():
    with pytest.raises(DeprecationWarning, match="use new_name"):
        old_name()
