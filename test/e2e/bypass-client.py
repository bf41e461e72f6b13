"""ADDRESS PORT THREADS ROUNDS PIPELINED: two requests a round on each connection; with PIPELINED the second is sent at a
random moment, whether the first was answered or not. Prints how many answers came from which server, and what was wrong."""
import json
import random
import socket
import sys
import threading
import time

address, port, threads, rounds, pipelined = sys.argv[1], *map(int, sys.argv[2:6])
servers, wrong = {}, []


class Client:
    def __init__(self, index):
        self.sock = socket.create_connection((address, port))
        self.sock.settimeout(20)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b""
        self.index = index

    def send(self, token, size):
        self.sock.sendall(f"GET /{token}/{size} HTTP/1.1\r\nHost: bypass.test\r\n\r\n".encode())

    def fill(self):
        piece = self.sock.recv(65536)
        if not piece:
            raise OSError("closed")
        self.data += piece

    def answer(self, token, size):
        while b"\r\n\r\n" not in self.data:
            self.fill()
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        if not lines[0].startswith(b"http/1.1 200"):
            raise OSError(f"{token}/{size}: {head[:60]!r}")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        while len(self.data) < length:
            self.fill()
        body, self.data = self.data[:length], self.data[length:]
        server, _, rest = body.partition(b" ")
        if rest != token.encode() + b" " + token[-1:].encode() * size:
            wrong.append(f"{token}/{size}: {head[:60]!r} {body[:60]!r}")
        servers[server.decode()] = servers.get(server.decode(), 0) + 1
        if any(line.startswith(b"connection:") for line in lines):
            wrong.append(f"{token}: a hop-by-hop header")

    def run(self):
        try:
            for n in range(rounds):
                jobs = [(f"{self.index}-{n}{k}", random.choice((0, 1, 100, 5000, 70_000))) for k in "ab"]
                if not pipelined:
                    for job in jobs:
                        self.send(*job)
                        self.answer(*job)
                    continue
                self.send(*jobs[0])
                until = time.perf_counter() + random.random() * 0.0006
                while time.perf_counter() < until:
                    pass
                self.send(*jobs[1])
                for job in jobs:
                    self.answer(*job)
        except Exception as e:
            wrong.append(f"{self.index}: {e!r}")


clients = [Client(i) for i in range(threads)]
running = [threading.Thread(target=c.run) for c in clients]
for t in running:
    t.start()
for t in running:
    t.join()
print(json.dumps({"servers": servers, "wrong": wrong[:5], "faults": len(wrong)}))
