"""A protocol in which the server speaks first: one greeting line, then every line that comes is sent back."""

import asyncio

from . import proxy_v2
from .addresses import with_port


class Greeter:
    def __init__(self, name):
        self.name = name

    async def plain(self, reader, writer):
        await self.greet(reader, writer, writer.get_extra_info("peername"))

    async def behind_proxy(self, reader, writer):
        try:
            source, _ = await proxy_v2.read(reader)
        except (proxy_v2.BadHeader, asyncio.IncompleteReadError) as error:
            print(f"greeting: {error}", flush=True)
            writer.close()
            return
        await self.greet(reader, writer, source or writer.get_extra_info("peername"))

    async def greet(self, reader, writer, client):
        try:
            writer.write(f"220 server={self.name} client={with_port(client)}\r\n".encode())
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
        except (ConnectionError, ValueError, asyncio.IncompleteReadError):
            pass  # The client went away, or sent a line without an end.
        finally:
            writer.close()
