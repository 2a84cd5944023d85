"""Errors of the operators' interface. `str()` of each is safe to send to the operator."""

from sync_service.request_errors import RequestError


class UnknownEvent(RequestError):
    """The inbox does not have the event."""

    status = 404
    code = "unknown_event"
    title = "The event is not known"


class UnknownChange(RequestError):
    """No delivery to the app has this ID."""

    status = 404
    code = "unknown_change"
    title = "The change is not known"


class BadCsrfToken(RequestError):
    """A request with the cookie of the operators' page lacks the token that only this page knows."""

    status = 403
    code = "bad_csrf_token"
    title = "The CSRF token is missing or wrong"


class TooManyLogins(RequestError):
    """Too many wrong tokens came from this address."""

    status = 429
    code = "too_many_requests"
    title = "Too many failed logins"

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("Too many wrong tokens came from your address. Try again later.")
        self.headers = {"Retry-After": str(retry_after_seconds)}


class NotRestorable(RequestError):
    """The user has no deletion that can be cancelled."""

    status = 409
    code = "not_restorable"
    title = "There is no deletion to cancel"


class ReconcileRunning(RequestError):
    """Another run of the reconcile has the lock."""

    status = 409
    code = "reconcile_running"
    title = "Another reconcile is running"


class NoSecretKey(RequestError):
    """The operator asks for data from Clerk, and no setting gives a key for its API."""

    status = 503
    code = "clerk_unavailable"
    title = "Clerk cannot be asked"
