"""Filters over the attributes of files, as the API of vector stores has them."""

import operator
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from memspan.serve.replies import ApiError
from memspan.serve.requests import Strict

DEEPEST = 8  # compound filters within each other
_ORDER = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}

Value = str | int | float | bool


class Comparison(Strict):
    """A condition on one attribute; a file that does not have it meets only `ne` and `nin`."""

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
    key: str
    value: Value | list[str | int | float]


class Compound(Strict):
    """Several conditions, all or any of which must be met."""

    type: Literal["and", "or"]
    filters: "list[Comparison | Compound]" = Field(max_length=100)


AttributeFilter = Comparison | Compound


def passes(filter: AttributeFilter, attributes: Mapping[str, Any], depth: int = 0) -> bool:
    """Whether attributes meet a filter. Raises ApiError for one that is nested too deep."""
    if depth > DEEPEST:
        raise ApiError(400, f"filters must be nested at most {DEEPEST} deep.", param="filters")
    if isinstance(filter, Compound):
        met = [passes(each, attributes, depth + 1) for each in filter.filters]
        return all(met) if filter.type == "and" else any(met)
    actual: Any = attributes.get(filter.key)
    wanted = filter.value
    if filter.type in ("in", "nin"):
        if not isinstance(wanted, list):
            raise ApiError(400, f"filters: the value of {filter.type} must be a list.", param="filters")
        return any(_equal(actual, each) for each in wanted) == (filter.type == "in")
    if isinstance(wanted, list):
        raise ApiError(400, f"filters: the value of {filter.type} must not be a list.", param="filters")
    if filter.type in ("eq", "ne"):
        return _equal(actual, wanted) == (filter.type == "eq")
    if isinstance(actual, str) and isinstance(wanted, str):
        return bool(_ORDER[filter.type](actual, wanted))
    if _is_number(actual) and _is_number(wanted):
        return bool(_ORDER[filter.type](float(actual), float(wanted)))
    return False


def _equal(actual: object, wanted: object) -> bool:
    """Whether two values are the same; true is not 1."""
    return isinstance(actual, bool) == isinstance(wanted, bool) and actual == wanted


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
