"""Which product type is this path? One file of this folder per type, found by the folder."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from types import ModuleType

from astra.errors import BadHeader, ConfigurationError
from astra.headers import named
from astra.products.base import ProductType, Recognised

__all__ = ["ProductType", "Recognised", "collect", "identify", "might_be_product", "product_types"]

# Beside the spectra the pipeline keeps pictures and pages of them in folders of these names.
_SKIPPED_FOLDERS = frozenset({"plots", "html", "logs"})
_UNFINISHED = (".tmp.fits", ".part.fits", ".partial.fits")


@cache
def product_types() -> dict[str, ProductType]:
    """Return every product type of this folder, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return collect(importlib.import_module(f"{__name__}.{name}") for name in names)


def collect(modules: Iterable[ModuleType]) -> dict[str, ProductType]:
    """Return the product types of those of `modules` that hold a `PRODUCT`, by name.

    Raises
    ------
    ConfigurationError
        Two files claim one name, or the example of one is also taken by another.
    """
    types: dict[str, ProductType] = {}
    files: dict[str, str] = {}
    for module in modules:
        product: ProductType | None = getattr(module, "PRODUCT", None)
        if product is None:
            continue
        file = module.__file__ or module.__name__
        if product.name in types:
            text = f"two files claim the product type {product.name}: {files[product.name]} and {file}"
            raise ConfigurationError(f"{text}; rename one of them")
        types[product.name], files[product.name] = product, file
    for name, product in types.items():
        for example in product.examples:
            takers = [other for other, kind in types.items() if kind.recognise(example) is not None]
            if takers != [name]:
                claims = " and ".join(files[taker] for taker in {name: None, **dict.fromkeys(takers)})
                text = f"{example}, an example of {name}, is taken by {', '.join(takers) or 'no product type'}"
                raise ConfigurationError(f"{text}: see {claims}")
    return types


@cache
def _prefixes() -> tuple[str, ...]:
    return tuple(prefix for product in product_types().values() for prefix in product.prefixes)


def might_be_product(name: str) -> bool:
    """Return whether a file of this base name is worth a look: the door at which most of a tree is turned away."""
    return name.endswith(".fits") and name.startswith(_prefixes()) and not name.endswith(_UNFINISHED)


def identify(path: str) -> tuple[ProductType, Recognised] | None:
    """Return the product type of `path` and what the path says, or None where no product type knows it.

    Raises
    ------
    BadHeader
        Two product types claim the path.
    """
    folder, _, base = path.rpartition("/")
    if not might_be_product(base) or folder.rpartition("/")[2] in _SKIPPED_FOLDERS:
        return None
    found: tuple[ProductType, Recognised] | None = None
    for product in product_types().values():
        recognised = product.recognise(path)
        if recognised is None:
            continue
        if found is not None:
            text = f"cannot take in {named(path)}: its name is that of {found[0].name} and of {product.name}"
            raise BadHeader(f"{text}; set aside until one of the two product types is changed")
        found = product, recognised
    return found
