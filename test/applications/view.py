"""view.py ADDRESS PORT: what an application's socket shows, call by call. Prints one JSON object: probe -> what was seen.
Nothing in it depends on time, ports or header spelling, so two runs can be compared."""
import array
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import tempfile
import termios
import time

address, port = sys.argv[1], int(sys.argv[2])
HEAD = b"GET %b HTTP/1.1\r\nHost: view.test\r\n\r\n"
SIOCOUTQ = 0x5411
SO_RCVLOWAT = 18
seen = {}


def connect():
    s = socket.socket()
    s.settimeout(10)
    s.connect((address, port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def warm():
    """A connection whose next request is an ordinary one."""
    s = connect()
    for _ in range(2):
        s.sendall(HEAD % b"/echo/warm")
        whole(s)
    return s


def whole(s, data=b"", read=None):
    """The body of an answer with a length, read by `read`."""
    read = read or s.recv
    while b"\r\n\r\n" not in data:
        piece = read(65536)
        if not piece:
            return "end of file in the head"
        data += piece
    head, body = data.split(b"\r\n\r\n", 1)
    length = next(int(l.split(b":")[1]) for l in head.lower().split(b"\r\n") if l.startswith(b"content-length"))
    while len(body) < length:
        piece = read(65536)
        if not piece:
            return f"end of file after {len(body)}"
        body += piece
    return body.decode("latin1")


def readable(s, ms=10_000):
    p = select.poll()
    p.register(s, select.POLLIN)
    return p.poll(ms)


def available(s):
    n = array.array("i", [0])
    fcntl.ioctl(s, termios.FIONREAD, n)
    return n[0]


def name_of(e):
    return errno.errorcode.get(e.errno, type(e).__name__) if isinstance(e, OSError) and e.errno else type(e).__name__


def probe(name):
    def run(body):
        try:
            signal.alarm(20)
            seen[name] = body()
        except Exception as e:
            seen[name] = f"{name_of(e)}"
        finally:
            signal.alarm(0)

    return run


def alarm(*_):
    raise TimeoutError(errno.ETIME, "hangs")


signal.signal(signal.SIGALRM, alarm)


@probe("getpeername shows what was asked for")
def _():
    return warm().getpeername() == (address, port)


@probe("getsockname is stable and bound")
def _():
    s = warm()
    a = s.getsockname()
    return a == s.getsockname() and a[1] > 0


@probe("getsockname shows the address that was bound")
def _():
    s = socket.socket()
    s.settimeout(10)
    s.bind(("127.0.0.99", 0))
    s.connect((address, port))
    return s.getsockname()[0]


@probe("SO_ERROR, SO_TYPE, SO_DOMAIN, SO_ACCEPTCONN")
def _():
    s = warm()
    return [s.getsockopt(socket.SOL_SOCKET, o) for o in (socket.SO_ERROR, socket.SO_TYPE, 39, socket.SO_ACCEPTCONN)]


@probe("TCP_INFO says established")
def _():
    return warm().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[0]


@probe("FIONREAD counts a whole answer")
def _():
    s = warm()
    before = available(s)
    s.sendall(HEAD % b"/echo/count")
    readable(s)
    time.sleep(0.02)
    n = available(s)
    return [before, n == len(s.recv(65536)), available(s)]


@probe("SIOCOUTQ comes down to 0")
def _():
    s = warm()
    s.sendall(HEAD % b"/echo/out")
    whole(s)
    n = array.array("i", [9])
    fcntl.ioctl(s, SIOCOUTQ, n)
    return n[0]


for call in ("select", "poll", "epoll", "epoll edge"):

    @probe(f"{call}: nothing, then readable, then nothing")
    def _():
        s = warm()
        if call == "select":
            ask = lambda t: bool(select.select([s], [], [], t)[0])
        elif call == "poll":
            p = select.poll()
            p.register(s, select.POLLIN)
            ask = lambda t: [e for _, e in p.poll(t * 1000)]
        else:
            p = select.epoll()
            p.register(s, select.EPOLLIN | (select.EPOLLET if "edge" in call else 0))
            ask = lambda t: [e for _, e in p.poll(t)]
        first = ask(0)
        s.sendall(HEAD % b"/wait/20/later")
        return [first, ask(10), whole(s), ask(0)]


@probe("poll for writing, for hang-up")
def _():
    s = warm()
    p = select.poll()
    p.register(s, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    return p.poll(0)[0][1]


@probe("MSG_PEEK twice, then read")
def _():
    s = warm()
    s.sendall(HEAD % b"/echo/peek")
    readable(s)
    time.sleep(0.02)
    a, b, c = s.recv(65536, socket.MSG_PEEK), s.recv(10, socket.MSG_PEEK), s.recv(65536)
    return [a == c, b == c[:10]]


@probe("MSG_WAITALL")
def _():
    s = warm()
    s.sendall(HEAD % b"/size/40000/x")
    data = b""
    while b"\r\n\r\n" not in data:
        data += s.recv(1)
    return len(s.recv(40000, socket.MSG_WAITALL))


@probe("MSG_DONTWAIT before and after")
def _():
    s = warm()
    s.sendall(HEAD % b"/wait/50/x")
    try:
        early = len(s.recv(10, socket.MSG_DONTWAIT))
    except BlockingIOError:
        early = "EAGAIN"
    readable(s)
    return [early, whole(s, read=lambda n: s.recv(n, socket.MSG_DONTWAIT))]


@probe("MSG_TRUNC discards")
def _():
    s = warm()
    s.sendall(HEAD % b"/echo/trunc")
    readable(s)
    time.sleep(0.02)
    n = available(s)
    buffer = bytearray(16)
    return s.recv_into(buffer, 16, socket.MSG_TRUNC) == 16 and n > 16


@probe("readv into many buffers")
def _():
    s = warm()
    s.sendall(HEAD % b"/echo/vector")
    parts = []

    def read(_):
        buffers = [bytearray(3), bytearray(1), bytearray(7), bytearray(5000)]
        n = s.recvmsg_into(buffers)[0]
        data = b"".join(buffers)[:n]
        parts.append(n)
        return data

    return whole(s, read=read)


@probe("read a byte at a time")
def _():
    s = warm()
    s.sendall(HEAD % b"/size/300/x")
    return len(whole(s, read=lambda n: s.recv(1)))


@probe("writev")
def _():
    s = warm()
    request = HEAD % b"/echo/writev"
    s.sendmsg([request[:1], request[1:20], request[20:]])
    return whole(s)


@probe("a request in two segments, corked")
def _():
    s = warm()
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    s.sendall(b"GET /echo/corked HTTP/1.1\r\n")
    s.sendall(b"Host: view.test\r\n\r\n")
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    return whole(s)


@probe("MSG_MORE")
def _():
    s = warm()
    s.send(b"GET /echo/more HTTP/1.1\r\n", socket.MSG_MORE)
    s.send(b"Host: view.test\r\n\r\n")
    return whole(s)


@probe("sendfile as a request's body")
def _():
    s = warm()
    with tempfile.TemporaryFile() as f:
        f.write(b"b" * 30_000)
        f.flush()
        s.sendall(b"GET /echo/file HTTP/1.1\r\nHost: view.test\r\nContent-Length: 30000\r\n\r\n")
        at = 0
        while at < 30_000:
            at += os.sendfile(s.fileno(), f.fileno(), at, 30_000 - at)
    return whole(s)


@probe("splice into the socket")
def _():
    s = warm()
    r, w = os.pipe()
    os.write(w, HEAD % b"/echo/splice")
    os.splice(r, s.fileno(), 4096)
    return whole(s)


@probe("splice out of the socket")
def _():
    s = warm()
    s.sendall(HEAD % b"/echo/out")
    readable(s)
    time.sleep(0.02)
    r, w = os.pipe()
    n = os.splice(s.fileno(), w, 65536)
    return b"out" in os.read(r, n)


@probe("SO_RCVTIMEO strikes in time, and the answer still comes")
def _():
    s = warm()
    s.settimeout(None)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 100_000))
    s.sendall(HEAD % b"/wait/300/late")
    began = time.monotonic()
    try:
        first = len(s.recv(10))
    except OSError as e:
        first = name_of(e)
    late = time.monotonic() - began
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 10, 0))
    return [first, 0.08 < late < 0.28, whole(s)]


