"""The reference of an import: the usual script, which writes each page with one statement per user, in a transaction.

It has the pages and the columns of the service, and no version, no comparison and no isolation of errors.
"""

import asyncio
import os

import asyncpg
import httpx2

from tests.benchmarks.references import UPSERT, row_of
from tests.clerk_stub import SECRET_KEY


async def _import_users(dsn: str, url: str) -> None:
    connection = await asyncpg.connect(dsn)
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {SECRET_KEY}"}) as client:
        query: dict[str, str | int] = {"limit": 500, "order_by": "created_at"}
        while page := (await client.get(f"{url}/v1/users", params=query)).json():
            async with connection.transaction():
                await connection.executemany(UPSERT, [row_of(user) for user in page])
            query["starting_after"] = page[-1]["id"]
    await connection.close()


asyncio.run(_import_users(os.environ["DATABASE_URL"], os.environ["CLERK_API_URL"]))
