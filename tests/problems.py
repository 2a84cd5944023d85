"""Problem details (RFC 9457): the JSON body of the service's error responses."""

import httpx2

from tests.world import SECRET


def read_problem_code(response: httpx2.Response) -> str:
    """Return the code of a problem, after a check that the body has no internal details."""
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert set(problem) - {"reason"} == {"type", "title", "status", "detail", "code"}
    assert problem["status"] == response.status_code
    for internal in ("clerk_sync", "select", "insert", "users", SECRET):
        assert internal not in response.text
    return str(problem["code"])
