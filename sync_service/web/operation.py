"""The description of one route: its types, its errors, its parameters.

The route and the OpenAPI document are both made from it. https://spec.openapis.org/oas/v3.1.1.html#operation-object
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, get_args

from sync_service.errors import ClerkUnavailable, DatabaseError
from sync_service.request_errors import BodyTooLarge, RequestError, SlowBody

# The error of a route is a 4xx of the caller or one of the two 503. Each route names only those that it can return.
RouteError = type[RequestError] | type[ClerkUnavailable] | type[DatabaseError]

# Each route that reads a body can return these.
BODY_ERRORS: tuple[RouteError, ...] = (BodyTooLarge, SlowBody)

Method = Literal["GET", "POST"]

# The names of security schemes; openapi.py describes them.
Scheme = Literal["serviceToken", "sessionToken", "opsToken"]


@dataclass(frozen=True)
class Parameter:
    """A parameter in the path, in the query or in a header."""

    name: str
    description: str
    type: Any = str
    place: Literal["query", "path", "header"] = "query"
    required: bool = False


@dataclass(frozen=True)
class ResponseBody:
    """A response that is not an error: its meaning and the type of its JSON body, or its media type without JSON."""

    description: str
    type: Any = None
    media_type: str = "application/json"

    @property
    def variants(self) -> tuple[Any, ...]:
        """The types of the body: those of a union, one, or none."""
        if isinstance(self.type, UnionType):
            return get_args(self.type)
        return () if self.type is None else (self.type,)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path, in which `{id:path}` may contain a slash.

    Each scheme in `security` is enough on its own. Without any, the route is public.
    """

    method: Method
    path: str
    summary: str
    responses: Mapping[int, ResponseBody]
    errors: tuple[RouteError, ...] = ()
    security: tuple[Scheme, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    body_required: bool = True
