"""DNS (RFC 1035, EDNS by RFC 6891), as much as dig needs: every name exists.

  TXT   the server's name; for a name like bytes-3000.example also 3,000 bytes of filler, so that the answer needs fragments
  A     the server's IPv4 address
  AAAA  the server's IPv6 address
"""

import re
import socket
import struct

from . import addresses

TYPE_A, TYPE_TXT, TYPE_AAAA, TYPE_OPT = 1, 16, 28, 41
CLASS_IN = 1
RESPONSE, AUTHORITATIVE, TRUNCATED, RECURSION_DESIRED = 0x8000, 0x0400, 0x0200, 0x0100
HEADER_LENGTH = 12
NAME_OF_QUESTION = b"\xc0\x0c"  # A pointer to the name at offset 12.
LEAST_UDP_SIZE, MOST_UDP_SIZE = 512, 4096


class Zone:
    def __init__(self, name):
        self.name = name
        table, number = addresses.read(), name.removeprefix("server")
        self.ipv4 = table.get(f"SERVER{number}_4", "127.0.0.1")
        self.ipv6 = table.get(f"SERVER{number}_6", "::1")

    def answer(self, query, _client, _address):
        """The response to one query; None for what is not a query with one question."""
        try:
            return self.respond(query)
        except (struct.error, IndexError, UnicodeDecodeError):
            return None

    def respond(self, query):
        ident, flags, questions, _, _, additional = struct.unpack_from("!6H", query)
        if flags & RESPONSE or questions != 1:
            return None
        labels, at = read_name(query, HEADER_LENGTH)
        kind, _class = struct.unpack_from("!2H", query, at)
        question_end = at + 4
        size = udp_size(query, question_end) if additional else None
        data = self.data(kind, labels)
        flags = RESPONSE | AUTHORITATIVE | flags & RECURSION_DESIRED
        question, opt = query[HEADER_LENGTH:question_end], b""
        record = b""
        if data is not None:
            record = NAME_OF_QUESTION + struct.pack("!2HIH", kind, CLASS_IN, 60, len(data)) + data
        if size is not None:
            opt = b"\0" + struct.pack("!2HIH", TYPE_OPT, MOST_UDP_SIZE, 0, 0)
        if HEADER_LENGTH + len(question) + len(record) + len(opt) > (size or LEAST_UDP_SIZE):
            record, flags = b"", flags | TRUNCATED
        return struct.pack("!6H", ident, flags, 1, bool(record), 0, bool(opt)) + question + record + opt

    def data(self, kind, labels):
        if kind == TYPE_A:
            return socket.inet_pton(socket.AF_INET, self.ipv4)
        if kind == TYPE_AAAA:
            return socket.inet_pton(socket.AF_INET6, self.ipv6)
        if kind == TYPE_TXT:
            filler = re.fullmatch(r"bytes-(\d{1,4})", labels[0] if labels else "")
            return text(self.name.encode()) + text(b"x" * int(filler[1] if filler else 0))
        return None


def read_name(message, at):
    """The labels of the uncompressed name at offset `at`, and the offset behind it."""
    labels = []
    while length := message[at]:
        labels.append(message[at + 1 : at + 1 + length].decode("ascii"))
        at += 1 + length
    return labels, at + 1


def udp_size(query, at):
    """The response size that the OPT record at `at` allows; None if there is another record."""
    if query[at] != 0 or struct.unpack_from("!H", query, at + 1)[0] != TYPE_OPT:
        return None
    return max(LEAST_UDP_SIZE, min(MOST_UDP_SIZE, struct.unpack_from("!H", query, at + 3)[0]))


def text(data):
    """Character strings of at most 255 bytes each; nothing for no data."""
    pieces = (data[at : at + 255] for at in range(0, len(data), 255))
    return b"".join(bytes([len(piece)]) + piece for piece in pieces)
