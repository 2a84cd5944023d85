"""The sender behaves like Svix."""

import asyncio
import random
from collections.abc import AsyncIterator

from tests.faults.sender import SCHEDULE, Sender
from tests.faults.truth import Message


class Stub:
    """A receiver that gives the answers it is told to give, then 200; None is to hang up."""

    def __init__(self, *answers: int | None) -> None:
        self.answers = list(answers)
        self.seen: list[dict[str, str]] = []
        self.url = ""

    async def receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        await reader.readexactly(int(headers["content-length"]))
        self.seen.append(headers)
        status = self.answers.pop(0) if self.answers else 200
        if status:
            writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
            await writer.drain()
        writer.close()
        await writer.wait_closed()


async def sent(stub: Stub) -> AsyncIterator[Sender]:
    listener = await asyncio.start_server(stub.receive, "127.0.0.1", 0)
    stub.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    quick = tuple(pause / 10 for pause in SCHEDULE)
    sender = Sender([stub.url], random.Random(1), schedule=quick)
    await sender.deliver(Message("msg_1", b"{}"))
    yield sender
    await sender.client.aclose()
    listener.close()


async def test_the_sender_tries_again_with_the_same_id_until_there_is_a_2xx() -> None:
    stub = Stub(503, None, 400, 302)
    async for sender in sent(stub):
        [delivery] = sender.deliveries
        assert delivery.acknowledged
        assert delivery.attempts == 5
        assert {headers["svix-id"] for headers in stub.seen} == {"msg_1"}
        assert [answer.status for answer in sender.answers] == [503, None, 400, 302, 200]
        assert len(sender.unanswered()) == 1
        assert sender.refused() == {400, 302}


async def test_the_sender_gives_up_after_eight_attempts_and_signs_each_anew() -> None:
    stub = Stub(*[503] * 8)
    async for sender in sent(stub):
        [delivery] = sender.deliveries
        assert not delivery.acknowledged
        assert not sender.acknowledged
        assert delivery.attempts == len(stub.seen) == 8
        assert len({(h["svix-timestamp"], h["svix-signature"]) for h in stub.seen}) > 1
        await sender.recover()
        assert delivery.acknowledged
