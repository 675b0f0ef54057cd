"""A hub of a few kilobytes on a port of its own, for the real client."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34


def handler(repositories, requests):
    """Return the handler; `repositories` is {id: {file: bytes}, "gone" or "gated"}."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            requests.append(self.path)

        def answer(self, content, headers=(), status=200):
            self.send_response(status)
            for name, value in {"Content-Length": len(content), **dict(headers)}.items():
                self.send_header(name, str(value))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            path = self.path.partition("?")[0]
            is_api = path.startswith("/api/models/")
            hub_id = "/".join(path.removeprefix("/api/models").split("/")[1:3])
            files = repositories.get(hub_id, "gone")
            if isinstance(files, str):
                code = {"gone": "RepoNotFound", "gated": "GatedRepo"}[files]
                self.answer(b"", {"X-Error-Code": code}, {"gone": 404, "gated": 403}[files])
            elif is_api:
                self.answer(json.dumps(self.listing(path, hub_id, files)).encode())
            else:
                content = files[path.partition(f"/resolve/{COMMIT}/")[2]]
                etag = hashlib.sha256(content).hexdigest()
                self.answer(content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

        def listing(self, path, hub_id, files):
            if "/tree/" in path:
                return [
                    {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                    for name, content in files.items()
                ]
            named = [{"rfilename": name, "size": len(files[name])} for name in files]
            return {"id": hub_id, "sha": COMMIT, "siblings": named}

    return Handler


@contextmanager
def served(repositories, monkeypatch, cache):
    """Serve repositories to huggingface_hub with an empty cache; yields the paths asked for."""
    requests = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(repositories, requests))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.delenv("SEMEDIT_MODELS", raising=False)
    try:
        yield requests
    finally:
        server.shutdown()
        server.server_close()
