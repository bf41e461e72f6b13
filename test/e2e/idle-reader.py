"""
Asks for an answer, reads nothing of it for a while, then all: idle-reader.py ADDRESS PORT PATH SECONDS. Prints how much of the
body came, without framing, and how it ended.
"""
import http.client
import socket
import sys
import time

address, port, path, seconds = sys.argv[1:]
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
s.settimeout(20)
s.connect((address, int(port)))
s.sendall(f"GET {path} HTTP/1.1\r\nHost: load.test\r\n\r\n".encode())
time.sleep(float(seconds))
got, end = 0, "whole"
try:
    answer = http.client.HTTPResponse(s, method="GET")
    answer.begin()
    while more := answer.read(65536):
        got += len(more)
    if answer.length:
        end = "cut"
except (ConnectionError, http.client.HTTPException):
    end = "cut"
print(f"read {got} {end}", flush=True)
