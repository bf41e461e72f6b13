"""ADDRESS PORT NAME DELAY_MS: answers `/TOKEN/BYTES` with NAME, TOKEN and so many bytes; waits before each accept."""
import socket
import sys
import threading
import time

address, port, name, delay = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]) / 1000


def serve(sock):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            piece = sock.recv(65536)
            if not piece:
                return
            data += piece
        head, _, data = data.partition(b"\r\n\r\n")
        _, token, size = head.split(b" ", 2)[1].split(b"/")
        body = name.encode() + b" " + token + b" " + token[-1:] * int(size)
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def thread(sock):
    try:
        serve(sock)
    except OSError:
        pass
    sock.close()


listener = socket.create_server((address, port), backlog=256)
print("listening", flush=True)
while True:
    time.sleep(delay)
    threading.Thread(target=thread, args=(listener.accept()[0],), daemon=True).start()
