#!/usr/bin/env python3
"""A real server of the lab: everything that a test wants to ask of a server behind a load balancer, in one process.

  80/tcp    HTTP: who answered, and whose address the server saw (serving/web.py)
  8081/tcp  the same, behind a PROXY protocol v2 header
  2525/tcp  a protocol in which the server speaks first, as in SMTP
  2526/tcp  the same, behind a PROXY protocol v2 header
  7000/udp  echo, also of datagrams that need fragments (serving/datagrams.py)
  7001/udp  the same, with a PROXY protocol v2 header in each datagram
  53/udp    DNS (serving/dns.py)
  IP 4, 41  IP-in-IP tunnels, taken apart (serving/tunnel.py)

Standard library only. Runs inside a server's network namespace; needs root for raw sockets and the TUN device.
"""

import argparse
import asyncio
import pathlib
import resource
import sys

sys.dont_write_bytecode = True  # No __pycache__ in the source tree.

from serving import datagrams, dns, greeting, tunnel, web  # noqa: E402
from serving.toa import ToaSniffer  # noqa: E402


async def serve(name, ready_file):
    loop = asyncio.get_running_loop()
    sniffer = ToaSniffer(port=80)
    loop.add_reader(sniffer, sniffer.drain)
    await listen(80, web.Site(name, sniffer).plain)
    await listen(8081, web.Site(name, sniffer).behind_proxy)
    await listen(2525, greeting.Greeter(name).plain)
    await listen(2526, greeting.Greeter(name).behind_proxy)
    datagrams.serve(loop, 7000, datagrams.Echo(name).plain)
    datagrams.serve(loop, 7001, datagrams.Echo(name).behind_proxy)
    datagrams.serve(loop, 53, dns.Zone(name).answer)
    tunnel.serve(loop)
    if ready_file:
        ready_file.write_text("ready\n")
    await asyncio.Event().wait()


async def listen(port, handler):
    """Listens on both families by separate sockets, so that an IPv4 client never shows up as ::ffff:a.b.c.d."""
    for host in ("0.0.0.0", "::"):
        await asyncio.start_server(handler, host, port, backlog=4096)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="the name this server gives in its answers")
    parser.add_argument("--ready-file", type=pathlib.Path, help="written when every port listens")
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(serve(arguments.name, arguments.ready_file))


if __name__ == "__main__":
    main()
