"""The process `sync-service`, also `python -m sync_service`. Ctrl-C ends it quietly while it imports its modules."""

import os
import signal

INTERRUPTED = 130


def main() -> None:
    """Run the command of the process's arguments."""
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a background job ignores SIGINT
    if is_default:
        # No cleanup is due during the imports. They take half a second, and an exception would print a traceback.
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from sync_service.process import limit_garbage_collection  # noqa: PLC0415  as said above

    limit_garbage_collection()
    from sync_service import cli  # noqa: PLC0415  as said above

    if is_default:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
