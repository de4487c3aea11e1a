"""Keys that Label Studio would read as another object's."""

import pytest

from boxdrop.aws.s3 import check_shown_key
from boxdrop.domain.errors import ImageError


@pytest.mark.parametrize(
    "key", ["p/a?b.jpg", "p/a\tb.jpg", "p/a\nb.jpg", "p/a\rb.jpg", "p/a\x01.jpg", "p/a\x7f.jpg"]
)
def test_a_key_that_would_show_another_image_is_refused(key: str) -> None:
    with pytest.raises(ImageError, match="another name") as caught:
        check_shown_key(key)
    assert caught.value.reason == "unshowable_key"


@pytest.mark.parametrize("key", ["p/a b.jpg", "p/50%25 off.jpg", "p/früchte 🍌.jpg", "p/a+b;c,d&e='1'.jpg"])
def test_other_awkward_keys_are_taken(key: str) -> None:
    check_shown_key(key)
