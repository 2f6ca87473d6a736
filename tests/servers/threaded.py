"""A thread for each connection, and one that binds, listens and accepts: so it
is not the process's first thread that does.

    [DELAY_MS=N] [KEEP_ALIVE=1] python3 threaded.py PORT

DELAY_MS: each answer takes so long. KEEP_ALIVE: connections are kept.
"""

import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1" if "KEEP_ALIVE" in os.environ else "HTTP/1.0"

    def do_GET(self):
        time.sleep(int(os.environ.get("DELAY_MS", 0)) / 1000)
        slot = os.environ.get("CLINIT_SLOT", "-")
        body = f"pid={os.getpid()} slot={slot}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def serve():
    try:
        ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
    except OSError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(1)


thread = threading.Thread(target=serve)
thread.start()
thread.join()
