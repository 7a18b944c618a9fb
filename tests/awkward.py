"""Objects that no logger expects, for the tests that say nothing raises."""


class Hostile:
    """An object whose every conversion raises."""

    def _refuse(self, *args: object) -> None:
        raise RuntimeError("no")

    __str__ = __repr__ = __float__ = __int__ = __mul__ = __hash__ = __eq__ = __array__ = _refuse  # type: ignore
    __iter__ = __len__ = __bool__ = __getitem__ = __gt__ = __lt__ = _refuse


class FalseClass(Hostile):
    """An object that even ``isinstance()`` cannot be asked about."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError("no")


class HostileText(str):
    """A text that cannot be a key, and whose own methods raise."""

    __str__ = __hash__ = __eq__ = isascii = encode = Hostile._refuse  # type: ignore


class HostileError(Exception):
    """An error that cannot be shown."""

    __str__ = Hostile._refuse  # type: ignore


class RaisesHostile:
    """An object whose conversions raise an error that cannot be shown."""

    def _refuse(self, *args: object) -> None:
        raise HostileError

    __str__ = __repr__ = __float__ = __mul__ = __truediv__ = __hash__ = __int__ = _refuse  # type: ignore
