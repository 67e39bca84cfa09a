"""Integers of few bits in bytes."""

import numpy as np
import pytest

from yoloq.quant.bit_rows import pack, size_of, unpack


def test_two_values_of_four_bits_share_a_byte_the_first_in_its_lower_half() -> None:
    values = np.array([1, -1, 7, -8, 3], np.int8)
    assert pack(values, 4).tolist() == [0xF1, 0x87, 0x03]


def test_eight_bits_are_the_bytes_themselves() -> None:
    values = np.array([[-128, 127], [0, -1]], np.int8)
    assert pack(values, 8).tobytes() == values.tobytes()


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("count", [0, 1, 7, 8, 1001])
def test_what_was_packed_comes_back(bits: int, count: int) -> None:
    half = 2 ** (bits - 1)
    values = np.random.default_rng(0).integers(-half, half, count).astype(np.int8)
    packed = pack(values, bits)
    assert len(packed) == size_of(bits, count) == -(-bits * count // 8)
    assert unpack(packed, bits, count).tolist() == values.tolist()


def test_numbers_without_a_sign_by_hand() -> None:
    # 5 = 101, 3 = 011, 6 = 110, lowest bit first: 1 0 1 1 1 0 0 1 | 1
    packed = pack(np.array([5, 3, 6]), 3)
    assert packed.tolist() == [0b10011101, 1]
    assert unpack(packed, 3, 3, signed=False).tolist() == [5, 3, 6]
    assert unpack(packed, 3, 3).tolist() == [-3, 3, -2]


def test_too_few_bytes() -> None:
    with pytest.raises(ValueError, match="1 bytes do not hold 3 values of 4 bits"):
        unpack(np.zeros(1, np.uint8), 4, 3)
