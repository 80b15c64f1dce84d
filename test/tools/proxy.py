#!/usr/bin/env python3
"""A TCP proxy that fails on command, for tests of what a network does.

    proxy.py port target-port

Commands are lines on standard input, answered with "ok" once they are in force:

    pass       forwards, also what was held back
    hold       forwards nothing; connections stay open, new ones are taken
    delay S    forwards every piece S seconds late
    rate N     forwards N bytes per second, over all connections and both ways
    cut N      closes a connection once it brought N more bytes from the target
    leap T:N   adds N to the offset of the batch of messages that has the text T
    rst        resets every connection, once
    close      closes every connection, once
    refuse     resets every connection, and new ones are refused
    blackhole  resets every connection, and new ones get no answer at all

Ends when its standard input closes.
"""
import asyncio
import socket
import struct
import sys

HOST = "127.0.0.1"
PIECE = 65536
BATCH_HEADER = 61
NO_ANSWER = 0.3  # seconds after which a connection attempt counts as unanswered


def leap(data, text, offsets):
    """Changes the offset of the batch that has the text. It is before the checksum, and so not part of it."""
    at = data.find(text)
    for start in range(at - BATCH_HEADER, -1, -1):
        offset, length, _, magic = struct.unpack_from(">qiib", data, start)
        if magic == 2 and 0 <= offset < 1_000_000 and at < start + 12 + length < at + PIECE:
            return data[:start] + struct.pack(">q", offset + offsets) + data[start + 8:]
    return data


class Link:
    """A client's connection and ours to the target."""

    def __init__(self, writers):
        self.writers = writers
        self.brought = 0

    def close(self):
        for writer in self.writers:
            writer.close()

    def reset(self):
        for writer in self.writers:
            sock = writer.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Proxy:
    def __init__(self, port, target):
        self.port = port
        self.target = target
        self.links = set()
        self.tasks = set()
        self.forwarding = asyncio.Event()
        self.delay = 0.0
        self.rate = None
        self.ready_at = 0.0
        self.cut = None
        self.leap = None
        self.listener = None
        self.accepting = None
        self.fillers = []

    def spawn(self, coroutine):
        task = asyncio.ensure_future(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def listen(self, backlog=128):
        if self.listener is None:
            self.listener = socket.socket()
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.setblocking(False)
            self.listener.bind((HOST, self.port))
        self.listener.listen(backlog)  # a second call changes the backlog

    async def accept(self):
        while True:
            client, _ = await asyncio.get_running_loop().sock_accept(self.listener)
            self.spawn(self.serve(client))

    def accept_no_more(self):
        if self.accepting is not None:
            self.accepting.cancel()
            self.accepting = None

    async def serve(self, client):
        from_client, to_client = await asyncio.open_connection(sock=client)
        link = Link([to_client])
        self.links.add(link)
        try:
            from_target, to_target = await asyncio.open_connection(HOST, self.target)
            link.writers.append(to_target)
            pumps = [self.spawn(self.pump(link, from_client, to_target, False)),
                     self.spawn(self.pump(link, from_target, to_client, True))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass
        link.close()
        self.links.discard(link)

    async def pump(self, link, reader, writer, from_target):
        """Forwards one direction until it ends or the link is cut."""
        try:
            while True:
                data = await reader.read(self.rate // 8 if self.rate else PIECE)
                if not data:
                    return
                await self.forwarding.wait()
                await self.take_turn(len(data))
                if self.delay:
                    await asyncio.sleep(self.delay)
                if from_target and self.leap is not None:
                    data = leap(data, *self.leap)
                if from_target and self.cut is not None:
                    data = data[:self.cut - link.brought]
                    link.brought += len(data)
                writer.write(data)
                await writer.drain()
                if from_target and self.cut is not None and link.brought >= self.cut:
                    return
        except OSError:
            return

    async def take_turn(self, size):
        """Waits until a piece of that size has passed at the rate."""
        if not self.rate:
            return
        now = asyncio.get_running_loop().time()
        self.ready_at = max(now, self.ready_at) + size / self.rate
        await asyncio.sleep(self.ready_at - now)

    def restore(self):
        """Forwards and accepts again, whatever came before."""
        for filler in self.fillers:
            filler.close()
        self.fillers = []
        self.delay = 0.0
        self.rate = None
        self.cut = None
        self.listen()
        if self.accepting is None:
            self.accepting = self.spawn(self.accept())
        self.forwarding.set()

    def reset_links(self):
        for link in list(self.links):
            link.reset()

    async def blackhole(self):
        """Fills the backlog of a listener that accepts nothing, until a connection gets no answer."""
        self.accept_no_more()
        self.reset_links()
        self.listen(0)
        while True:
            filler = socket.socket()
            filler.setblocking(False)
            self.fillers.append(filler)
            try:
                await asyncio.wait_for(asyncio.get_running_loop().sock_connect(filler, (HOST, self.port)), NO_ANSWER)
            except asyncio.TimeoutError:
                return

    async def obey(self, command, argument):
        if command in ("pass", "delay", "rate", "cut"):
            self.restore()
        if command == "delay":
            self.delay = float(argument)
        elif command == "rate":
            self.rate = int(argument)
            self.ready_at = 0.0
        elif command == "cut":
            self.cut = int(argument)
            for link in self.links:
                link.brought = 0
        elif command == "leap":
            text, offsets = argument.split(":")
            self.leap = (text.encode(), int(offsets))
        elif command == "hold":
            self.forwarding.clear()
        elif command == "rst":
            self.reset_links()
        elif command == "close":
            for link in list(self.links):
                link.close()
        elif command == "refuse":
            self.accept_no_more()
            self.listener.close()
            self.listener = None
            self.reset_links()
        elif command == "blackhole":
            await self.blackhole()
        elif command != "pass":
            raise ValueError(f"unknown command {command}")


async def main():
    proxy = Proxy(int(sys.argv[1]), int(sys.argv[2]))
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while True:
        line = (await commands.readline()).decode().split()
        if not line:
            return
        await proxy.obey(line[0], line[1] if len(line) > 1 else None)
        print("ok", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
