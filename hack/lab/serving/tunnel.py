"""Takes IP-in-IP tunnels apart (RFC 2003, RFC 2473, RFC 4213): IPv4 and IPv6 inside IPv4 and IPv6.

The kernel's tunnel devices are not needed: raw sockets get the outer packets, a TUN device puts the inner ones back in.
"""

import fcntl
import os
import socket
import struct
import subprocess

IPPROTO_IPIP, IPPROTO_IPV6 = 4, 41
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
SO_RCVBUFFORCE = 33
DEVICE = "tunnel"
MTU = 65000
MOST_PACKET = 65535
MOST_PER_WAKE_UP = 64


def serve(loop):
    """Takes tunnel packets from the network for as long as the event loop runs."""
    device = open_device(DEVICE, MTU)
    for family in (socket.AF_INET, socket.AF_INET6):
        for protocol in (IPPROTO_IPIP, IPPROTO_IPV6):
            outer = socket.socket(family, socket.SOCK_RAW, protocol)
            outer.setblocking(False)
            outer.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
            loop.add_reader(outer, take_apart, outer, family, device)


def open_device(name, mtu):
    """A TUN device that is up; its file descriptor."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH14x", name.encode(), IFF_TUN | IFF_NO_PI))
    subprocess.run(["ip", "link", "set", name, "mtu", str(mtu), "up"], check=True)
    return device


def take_apart(outer, family, device):
    for _ in range(MOST_PER_WAKE_UP):
        try:
            packet = outer.recv(MOST_PACKET)
        except (BlockingIOError, InterruptedError):
            return
        # A raw IPv4 socket gives the outer header too, a raw IPv6 socket does not (raw(7), RFC 3542 section 3).
        inner = packet[(packet[0] & 0xF) * 4 :] if family == socket.AF_INET else packet
        try:
            os.write(device, inner)
        except OSError as error:  # Not an IP packet, or the device's queue is full.
            print(f"tunnel: {len(inner)} bytes not taken: {error}", flush=True)
