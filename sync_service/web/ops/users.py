"""One user for operators: the state, the refresh from Clerk, the cancelled deletion."""

from msgspec import Struct
from starlette.requests import Request

from sync_service.clerk.resource import ClerkId
from sync_service.errors import ChangeRejected, ClerkUnavailable
from sync_service.operator_errors import NoSecretKey, NotRestorable
from sync_service.request_errors import DeletedUser, RowRefused, TooManyRequests, UnknownUser
from sync_service.store.user_history import UserHistory, get_user_history
from sync_service.sync.user_actions import refresh_user, restore_deleted_user
from sync_service.web.operation import Parameter, ResponseBody
from sync_service.web.ops.auth import Operator
from sync_service.web.ops.context import ApiRoute, OpsContext, Reply, create_operation, is_clerk_id
from sync_service.web.ops.parameters import read_parameters
from sync_service.web.rows import Row, encode_row


class RefreshResult(Struct):
    """`current`, `created` or `updated`, and the row."""

    outcome: str
    user: Row


class RestoreResult(Struct):
    """The user whose deletion is cancelled."""

    clerk_id: str
    restored: bool


async def show(ops: OpsContext, request: Request, operator: Operator) -> Reply:
    """Return the state and the history of a user."""
    clerk_id = _parse_id(request)
    async with ops.store.database.acquire() as connection:
        user = await get_user_history(connection, ops.store.binding.lookups, clerk_id)
    if not user.is_known:
        raise UnknownUser(_NO_USER)
    return Reply(user)


async def refresh(ops: OpsContext, request: Request, operator: Operator) -> Reply:
    """Ask Clerk about a user, and write the row."""
    clerk_id = _parse_id(request)
    if not ops.refresher.can_refresh:
        raise NoSecretKey("The service has no key for Clerk's API. Set CLERK_SECRET_KEY.")
    login = await refresh_user(ops.store.database, ops.refresher, clerk_id, operator.who)
    return Reply(RefreshResult(login.outcome, encode_row(login.row)))


async def restore(ops: OpsContext, request: Request, operator: Operator) -> Reply:
    """Cancel the deletion of a user whose row still exists."""
    clerk_id = _parse_id(request)
    try:
        async with ops.store.acquire() as bound:
            is_restored = await restore_deleted_user(bound, clerk_id, operator.who)
    except ChangeRejected as error:
        raise RowRefused(error.reason) from error
    if not is_restored:
        raise NotRestorable("The user is not deleted, or the row is gone.")
    return Reply(RestoreResult(clerk_id, restored=True))


def _parse_id(request: Request) -> str:
    read_parameters(request.query_params, ())
    clerk_id: str = request.path_params["clerk_id"]
    if not is_clerk_id(clerk_id):
        raise UnknownUser(_NO_USER)
    return clerk_id


_NO_USER = "The service knows no user with this ID."

_ID = Parameter("clerk_id", "The ID of the user in Clerk", ClerkId, place="path")

ROUTES = (
    ApiRoute(
        create_operation(
            "GET",
            "/ops/users/{clerk_id}",
            {200: ResponseBody("The row, its version, a deletion, and the user's events", UserHistory)},
            (UnknownUser,),
            summary="Returns the state of one user.",
            parameters=(_ID,),
        ),
        show,
    ),
    ApiRoute(
        create_operation(
            "POST",
            "/ops/users/{clerk_id}/refresh",
            {200: ResponseBody("The row after the refresh", RefreshResult)},
            (UnknownUser, DeletedUser, RowRefused, TooManyRequests, ClerkUnavailable),
            summary="Asks Clerk about one user, and writes the row.",
            parameters=(_ID,),
        ),
        refresh,
    ),
    ApiRoute(
        create_operation(
            "POST",
            "/ops/users/{clerk_id}/restore",
            {200: ResponseBody("The deletion is cancelled", RestoreResult)},
            (UnknownUser, NotRestorable, RowRefused),
            summary="Cancels the deferred deletion of one user.",
            parameters=(_ID,),
        ),
        restore,
    ),
)
