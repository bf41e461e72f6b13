"""Connections, one job a line: {"id", "op", ...}; answers the same way. What is opened under a name stays open."""
import errno
import hashlib
import json
import socket
import sys
import threading
import time

TIMEOUT = 20
kept = {}
lock = threading.Lock()


def answer(job, **result):
    with lock:
        print(json.dumps({"id": job["id"], **result}), flush=True)


def read_all(sock, most=None):
    """What comes until the end (or `most` bytes), and how it ends."""
    digest, size, head = hashlib.sha256(), 0, b""
    while most is None or size < most:
        try:
            data = sock.recv(262144 if most is None else min(262144, most - size))
        except ConnectionResetError:
            return size, digest.hexdigest(), head, "reset"
        except socket.timeout:
            return size, digest.hexdigest(), head, "timeout"
        if not data:
            return size, digest.hexdigest(), head, "end"
        digest.update(data)
        size += len(data)
        if len(head) < 200:
            head += data
    return size, digest.hexdigest(), head, "open"


def dial(job):
    sock = socket.socket(socket.AF_INET6 if job.get("six") or ":" in job["to"] else socket.AF_INET)
    sock.settimeout(TIMEOUT)
    if job.get("own"):
        sock.bind((job["own"], 0))
    sock.connect((job["to"], job["port"]))
    return sock


def send(sock, job):
    data = job.get("send", "").encode() * job.get("times", 1)

    def write():
        try:
            sock.sendall(data)
            if job.get("half"):
                sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # how it ends is what the reader finds

    writer = threading.Thread(target=write)
    writer.start()
    return writer


def exchange(job):
    begun = time.monotonic()
    try:
        sock = kept.get(job.get("name")) or dial(job)
        peer = "%s %s" % sock.getpeername()[:2]
    except OSError as error:
        return answer(job, error=errno.errorcode.get(error.errno, str(error)), seconds=time.monotonic() - begun)
    writer = send(sock, job)
    size, digest, head, end = read_all(sock, job.get("most"))
    writer.join()
    if job.get("keep"):
        kept[job["keep"]] = sock
    elif job.get("name") is None or job.get("close"):
        kept.pop(job.get("name"), None)
        sock.close()
    answer(job, size=size, digest=digest, head=head[:200].decode("latin1"), end=end, peer=peer)


print("connection-client", flush=True)
for line in sys.stdin:
    threading.Thread(target=exchange, args=(json.loads(line),), daemon=True).start()
