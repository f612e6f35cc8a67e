"""PROXY protocol version 2 (haproxy's proxy-protocol.txt, section 2.2): reading the header that a balancer puts in front."""

import ipaddress
import struct

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
FIXED_LENGTH = 16
LOCAL, PROXY = 0x20, 0x21
# Address family in the high four bits, transport in the low four: length of one address, by family.
ADDRESS_LENGTH = {0x1: 4, 0x2: 16}
STREAM, DGRAM = 0x1, 0x2


class BadHeader(Exception):
    """What came is not a PROXY v2 header."""


def length(fixed):
    """Length of the part after the fixed 16 bytes, which are checked here."""
    if len(fixed) < FIXED_LENGTH or not fixed.startswith(SIGNATURE):
        raise BadHeader(f"no PROXY v2 signature in {fixed[:FIXED_LENGTH].hex()}")
    return struct.unpack_from("!H", fixed, 14)[0]


def parse(header, transport):
    """(source, destination) as (address, port) pairs, from a whole header; None for both with command LOCAL."""
    rest = header[FIXED_LENGTH : FIXED_LENGTH + length(header)]
    command, family_and_transport = header[12], header[13]
    if command == LOCAL:
        return None, None
    if command != PROXY:
        raise BadHeader(f"version and command are {command:#x}, not {LOCAL:#x} or {PROXY:#x}")
    size = ADDRESS_LENGTH.get(family_and_transport >> 4)
    if size is None or family_and_transport & 0xF != transport:
        raise BadHeader(f"family and transport {family_and_transport:#x} do not fit here")
    if len(rest) < 2 * size + 4:
        raise BadHeader(f"{len(rest)} bytes of addresses are too few")
    source, destination = (str(ipaddress.ip_address(rest[at : at + size])) for at in (0, size))
    ports = struct.unpack_from("!HH", rest, 2 * size)
    return (source, ports[0]), (destination, ports[1])


async def read(reader):
    """Reads one header from a TCP stream: (source, destination)."""
    fixed = await reader.readexactly(FIXED_LENGTH)
    return parse(fixed + await reader.readexactly(length(fixed)), STREAM)


def split(datagram):
    """A header at the start of a datagram: (source, destination, payload)."""
    end = FIXED_LENGTH + length(datagram)
    return *parse(datagram, DGRAM), datagram[end:]


def build(source, destination, transport):
    """A header as a balancer would write it; for the lab's own selftest."""
    family = 0x2 if ":" in source[0] else 0x1
    addresses = b"".join(ipaddress.ip_address(host).packed for host, _ in (source, destination))
    rest = addresses + struct.pack("!HH", source[1], destination[1])
    return SIGNATURE + struct.pack("!BBH", PROXY, family << 4 | transport, len(rest)) + rest
