"""UDP: a socket per family whose answers leave from the address that was asked, which may be a VIP; and the echo service."""

import socket
import struct

from . import proxy_v2
from .addresses import with_port

IP_PKTINFO = 8  # linux/in.h; not in Python's socket module before 3.14
MOST_DATAGRAM = 65535
MOST_PER_WAKE_UP = 64


def serve(loop, port, answer):
    """Calls answer(datagram, client, address) for each datagram to `port`, and sends what it returns, unless that is None."""
    for family in (socket.AF_INET, socket.AF_INET6):
        listener = open_socket(family, port)
        loop.add_reader(listener, answer_waiting, listener, answer)


def open_socket(family, port):
    listener = socket.socket(family, socket.SOCK_DGRAM)
    listener.setblocking(False)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    if family == socket.AF_INET:
        listener.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    else:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    listener.bind(("", port))
    return listener


def answer_waiting(listener, answer):
    for _ in range(MOST_PER_WAKE_UP):
        try:
            datagram, ancillary, _, client = listener.recvmsg(MOST_DATAGRAM, 256)
            address, from_there = asked_address(ancillary)
            reply = answer(datagram, client, (address, listener.getsockname()[1]))
            if reply is not None:
                listener.sendmsg([reply], from_there, 0, client)
        except BlockingIOError:
            return
        except OSError as error:  # An ICMP error for an earlier answer, or no way back to the client.
            print(f"datagrams: {error}", flush=True)


def asked_address(ancillary):
    """The address the datagram was sent to, and the control message that makes an answer leave from it."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            # struct in_pktinfo: interface index, local address, destination in the header.
            destination = data[8:12]
            reply = struct.pack("=i4s4s", 0, destination, bytes(4))
            return socket.inet_ntop(socket.AF_INET, destination), [(level, kind, reply)]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            # struct in6_pktinfo: address, interface index.
            reply = data[:16] + struct.pack("=i", 0)
            return socket.inet_ntop(socket.AF_INET6, data[:16]), [(level, kind, reply)]
    raise OSError("a datagram came without its destination address")


class Echo:
    """Answers with one line that says who answered whom, then the payload."""

    def __init__(self, name):
        self.name = name

    def plain(self, datagram, client, address):
        return f"server={self.name} client={with_port(client)} address={with_port(address)}\n".encode() + datagram

    def behind_proxy(self, datagram, client, address):
        try:
            source, destination, payload = proxy_v2.split(datagram)
        except proxy_v2.BadHeader as error:
            print(f"datagrams: {error}", flush=True)
            return None
        about = f"server={self.name} client={with_port(source or client)} address={with_port(destination or address)}"
        return f"{about} peer={with_port(client)}\n".encode() + payload
