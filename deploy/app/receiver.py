"""A stand-in for PagerDuty and Slack: prints what Alertmanager tells it. `python receiver.py [PORT]`."""

import http.server
import json
import sys


class Receiver(http.server.BaseHTTPRequestHandler):
    """Answers every POST with 200, and writes a line for each alert in it."""

    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["content-length"])))
        for alert in told["alerts"]:
            sys.stdout.write(f"{self.path[1:]}: {alert['status']} {alert['annotations']['summary']}\n")
        sys.stdout.flush()
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Requests are no news."""


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("", int((sys.argv[1:] or ["9099"])[0])), Receiver).serve_forever()
