"""Record: a frozen value that is stored as plain data, and how each of its entries is read back.

A reader takes what JSON gave and returns the value, or raises TypeError or ValueError where it is of
another form.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Self

Reader = Callable[[Any], Any]


def entry(read: Reader) -> Any:
    """A field of a `Record`: None unless given, read from plain data with `read`."""
    return field(default=None, metadata={"read": read})


@dataclass(frozen=True)
class Record:
    """Named entries. Each may be None: not known.

    Args:
        other: what plain data held beside them: entries of other names or of another form.
    """

    other: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """What `to_dict` gave, or another tool.

        Raises:
            TypeError: not a mapping.
        """
        readers = {each.name: each.metadata["read"] for each in fields(cls) if each.name != "other"}
        found, other = {}, {}
        for name, value in mapping()(plain).items():
            try:
                found[name] = readers[name](value)
            except (KeyError, TypeError, ValueError, OverflowError):
                other[name] = value
        return cls(**found, other=other)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON can hold it: what is known, and what else came with it."""
        known = {each.name: _plain(getattr(self, each.name)) for each in fields(self) if each.name != "other"}
        return {name: value for name, value in known.items() if value is not None} | dict(self.other)


def text(value: Any) -> str:
    """A string."""
    return str(_checked(value, str))


def flag(value: Any) -> bool:
    """True or False."""
    return bool(_checked(value, bool))


def whole_number(value: Any) -> int:
    """A whole number; True and False are none."""
    return int(_checked(value, int, not isinstance(value, bool)))


def number(value: Any) -> float:
    """A finite number; True and False are none."""
    return float(_checked(value, (int, float), not isinstance(value, bool) and -math.inf < value < math.inf))


def tuple_of(read: Reader) -> Callable[[Any], tuple[Any, ...]]:
    """A sequence, each entry with `read`."""
    return lambda value: tuple(read(each) for each in _checked(value, (list, tuple)))


def pair(read: Reader) -> Callable[[Any], tuple[Any, ...]]:
    """A sequence of two, each entry with `read`."""
    return lambda value: tuple_of(read)(_checked(value, (list, tuple), len(value) == 2))


def mapping(read: Reader = lambda value: value) -> Callable[[Any], dict[str, Any]]:
    """A mapping, each of its values with `read`."""
    return lambda value: {name: read(each) for name, each in _checked(value, Mapping).items()}


def _checked(value: Any, kinds: Any, more: bool = True) -> Any:
    if not isinstance(value, kinds) or not more:
        raise TypeError(f"unexpected form: {value!r:.40}")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return dict(value) if isinstance(value, Mapping) else value