@probe("SO_RCVLOWAT")
def _():
    s = warm()
    s.setsockopt(socket.SOL_SOCKET, SO_RCVLOWAT, 5000)
    s.sendall(HEAD % b"/echo/low")
    early = bool(readable(s, 300))
    s.setsockopt(socket.SOL_SOCKET, SO_RCVLOWAT, 1)
    return [early, whole(s)]


@probe("shutdown(SHUT_WR) before the answer")
def _():
    s = warm()
    s.sendall(HEAD % b"/wait/30/half")
    s.shutdown(socket.SHUT_WR)
    answer = whole(s)
    return [answer, len(s.recv(10))]


@probe("send after shutdown(SHUT_WR)")
def _():
    s = warm()
    s.shutdown(socket.SHUT_WR)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    s.sendall(b"x")


@probe("shutdown(SHUT_RD), then recv")
def _():
    s = warm()
    s.shutdown(socket.SHUT_RD)
    return len(s.recv(10))


@probe("a second process reads the answer")
def _():
    s = warm()
    s.sendall(HEAD % b"/echo/fork")
    r, w = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(w, whole(s).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(w)
    return os.read(r, 100).decode()


@probe("a duplicate sends, the original reads")
def _():
    s = warm()
    d = s.dup()
    d.sendall(HEAD % b"/echo/dup")
    d.close()
    return whole(s)


@probe("non-blocking connect")
def _():
    s = socket.socket()
    s.setblocking(False)
    code = s.connect_ex((address, port))
    p = select.poll()
    p.register(s, select.POLLOUT)
    p.poll(5000)
    error = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    s.setblocking(True)
    s.settimeout(10)
    s.sendall(HEAD % b"/echo/nonblocking")
    return [errno.errorcode.get(code, code), error, whole(s)]


@probe("connect again")
def _():
    s = warm()
    s.connect((address, port))


@probe("a connection to a port where nobody listens")
def _():
    s = socket.socket()
    s.settimeout(5)
    s.connect((address, 1))


@probe("listen on a connected socket")
def _():
    warm().listen(1)


@probe("large answer, small receive buffer")
def _():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.settimeout(20)
    s.connect((address, port))
    s.sendall(HEAD % b"/size/600000/x")
    return len(whole(s))


@probe("close with unread bytes, then a new connection")
def _():
    s = warm()
    s.sendall(HEAD % b"/size/100000/x")
    readable(s)
    s.close()
    s = warm()
    s.sendall(HEAD % b"/echo/after")
    return whole(s)


@probe("SO_LINGER 0 closes at once")
def _():
    s = warm()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.sendall(HEAD % b"/wait/50/x")
    s.close()
    s = warm()
    s.sendall(HEAD % b"/echo/after")
    return whole(s)


print(json.dumps(seen))
