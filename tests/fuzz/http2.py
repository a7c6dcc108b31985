"""HTTP/2 frames and header blocks of a gRPC client (RFC 9113, RFC 7541 without Huffman). No sockets."""

from __future__ import annotations

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
END_STREAM, END_HEADERS, PADDED, HAS_PRIORITY = 0x01, 0x04, 0x08, 0x20


def frame(kind: int, flags: int, stream: int, payload: bytes, byte_count: int | None = None) -> bytes:
    """A frame; `byte_count` announces another length than the payload has."""
    announced = len(payload) if byte_count is None else byte_count
    head = (announced & 0xFFFFFF).to_bytes(3) + bytes([kind & 0xFF, flags & 0xFF])
    return head + (stream & 0xFFFFFFFF).to_bytes(4) + payload


def number(value: int, prefix_bits: int, first: int = 0) -> bytes:
    """An integer as HPACK writes it."""
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes([first | value])
    value -= most
    data = bytearray([first | most])
    while value >= 128:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    return bytes(data)


def header(name: bytes, value: bytes) -> bytes:
    """A header that is written out, and not to be remembered."""
    return b"\x00" + number(len(name), 7) + name + number(len(value), 7) + value


def request(path: bytes, *others: tuple[bytes, bytes]) -> bytes:
    """The header block of a call."""
    usual = (
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", path),
        (b":authority", b"peer.quakegrid.internal"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
    return b"".join(header(name, value) for name, value in (*usual, *others))


def message(content: bytes, byte_count: int | None = None, flag: int = 0) -> bytes:
    """A message of gRPC's; `byte_count` announces another length than it has."""
    announced = len(content) if byte_count is None else byte_count
    return bytes([flag]) + (announced & 0xFFFFFFFF).to_bytes(4) + content
