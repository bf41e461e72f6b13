"""For each line on standard input, a request on a new connection; prints `STATUS PEER BODY`, or the error."""
import sys

from raw import Conn

for line in sys.stdin:
    try:
        conn = Conn(sys.argv[1], sys.argv[2], limit=5)
        conn.sock.settimeout(5)
        status, _, body = conn.get(line.strip())
        print(f"answer {status} {body.decode()}", flush=True)
        conn.close()
    except Exception as e:
        print(f"error {e!r}", flush=True)
