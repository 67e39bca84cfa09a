"""How much a file may ask for: objects and bytes are held to what its own size explains."""

from yoloq.models.unpickle.stub import TooMuchError

TIMES = 2  # a file's own size; a checkpoint from a Mac has its weights in the pickle and in arrays
ROOM = 64 << 20  # bytes that any file may take besides, for texts and small arrays
MOST_ITEMS = 1_000_000  # objects and steps; a YOLO11n with its options has 58,539
MOST_NAMES = 10_000  # classes and functions; a YOLO11n has 29


class Allowance:
    """What a file of `size` bytes has left to ask for.

    `bytes` are those of texts, of bytes and of storages, and what calls make of them; `tensors`
    those that its tensors claim, which may be views of one storage; `items` its objects, and the
    elements of a container that a call copies.
    """

    def __init__(self, size: int) -> None:
        self.bytes = TIMES * size + ROOM
        self.tensors = TIMES * size + ROOM
        self.items = MOST_ITEMS

    def take_bytes(self, count: int) -> None:
        """Spend bytes.

        Raises:
            TooMuchError: there are not so many left.
        """
        self.bytes -= count
        if self.bytes < 0:
            raise TooMuchError("bytes of text, arrays or weights")

    def take_tensor(self, count: int) -> None:
        """Spend bytes that a tensor claims.

        Raises:
            TooMuchError: there are not so many left.
        """
        self.tensors -= count
        if self.tensors < 0:
            raise TooMuchError("bytes of tensors")

    def take_items(self, count: int) -> None:
        """Spend objects.

        Raises:
            TooMuchError: there are not so many left.
        """
        self.items -= count
        if self.items < 0:
            raise TooMuchError("objects")
