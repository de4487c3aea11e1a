"""When two spellings are one word."""

import unicodedata


def same_word(text: str) -> str:
    """A key that is equal for spellings of the same word: it ignores case, width and invisible characters."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = (
        each for each in folded if unicodedata.category(each) != "Cf" and not "\ufe00" <= each <= "\ufe0f"
    )
    return " ".join(unicodedata.normalize("NFKC", "".join(kept)).split())
