"""What collections say about licences, and what is made of it."""

import pytest

from boxdrop.domain.errors import BoxdropError
from boxdrop.retrieve.licenses import OPEN, OWN, License, LicenseFilter, read_license


@pytest.mark.parametrize(
    ("said", "code", "version"),
    [
        ("by-sa", "by-sa", ""),
        ("BY-NC-ND", "by-nc-nd", ""),
        ("CC BY-SA 3.0 de", "by-sa", "3.0"),
        ("CC BY 2.5", "by", "2.5"),
        ("cc-by-sa-4.0,3.0,2.5,2.0,1.0", "by-sa", "4.0"),
        ("CC BY-SA-NC 1.0", "by-nc-sa", "1.0"),
        ("CC BY-SA 3.0 igo", "by-sa", "3.0"),
        ("CC0", "cc0", ""),
        ("Public domain", "pdm", ""),
        ("PD-old-100", "pdm", ""),
        ("No restrictions", "pdm", ""),
        ("GFDL 1.2", "gfdl", ""),
        ("https://creativecommons.org/licenses/by-nc/2.0/uk/", "by-nc", "2.0"),
        ("http://creativecommons.org/publicdomain/mark/1.0/", "pdm", "1.0"),
    ],
)
def test_a_licence_is_understood_however_it_is_written(said: str, code: str, version: str) -> None:
    license = read_license(said)

    assert (license.code, license.version) == (code, version)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "see the page",
        "All rights reserved",
        "CC BY (ask before printing)",
        "CC BY-SA 4.0 or later, except for the logo",
        "CC BY-XX 4.0",
        "by-",
        "https://creativecommons.org/licenses/",
        "https://example.org/my-own-terms",
    ],
)
def test_what_is_not_understood_is_unknown_and_keeps_its_words(said: str) -> None:
    license = read_license(said)

    assert license.code == "unknown"
    assert license.name == (said or "not stated")


def test_a_name_and_an_address_that_contradict_each_other_make_no_licence() -> None:
    license = read_license("by", "2.0", "https://creativecommons.org/licenses/by-nc/2.0/")

    assert license.code == "unknown"
    assert "by-nc" in license.name


def test_the_address_completes_what_the_name_leaves_out() -> None:
    assert read_license("by-sa", url="https://creativecommons.org/licenses/by-sa/3.0/de/") == License(
        "by-sa", "3.0", "https://creativecommons.org/licenses/by-sa/3.0/de/", "CC BY-SA 3.0"
    )


def test_a_version_makes_the_address_of_the_terms() -> None:
    assert read_license("by", "4.0").url == "https://creativecommons.org/licenses/by/4.0/"


@pytest.mark.parametrize("code", ["by-nc", "by-nd", "by-nc-nd", "unknown", "gfdl"])
def test_what_binds_the_user_more_is_left_out_unless_asked_for(code: str) -> None:
    assert not LicenseFilter.read([]).takes(License(code))
    assert LicenseFilter.read([f"open,{code}"]).takes(License(code))


def test_words_and_codes_add_up() -> None:
    chosen = LicenseFilter.read(["open, non-commercial", "gfdl"])

    assert chosen.codes == OPEN | {"by-nc", "by-nc-sa", "by-nc-nd", "nc-sampling+", "gfdl"}


def test_an_own_archive_needs_no_licence() -> None:
    assert LicenseFilter.read(["cc0"]).takes(License(OWN))


def test_an_unknown_licence_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BoxdropError, match=r"--license commercial: .* give open, non-commercial"):
        LicenseFilter.read(["commercial"])
