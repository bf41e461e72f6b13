"""server.py ADDRESS PORT: an HTTP/1.1 server that behaves as the path says, and notices two requests on one connection.

/echo/N, /wait/MS/N         answers N (after MS milliseconds)
/fin/N, /finlater/US/N      answers N and closes: the FIN in the answer's segment, or US microseconds after it
/reset/N, /silence          resets instead of an answer; never answers
/size/BYTES/N               BYTES of the pattern by content-length
/chunks/BYTES/SIZE/US/N     in chunks of SIZE, with US microseconds after each write (0: none, and 64 chunks a write)
/untilclose/BYTES           delimited by the end of the connection
/half/length|chunked|big    the first part of an answer, and then nothing
A leading /p or /t is ignored. /control/stats and /control/close-idle are for the test itself.
"""
import json
import socket
import struct
import sys
import threading
import time

from raw import body_piece

lock = threading.Lock()
connections = {}
stats = {"accepted": 0, "requests": 0, "overlaps": 0, "closed_idle": 0}


def head(status="200 OK", **headers):
    lines = [f"HTTP/1.1 {status}"] + [f"{k.replace('_', '-')}: {v}" for k, v in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def plain(text):
    data = text.encode()
    return head(content_length=len(data)) + data


def send_body(sock, size):
    at = 0
    while at < size:
        piece = body_piece(at, min(262144, size - at))
        sock.sendall(piece)
        at += len(piece)


def send_chunks(sock, size, chunk, pause):
    at, out = 0, []
    while at < size:
        data = body_piece(at, min(chunk, size - at))
        out.append(b"%x\r\n%b\r\n" % (len(data), data))
        at += len(data)
        if pause or len(out) >= 64:
            sock.sendall(b"".join(out))
            out = []
            if pause:
                time.sleep(pause / 1e6)
    sock.sendall(b"".join(out) + b"0\r\n\r\n")


def close_idle():
    with lock:
        idle = [c for c, state in connections.items() if state["idle"]]
        stats["closed_idle"] += len(idle)
    for sock in idle:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
    return len(idle)


def answer(sock, path):
    """Returns whether the connection goes on."""
    parts = path.strip("/").split("/")
    if parts[0] in ("p", "t"):
        parts = parts[1:]
    kind, args = parts[0], parts[1:]
    if kind == "control":
        if args[0] == "close-idle":
            sock.sendall(plain(str(close_idle())))
        else:
            sock.sendall(plain(json.dumps({**stats, "open": len(connections)})))
        return True
    if kind == "echo":
        sock.sendall(plain(args[-1]))
    elif kind == "wait":
        time.sleep(int(args[0]) / 1000)
        sock.sendall(plain(args[-1]))
    elif kind == "fin":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        sock.sendall(plain(args[-1]))
        sock.shutdown(socket.SHUT_WR)
        return False
    elif kind == "finlater":
        sock.sendall(plain(args[-1]))
        time.sleep(int(args[0]) / 1e6)
        return False
    elif kind == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False
    elif kind == "silence":
        time.sleep(30)
        return False
    elif kind == "size":
        sock.sendall(head(content_length=args[0]))
        send_body(sock, int(args[0]))
    elif kind == "chunks":
        sock.sendall(head(transfer_encoding="chunked"))
        send_chunks(sock, int(args[0]), int(args[1]), int(args[2]))
    elif kind == "untilclose":
        sock.sendall(head(connection="close"))
        send_body(sock, int(args[0]))
        return False
    elif kind == "half":
        if args[0] == "length":
            sock.sendall(head(content_length=1000) + b"x" * 500)
        elif args[0] == "chunked":
            sock.sendall(head(transfer_encoding="chunked") + b"5\r\nhello\r\n")
        else:
            sock.sendall(head(content_length=20_000_000) + body_piece(0, 65536))
        time.sleep(30)
        return False
    else:
        sock.sendall(head("404 Not Found", content_length=0))
    return True


def serve(sock):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    state = {"idle": True}
    with lock:
        connections[sock] = state
        stats["accepted"] += 1
    rest = b""
    try:
        while True:
            while b"\r\n\r\n" not in rest:
                state["idle"] = not rest
                data = sock.recv(65536)
                if not data:
                    return
                rest += data
            state["idle"] = False
            request, rest = rest.split(b"\r\n\r\n", 1)
            first, *lines = request.decode("latin1").split("\r\n")
            length = sum(int(line[15:]) for line in lines if line.lower().startswith("content-length:"))
            chunked = any(line.lower().replace(" ", "") == "transfer-encoding:chunked" for line in lines)
            while chunked and not rest.endswith(b"0\r\n\r\n") or len(rest) < length:
                data = sock.recv(65536)
                if not data:
                    return
                rest += data
            rest = b"" if chunked else rest[length:]
            if "/control/" not in first:
                stats["requests"] += 1
                try:  # a second request before this one is answered?
                    early = sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                except BlockingIOError:
                    early = b""
                if rest or early:
                    stats["overlaps"] += 1
            if not answer(sock, first.split(" ")[1]):
                return
    except OSError:
        pass
    finally:
        with lock:
            del connections[sock]
        sock.close()


listener = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=4096)
print("listening", flush=True)
while True:
    client, _ = listener.accept()
    threading.Thread(target=serve, args=(client,), daemon=True).start()
