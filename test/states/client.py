"""client.py ADDRESS PORT: plays cells of the state table (JSON on standard input: lists of prefix, token, side, point and
event), one after the other because they share connections to the server, and prints what the clients saw. Every wait is
bounded: a hang is printed as one."""
import json
import socket
import struct
import sys
import time

address, port = sys.argv[1], int(sys.argv[2])


class Cell:
    def __init__(self, prefix, token, side, point, event):
        self.prefix, self.token, self.side, self.point, self.event = prefix, token, side, point, event
        self.buffer = b""
        self.end = None
        self.sock = socket.socket()
        self.sock.settimeout(5)

    def request(self, where, body=0):
        head = f"{'POST' if body else 'GET'} {self.prefix}/{where} HTTP/1.1\r\nHost: states.test\r\n"
        if body:
            head += f"Content-Length: {body}\r\n"
        return head.encode() + b"\r\n"

    def more(self):
        if self.end:
            return False
        try:
            data = self.sock.recv(65536)
            self.end = None if data else "closed"
        except (ConnectionResetError, BrokenPipeError):
            self.end = "reset"
        except TimeoutError:
            self.end = "hangs"
        except BlockingIOError:  # a recv that was already waiting when the reset came: the next call tells
            return True
        if not self.end:
            self.buffer += data
        return not self.end

    def answer(self):
        """The next answer's status, with `cut` when its body ends early; None when there is none."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.more():
                return "part of a head" if self.buffer else None
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.lower().split(b"\r\n")
        status = head.split(b" ")[1].decode()
        if b"transfer-encoding: chunked" in lines:
            while b"0\r\n\r\n" not in self.buffer:
                if not self.more():
                    return f"{status} cut"
            self.buffer = self.buffer.split(b"0\r\n\r\n", 1)[1]
            return status
        length = next((int(l.split(b":")[1]) for l in lines if l.startswith(b"content-length:")), None)
        if length is None:
            return f"{status} without a length"
        while len(self.buffer) < length:
            if not self.more():
                return f"{status} cut"
        self.buffer = self.buffer[length:]
        return status

    def outcome(self, status):
        """How the connection is afterwards: it may end by itself, or take another request."""
        seen = [status] if status else []
        if not self.end:
            self.sock.settimeout(0.3)  # an end that follows the answer comes now
            if self.more():
                seen.append("more")
            if self.end == "hangs":
                self.end = None
                self.sock.settimeout(5)
                try:
                    self.sock.sendall(self.request("again/ok/x"))
                    again = self.answer()
                    seen.append("open" if again == "200" else f"then {again} {self.end}")
                except OSError:
                    seen.append("reset")
                return " ".join(seen)
        seen.append(self.end)
        return " ".join(seen)

    def leave(self):
        if self.event == "half-closes":
            self.sock.shutdown(socket.SHUT_WR)
            status = None if self.point in ("answered", "nothing") else self.answer()
            if status is None:
                self.more()
            return self.outcome(status)
        if self.event == "resets":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
        return "-"

    def server_ends(self):
        where = f"{self.token}/{self.point}/{self.event.replace(' ', '-')}"
        if self.point != "body":
            self.sock.sendall(self.request(where))
            return self.outcome(self.answer())
        # no other request can follow on this connection, so only its end is looked for
        self.sock.sendall(self.request(where, 2000) + b"x" * 1000)
        status = self.answer()
        self.sock.settimeout(2.5)
        if not self.end:
            self.more()
        return f"{status} {'open' if self.end == 'hangs' else self.end}"

    def client_ends(self):
        send = self.sock.sendall
        if self.point == "head":
            send(self.request(f"{self.token}/ok/x")[:20])
        elif self.point == "body":
            send(self.request(f"{self.token}/ok/x", 2000) + b"x" * 1000)
        elif self.point == "held":
            send(self.request(f"{self.token}/held/x"))
        elif self.point == "halves":
            send(self.request(f"{self.token}/halves/x"))
            while len(self.buffer) < 3000 and self.more():
                pass
        elif self.point == "answered":
            send(self.request(f"{self.token}/ok/x"))
            self.answer()
        time.sleep(0.03)
        return self.leave()

    def play(self):
        try:
            self.sock.connect((address, port))
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(2):  # from then on there is a connection to the server at hand
                self.sock.sendall(self.request("warm/ok/x"))
                if self.answer() != "200":
                    return "no answer to the warming request"
            return self.server_ends() if self.side == "server" else self.client_ends()
        except OSError as e:
            return f"{type(e).__name__} {e}"


print(json.dumps([Cell(*cell).play() for cell in json.load(sys.stdin)]))
