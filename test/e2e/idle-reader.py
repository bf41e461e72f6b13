"""Asks for an answer, reads nothing of it for a while, then all: idle-reader.py ADDRESS PORT PATH SECONDS. Prints what came."""
import socket
import sys
import time

address, port, path, seconds = sys.argv[1:]
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
s.settimeout(20)
s.connect((address, int(port)))
s.sendall(f"GET {path} HTTP/1.1\r\nHost: load.test\r\nConnection: keep-alive\r\n\r\n".encode())
time.sleep(float(seconds))
got = b""
end = "open"
try:
    while not got.endswith(b"0123456789END") and not got.endswith(b"0\r\n\r\n"):
        more = s.recv(65536)
        if not more:
            end = "closed"
            break
        got += more
        head, _, body = got.partition(b"\r\n\r\n")
        want = [l for l in head.lower().split(b"\r\n") if l.startswith(b"content-length: ")]
        if want and len(body) == int(want[0][16:]):
            break
except OSError as error:
    end = "reset" if isinstance(error, ConnectionError) else type(error).__name__
print(f"read {len(got.partition(bytes([13, 10, 13, 10]))[2])} {end}", flush=True)
