"""The sender retries and gives up as Svix does."""

import asyncio
import random
from collections.abc import AsyncIterator

from tests.faults.expected_table import Message
from tests.faults.sender import SCHEDULE, Sender


class Stub:
    """A receiver with a list of statuses to return, then 200; None closes the connection."""

    def __init__(self, *statuses: int | None) -> None:
        self.statuses = list(statuses)
        self.seen: list[dict[str, str]] = []
        self.url = ""

    async def receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        await reader.readexactly(int(headers["content-length"]))
        self.seen.append(headers)
        status = self.statuses.pop(0) if self.statuses else 200
        if status:
            writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
            await writer.drain()
        writer.close()
        await writer.wait_closed()


async def send_one(stub: Stub) -> AsyncIterator[Sender]:
    listener = await asyncio.start_server(stub.receive, "127.0.0.1", 0)
    stub.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    quick = tuple(pause / 10 for pause in SCHEDULE)
    sender = Sender([stub.url], random.Random(1), schedule=quick)
    await sender.deliver(Message("msg_1", b"{}"))
    yield sender
    await sender.client.aclose()
    listener.close()


async def test_the_sender_retries_with_the_same_id_until_a_2xx() -> None:
    stub = Stub(503, None, 400, 302)
    async for sender in send_one(stub):
        [delivery] = sender.deliveries
        assert delivery.acknowledged
        assert delivery.attempts == 5
        assert {headers["svix-id"] for headers in stub.seen} == {"msg_1"}
        assert [result.status for result in sender.results] == [503, None, 400, 302, 200]
        assert len(sender.find_unanswered()) == 1
        assert sender.find_refused_statuses() == {400, 302}


async def test_the_sender_gives_up_after_eight_attempts_with_a_signature_each() -> None:
    stub = Stub(*[503] * 8)
    async for sender in send_one(stub):
        [delivery] = sender.deliveries
        assert not delivery.acknowledged
        assert not sender.acknowledged
        assert delivery.attempts == len(stub.seen) == 8
        assert len({(h["svix-timestamp"], h["svix-signature"]) for h in stub.seen}) > 1
        await sender.resend()
        assert delivery.acknowledged
