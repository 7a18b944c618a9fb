"""What is to be done after an error of a tracker: leave a value out, try again, or wait for a person."""

from typing import Any

SKIP, RETRY, PARK = "skip", "retry", "park"
_NETWORK = frozenset({"requests", "urllib3", "httpx", "aiohttp"})  # packages whose errors are the network's


def verdict(error: BaseException) -> str:
    """Judge an error that came while values were sent.

    :return: ``"skip"`` where the values are to blame (400, 422, ``ValueError``, ``TypeError``),
        ``"retry"`` where it may be over soon (no connection, 429, 5xx), else ``"park"``
    """
    status = _http_status(error)
    if status is not None:
        return of_status(status)
    packages = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    if isinstance(error, (ConnectionError, TimeoutError)) or packages & _NETWORK:
        return RETRY
    return SKIP if isinstance(error, (ValueError, TypeError)) else PARK


def of_status(status: int) -> str:
    """The same for the HTTP status that a tracker's server answered with."""
    if status in (400, 422):
        return SKIP
    return RETRY if status == 429 or status >= 500 else PARK


def _http_status(error: BaseException) -> int | None:
    """The HTTP status that an SDK's error carries, in one of the usual places."""
    for place in (error, getattr(error, "response", None)):
        status: Any = getattr(place, "status_code", None)
        if isinstance(status, int):
            return status
    return None
