"""A thread for each connection, and one that binds, listens and accepts: so it
is not the process's first thread that does.

    python3 threaded.py PORT
"""

import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
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
