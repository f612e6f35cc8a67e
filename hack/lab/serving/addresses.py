"""The lab's address table (hack/lab/addresses), and how an address with a port is written."""

import pathlib

TABLE = pathlib.Path(__file__).resolve().parent.parent / "addresses"


def read():
    """The table as a dictionary from name to address."""
    lines = (line.strip() for line in TABLE.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def with_port(address):
    """10.99.1.2:80 or [fd99:1::2]:80, from a socket address tuple."""
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
