"""crowd.py ADDRESS PORT N PATH RATE: N connections, one request on each. RATE 0: reads the answer whole and then idles;
otherwise reads at most RATE bytes a second. RATE -1: reads nothing, and sends MANY requests, each when the answer before must
have come. Prints `there` when every answer has begun, and ends with a line on standard input: then each idle connection
asks once more, those that read nothing read all their answers, and `done FAILURES` is printed."""
import resource
import select
import socket
import sys
import time

address, port, n, path, rate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
REQUEST = f"GET {path} HTTP/1.1\r\nHost: crowd\r\n\r\n".encode()
MANY = 40
failures = 0
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def whole(sock, data=b""):
    """Reads an answer of known length, of which `data` was read before; what was read beyond it."""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            raise OSError("end of file")
        data += piece
    head, body = data.split(b"\r\n\r\n", 1)
    if not head.startswith(b"HTTP/1.1 200"):
        raise OSError(head.split(b"\r\n")[0].decode())
    length = next(int(l.split(b":")[1]) for l in head.split(b"\r\n") if l.lower().startswith(b"content-length"))
    while len(body) < length:
        piece = sock.recv(65536)
        if not piece:
            raise OSError("end of file")
        body += piece
    return body[length:]


socks = []
for i in range(n):
    s = socket.socket()
    s.settimeout(20)
    # ports of one source address do not suffice for 10,000 connections beside everything else
    s.bind((f"127.0.1.{1 + i % 4}", 0))
    s.connect((address, port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if rate >= 0:
        s.sendall(REQUEST)
    socks.append(s)
    if not rate:
        try:
            whole(s)
        except OSError as e:
            failures += 1
            print(f"connection {i}: {e}", file=sys.stderr)
for s in socks if rate < 0 else []:
    for _ in range(MANY):  # one client at a time, so that each finds an idle connection to the server
        s.sendall(REQUEST)
        time.sleep(0.003)
if rate > 0:
    for s in socks:
        s.recv(1)
print("there", flush=True)
if rate > 0:
    while not select.select([sys.stdin], [], [], 0)[0]:
        began = time.monotonic()
        for s in socks:
            try:
                s.recv(rate, socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass
        time.sleep(max(0, began + 1 - time.monotonic()))
elif rate < 0:
    sys.stdin.readline()
    for i, s in enumerate(socks):
        try:
            rest = b""
            for _ in range(MANY):
                rest = whole(s, rest)
        except OSError as e:
            failures += 1
            print(f"connection {i}: {e}", file=sys.stderr)
else:
    sys.stdin.readline()
    for i, s in enumerate(socks):
        try:
            s.sendall(REQUEST)
            whole(s)
        except OSError as e:
            failures += 1
            print(f"connection {i} again: {e}", file=sys.stderr)
print(f"done {failures}", flush=True)
