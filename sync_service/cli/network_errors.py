"""Sentences for errors of connections. They contain no part of a URL."""

from sync_service.postgres.errors import translate_error

_SENTENCES = {
    "gaierror": "its host name is unknown",
    "connection_refused": "no server listens there",
    "timeout": "no response in time",
    "file_not_found": "there is no such socket",
    "permission": "this user may not use the socket",
    "invalid_catalog_name": "the server has no database of this name",
    "invalid_password": "the server does not accept the user with this password",
    "invalid_authorization_specification": "the server does not accept the user",
    "too_many_connections": "the server has no free connection",
    "cannot_connect_now": "the server is starting or stopping",
    "target_server_attribute_not_matched": "none of its servers accepts writes; a standby must be promoted first",
}


def explain_reason(reason: str) -> str:
    """Return a sentence for a `DatabaseError.reason`, with the reason, or the reason alone."""
    return f"{_SENTENCES[reason]} ({reason})" if reason in _SENTENCES else reason


def explain_network_error(error: BaseException) -> str:
    """Return a sentence for an error of an HTTP client, which hides the first error behind its own ones."""
    root = error
    while not isinstance(root, OSError) and (cause := root.__cause__ or root.__context__):
        root = cause
    translated = translate_error(root)
    return explain_reason(translated.reason) if translated else type(error).__name__
