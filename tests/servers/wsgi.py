"""For gunicorn."""

import os


def app(environ, start_response):
    slot = os.environ.get("CLINIT_SLOT", "-")
    body = f"pid={os.getpid()} slot={slot}\n".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
