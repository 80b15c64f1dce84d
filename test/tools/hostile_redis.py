#!/usr/bin/env python3
"""What answers like no Redis does, for tests: hostile_redis.py kind; prints its port, and then serves until it is killed.

The kinds: bytes (an error that is no text), error, string (without an end), array (of more than there is memory for),
nested (arrays in arrays, without an end), push (what nobody asked for).
"""
import socket
import sys

ANSWERS = {
    "bytes": (b"-ERR \xff\xfe\x00 hostile \x1b[31m" + "ü".encode() * 300 + b"\r\n", b""),
    "error": (b"-ERR ", b"x" * 65536),
    "string": (b"$1000000000\r\n", b"x" * 65536),
    "array": (b"*2147483647\r\n", b"+x\r\n"),
    "nested": (b"", b"*60\r\n"),
    "push": (b">2\r\n+message\r\n+x\r\n", b""),
}


def main():
    first, then = ANSWERS[sys.argv[1]]
    server = socket.create_server(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)
    while True:
        connection, _ = server.accept()
        try:
            connection.recv(65536)
            connection.sendall(first)
            while then:
                connection.sendall(then)
            connection.recv(1)
        except OSError:
            pass
        connection.close()


main()
