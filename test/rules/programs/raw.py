"""A client that sees what the kernel does to a socket: raw calls, several ways to read, and nothing forgiven."""
import json
import random
import select
import socket
import sys
import threading
import time

PERIOD = 1048573
_PATTERN = random.Random(7).randbytes(PERIOD)
_PATTERN = _PATTERN + _PATTERN


def body_piece(at, size):
    """`size` (at most PERIOD) bytes of the pattern that all bodies are made of, from position `at` on."""
    return _PATTERN[at % PERIOD : at % PERIOD + size]


class Wrong(Exception):
    """The answer is not the one that was asked for."""


MODES = ["blocking", "small", "poll", "epoll", "edge", "select", "peek", "slow", "vector"]


class Conn:
    """A connection whose bytes are read in one of the MODES. Every wait is bounded by `limit` seconds."""

    def __init__(self, address, port, mode="blocking", limit=20, source=None):
        self.sock = socket.socket()
        if source:
            self.sock.bind((source, 0))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.connect((address, int(port)))
        self.mode = mode
        self.limit = limit
        self.buffer = b""
        self.timer = None
        if mode in ("poll", "epoll", "edge", "select"):
            self.sock.setblocking(False)
        if mode == "poll":
            self.poller = select.poll()
            self.poller.register(self.sock, select.POLLIN)
        if mode in ("epoll", "edge"):
            self.poller = select.epoll()
            self.poller.register(self.sock, select.EPOLLIN | (select.EPOLLET if mode == "edge" else 0))

    def send(self, data):
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                select.select([], [self.sock], [], self.limit)

    def recv(self, size=65536):
        """Bytes, or b'' at the end of the file."""
        s = self.sock
        if self.mode == "blocking":
            return s.recv(size)
        if self.mode == "small":
            return s.recv(7)
        if self.mode == "slow":
            time.sleep(random.choice((0, 0.0003, 0.002)))
            return s.recv(random.choice((100, size)))
        if self.mode == "peek":
            seen = s.recv(size, socket.MSG_PEEK)
            data = s.recv(max(1, len(seen)))
            if data != seen[: len(data)]:
                raise Wrong(f"peeked {seen[:40]!r}, read {data[:40]!r}")
            return data
        if self.mode == "vector":
            a, b = bytearray(11), bytearray(size)
            n = s.recvmsg_into([a, b])[0]
            return bytes((a + b)[:n])
        while True:
            if self.mode == "edge":  # read first: no new edge comes for what is there already
                try:
                    return s.recv(size)
                except BlockingIOError:
                    pass
            if self.mode == "select":
                ready = select.select([s], [], [], self.limit)[0]
            elif self.mode == "poll":
                ready = self.poller.poll(self.limit * 1000)
            else:
                ready = self.poller.poll(self.limit)
            if not ready:
                raise Wrong(f"{self.mode} saw nothing for {self.limit} s")
            try:
                return s.recv(size)
            except BlockingIOError:
                if self.mode != "edge":
                    raise Wrong(f"{self.mode} said readable, recv said EAGAIN") from None

    def _more(self):
        data = self.recv()
        if not data:
            raise EOFError("end of file in the middle of an answer")
        self.buffer += data

    def _line(self):
        while b"\r\n" not in self.buffer:
            self._more()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def _body(self, size, sink):
        while size:
            if not self.buffer:
                self._more()
            piece, self.buffer = self.buffer[:size], self.buffer[size:]
            sink(piece)
            size -= len(piece)

    def answer(self, method="GET", pattern=False):
        """(status, headers, body); with `pattern` the body is compared as it comes and its length returned."""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        text, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        first, *lines = text.decode("latin1").split("\r\n")
        if not first.startswith("HTTP/1.1 "):
            raise Wrong(f"an answer begins with {first[:60]!r}")
        status = int(first.split(" ")[1])
        headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
        parts, at = [], 0

        def sink(piece):
            nonlocal at
            if not pattern:
                parts.append(piece)
                return
            for i in range(0, len(piece), PERIOD):
                part = piece[i : i + PERIOD]
                if part != body_piece(at, len(part)):
                    raise Wrong(f"wrong bytes between {at} and {at + len(part)}")
                at += len(part)

        if method == "HEAD" or status in (204, 304):
            pass
        elif headers.get("transfer-encoding") == "chunked":
            while True:
                size = int(self._line(), 16)
                self._body(size, sink)
                if self._line():
                    raise Wrong("no line end after a chunk")
                if not size:
                    break
        elif "content-length" in headers:
            self._body(int(headers["content-length"]), sink)
        else:
            raise Wrong(f"an answer without framing: {text[:200]!r}")
        return status, headers, at if pattern else b"".join(parts)

    def get(self, path, pattern=False):
        self.send(request(path))
        return self.answer(pattern=pattern)

    def close(self):
        self.sock.close()


def request(path, *headers, method="GET", body=b""):
    lines = [f"{method} {path} HTTP/1.1", "Host: rules.test", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


class Report:
    """Collects what went wrong from any thread, and prints everything as one line of JSON."""

    def __init__(self):
        self.failures = []
        self.numbers = {}
        self._lock = threading.Lock()

    def fail(self, where, why):
        with self._lock:
            self.failures.append(f"{where}: {type(why).__name__ + ' ' if isinstance(why, Exception) else ''}{why}")

    def add(self, name, n=1):
        with self._lock:
            self.numbers[name] = self.numbers.get(name, 0) + n

    def finish(self):
        print(json.dumps({"failures": self.failures[:50], "failed": len(self.failures), **self.numbers}), flush=True)
        sys.exit(0)


def together(count, work):
    """Runs work(i) in `count` threads."""
    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
