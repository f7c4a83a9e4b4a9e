"""What every product type must keep, whoever adds it: tested by its own examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from astra import headers, products
from astra.cards import Value
from astra.errors import AstraError
from astra.headers import Header
from astra.products.base import ProductType
from astra.signature import Signature
from tests.support import fits

TYPES = list(products.product_types().values())
EXAMPLES = [(product, example) for product in TYPES for example in product.examples]


@pytest.mark.parametrize("product", TYPES, ids=lambda product: product.name)
def test_it_is_named_has_examples_and_wants_cards(product: ProductType) -> None:
    assert products.product_types()[product.name] is product
    assert product.examples
    assert all(example.rpartition("/")[2].startswith(product.prefixes) for example in product.examples)
    assert all(key == key.upper() and 0 < len(key) <= 8 for key in product.wanted)


@pytest.mark.parametrize(("product", "example"), EXAMPLES, ids=lambda value: getattr(value, "name", value))
def test_its_examples_are_its_own_wherever_they_lie(product: ProductType, example: str) -> None:
    for path in (example, f"/sas/{example}", example.rpartition("/")[2]):
        found = products.identify(path)
        assert found is not None
        assert found[0] is product
        recognised = found[1]
        assert recognised.filetype == product.name
        assert recognised == product.recognise(path), "the same path says the same each time"
        texts = [*recognised.fields.items(), *recognised.folders.items()]
        assert all(isinstance(key, str) and isinstance(value, str) and value for key, value in texts)


@pytest.mark.parametrize(("product", "example"), EXAMPLES, ids=lambda value: getattr(value, "name", value))
def test_a_header_that_says_nothing_is_refused_with_a_sentence(product: ProductType, example: str) -> None:
    recognised = product.recognise(example)
    assert recognised is not None
    empty = Header(example, Signature(2880, 0, 0, 0), "0" * 64, {}, 1)
    with pytest.raises(AstraError, match=r"cannot take in .*; set aside") as caught:
        product.describe(recognised, empty, None)
    assert example.rpartition("/")[2] in str(caught.value)


@pytest.mark.parametrize(("product", "example"), EXAMPLES, ids=lambda value: getattr(value, "name", value))
def test_what_it_tells_is_what_it_says_that_it_tells(product: ProductType, example: str, tmp_path: Path) -> None:
    content = fits.apstar(hdus=12) if product.name == "apStar" else fits.apvisit()
    path = fits.write(tmp_path / example.rpartition("/")[2], content)
    recognised = product.recognise(f"/{example}")
    assert recognised is not None
    cards: dict[str, Value] = dict.fromkeys(product.wanted, 1)
    cards.update(headers.read(path, product.wanted).cards)
    fields = recognised.fields
    cards |= {"OBJID": fields.get("obj") or fields.get("reduction") or "2M00452143+1634446", "V_APRED": "v3_04"}
    cards |= {"PLATE": fields.get("plate", 1), "MJD5": fields.get("mjd", "1"), "FIBERID": fields.get("fiber", 1)}
    said = product.describe(recognised, Header(str(path), Signature(2880, 0, 0, 0), "0" * 64, cards, 12), None)
    told = {*said.kwargs, *said.metadata, "release"} - {"nulled"}
    assert told <= product.facts


@pytest.mark.parametrize("product", TYPES, ids=lambda product: product.name)
def test_it_takes_no_other_kind_of_file(product: ProductType) -> None:
    for path in ("", "/", "a", "readme.txt", "spec-1-2-3.fits", f"{product.name}.fits", f"x{product.name}-.fits"):
        assert product.recognise(path) is None
