"""HTTP/1.1 with keep-alive.

  GET /         server=NAME client=ADDRESS:PORT address=ADDRESS:PORT (and peer=… behind a PROXY header)
  GET /bytes/N  N bytes in a pattern that any client can make again: numbered lines of 16 bytes
  GET /toa      the client's address as TCP option 254 of this connection carried it, or "none"
  POST /…       the SHA-256 of the body that was sent
"""

import asyncio
import functools
import hashlib

from . import proxy_v2
from .addresses import with_port

MOST_BYTES = 1 << 30


class BadRequest(Exception):
    """The request cannot be understood."""


class Site:
    def __init__(self, name, sniffer):
        self.name = name
        self.sniffer = sniffer

    async def plain(self, reader, writer):
        peer, local = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
        about = f"server={self.name} client={with_port(peer)} address={with_port(local)}\n"
        await self.talk(reader, writer, about)

    async def behind_proxy(self, reader, writer):
        peer = writer.get_extra_info("peername")
        try:
            source, destination = await proxy_v2.read(reader)
        except (proxy_v2.BadHeader, asyncio.IncompleteReadError) as error:
            print(f"web: {error}", flush=True)
            writer.close()
            return
        about = f"server={self.name} client={with_port(source or peer)} address={with_port(destination or peer)}"
        await self.talk(reader, writer, f"{about} peer={with_port(peer)}\n")

    async def talk(self, reader, writer, about):
        try:
            while await self.exchange(reader, writer, about):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The client went away.
        except (BadRequest, asyncio.LimitOverrunError, ValueError) as error:
            self.respond(writer, "400 Bad Request", f"{error}\n".encode(), keep_alive=False)
        finally:
            writer.close()

    async def exchange(self, reader, writer, about):
        """One request and its answer. True if another may follow on the connection."""
        method, path, headers = parse_head(await reader.readuntil(b"\r\n\r\n"))
        keep_alive = headers.get("connection", "").lower() != "close"
        if method in ("POST", "PUT"):
            status, body = "200 OK", await receive(reader, writer, headers)
        else:
            status, body = self.page(path, about, writer)
        self.respond(writer, status, body, keep_alive)
        await writer.drain()
        return keep_alive

    def page(self, path, about, writer):
        if path.startswith("/bytes/"):
            count = int(path.removeprefix("/bytes/"))
            if not 0 <= count <= MOST_BYTES:
                raise BadRequest(f"the number of bytes is from 0 to {MOST_BYTES}")
            return "200 OK", pattern(count)
        if path == "/toa":
            client = self.sniffer.client_of(writer.get_extra_info("peername"))
            return "200 OK", f"server={self.name} toa={with_port(client) if client else 'none'}\n".encode()
        if path.split("?")[0] == "/":
            return "200 OK", about.encode()
        return "404 Not Found", b"no such page\n"

    def respond(self, writer, status, body, keep_alive):
        connection = "keep-alive" if keep_alive else "close"
        head = (
            f"HTTP/1.1 {status}\r\nServer: {self.name}\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {len(body)}\r\nConnection: {connection}\r\n\r\n"
        )
        writer.write(head.encode() + body if len(body) < 65536 else head.encode())
        if len(body) >= 65536:
            writer.write(body)


def parse_head(head):
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3:
        raise BadRequest(f"not a request line: {lines[0]!r}")
    headers = dict(line.split(":", 1) for line in lines[1:] if ":" in line)
    return words[0], words[1], {name.strip().lower(): value.strip() for name, value in headers.items()}


async def receive(reader, writer, headers):
    """Reads the body; its SHA-256 and a newline."""
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    left = int(headers.get("content-length", "0"))
    digest = hashlib.sha256()
    while left:
        piece = await reader.read(min(left, 1 << 20))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        digest.update(piece)
        left -= len(piece)
    return f"{digest.hexdigest()}\n".encode()


@functools.lru_cache(maxsize=8)
def pattern(count):
    """The first `count` bytes of "000000000000000\\n000000000000001\\n…"."""
    return b"".join(b"%015d\n" % line for line in range(count // 16 + 1))[:count]
