"""Bits: the fields of a header, one after the other."""


class Bits:
    """Reads bits, most significant first.

    Args:
        data: as coded; bytes that keep start codes out of NAL units are taken out before.
    """

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, count: int) -> int:
        """An unsigned number of `count` bits.

        Raises:
            ValueError: so many are not left.
        """
        if count > self._left:
            raise ValueError("the header is cut")
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)

    def ue(self) -> int:
        """An unsigned number in Exp-Golomb code (ITU-T H.264 9.1; uvlc() of AV1)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)

    def se(self) -> int:
        """A signed number in Exp-Golomb code (ITU-T H.264 9.1.1)."""
        value = self.ue()
        return (value + 1) // 2 if value & 1 else -(value // 2)
