"""
TLS connections, one job a line: {"id", "to", "port", "name", "protocols", "cut", "send", "times"}; or what "pieces" (hexadecimal)
say, as they are. Answers the same way. What is opened under a name ("keep") stays open, and goes on as "of".
"""
import hashlib
import json
import socket
import ssl
import sys
import threading
import time

TIMEOUT = 20
kept = {}
lock = threading.Lock()


def answer(job, **result):
    with lock:
        print(json.dumps({"id": job["id"], **result}), flush=True)


class Connection:
    def __init__(self, job):
        self.sock = socket.create_connection((job["to"], job["port"]), TIMEOUT)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.cut = job.get("cut")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if job.get("protocols"):
            context.set_alpn_protocols(job["protocols"])
        self.inward, self.outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.inward, self.outward, server_hostname=job.get("name"))
        self.hello = 0

    def flush(self):
        data = self.outward.read()
        self.hello = self.hello or len(data)
        step = self.cut or len(data)
        self.cut = None  # of the ClientHello only
        for at in range(0, len(data), step or 1):
            if at:
                time.sleep(0.03)
            self.sock.sendall(data[at : at + step])

    def do(self, what):
        while True:
            try:
                result = what()
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                data = self.sock.recv(262144)
                if not data:
                    raise EOFError from None
                self.inward.write(data)


def exchange(job):
    c = kept.get(job.get("of"))
    try:
        if not c:
            c = Connection(job)
            c.do(c.tls.do_handshake)
        data = job.get("send", "").encode() * job.get("times", 1)
        got, sent, most = b"", 0, len(data) + job.get("greeting", 0)
        while sent < len(data) or len(got) < most:
            if sent < len(data):
                c.do(lambda: c.tls.write(data[sent : sent + 65536]))
                sent += 65536
            if len(got) < most:
                got += c.do(lambda: c.tls.read(262144))
    except (OSError, EOFError) as error:
        return answer(job, error=type(error).__name__, hello=c.hello if c else 0)
    if job.get("keep"):
        kept[job["keep"]] = c
    else:
        c.sock.close()
    head = got.split(b"\n")[0][:100].decode("latin1")
    answer(job, size=len(got), digest=hashlib.sha256(got).hexdigest(), head=head, hello=c.hello)


def raw(job):
    got, end = b"", "end"
    try:
        sock = socket.create_connection((job["to"], job["port"]), TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        time.sleep(job.get("wait", 0))
        for index, piece in enumerate(job["pieces"]):
            if index:
                time.sleep(0.03)
            sock.sendall(bytes.fromhex(piece))
        # a client that ends its side before Envoy has looked at its first bytes is reset there
        while True:
            data = sock.recv(262144)
            if not data:
                break
            if not got:
                sock.shutdown(socket.SHUT_WR)
            got += data
        sock.close()
    except OSError as error:
        end = type(error).__name__
    answer(job, size=len(got), digest=hashlib.sha256(got).hexdigest(), head=got.split(b"\n")[0][:100].decode("latin1"), end=end)


print("tls-client", flush=True)
for line in sys.stdin:
    task = json.loads(line)
    threading.Thread(target=raw if "pieces" in task else exchange, args=(task,), daemon=True).start()
