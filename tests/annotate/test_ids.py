"""What a browser may send where an id belongs."""

import pytest

from annotate.ids import id_in


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("7", 7), ("0", 0), ("007", 7), ("9" * 18, 10**18 - 1)),
        *((None, None), ("", None), ("x", None), ("-1", None), ("1.0", None), (" 7", None)),
        *(("٣", None), ("²", None), ("9" * 19, None), ("9" * 5000, None)),
    ],
    ids=lambda each: str(each)[:20],
)
def test_an_id_is_a_number_that_a_row_can_have(text, number):
    assert id_in(text) == number
