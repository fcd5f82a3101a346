"""Stands in for the Hugging Face Hub: the endpoints that huggingface_hub's client uses for small
files, over a socket on loopback.

    POST /api/repos/create · POST /api/models/REPO/branch/BRANCH · POST /api/validate-yaml
    POST /api/models/REPO/preupload/REV · POST /api/models/REPO/commit/REV
    GET  /api/models/REPO[/revision/REV] · HEAD and GET /REPO/resolve/REV/PATH

Commits are real: a branch names one, one names its files, and its id is over them. Who may read and
write goes by the token. What it does not do: git, LFS and Xet (every file is `regular`, where the
real Hub takes weights by LFS or Xet), pull requests, quotas, and anything about people. Statuses
and headers of errors are those that the client's `hf_raise_for_status` tells apart.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_double"


@dataclass
class Repo:
    private: bool
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, changed: dict[str, bytes], message: str) -> str:
        files = {**self.commits.get(self.branches.get(branch, ""), {}), **changed}
        facts = [message, self.branches.get(branch), *sorted(files), *files.values()]
        oid = hashlib.sha1(repr(facts).encode()).hexdigest()
        self.commits[oid] = files
        self.branches[branch] = oid
        self.messages.append(message)
        return oid

    def find(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.branches.get(revision)


@dataclass
class HuggingFaceDouble:
    """`repos` may be looked at and changed by a test; `url` is what HF_ENDPOINT is set to."""

    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)

    def add(self, name: str, files: dict[str, bytes], *, gated: bool = False) -> str:
        """A public repository with these files; its commit."""
        self.repos[name] = Repo(private=False, gated=gated)
        return self.repos[name].commit("main", files, "files")


@contextmanager
def hugging_face() -> Iterator[HuggingFaceDouble]:
    double = HuggingFaceDouble()

    class Bound(_Handler):
        hub = double

    server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    double.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: HuggingFaceDouble
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if parts[:2] == ["api", "models"]:
            name = "/".join(parts[2:4])
            revision = parts[5] if parts[4:5] == ["revision"] else "main"
            found = self._readable(name, revision)
            if found is not None:
                self._info(name, *found)
        elif parts[2:3] == ["resolve"]:
            found = self._readable("/".join(parts[:2]), parts[3])
            if found is not None:
                self._file(*found, path="/".join(parts[4:]))
        else:
            self._error(404, "", "no such endpoint")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = urlsplit(self.path).path
        if path == "/api/validate-yaml":
            self._validate(json.loads(body)["content"])
        elif not self._may_write():
            self._error(401, "", "Invalid username or password.")
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        else:
            _, _, owner, name, action, revision = path.strip("/").split("/")
            repo = self.hub.repos.get(f"{owner}/{name}")
            if repo is None:
                self._error(404, "RepoNotFound", "Repository not found")
            elif action == "branch":
                self._branch(repo, unquote(revision))
            elif repo.find(unquote(revision)) is None and unquote(revision) != "main":
                self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            elif action == "preupload":
                self._preupload(repo, unquote(revision), json.loads(body))
            else:
                self._commit(repo, f"{owner}/{name}", unquote(revision), body)

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        url = f"{self.hub.url}/{name}"
        if name in self.hub.repos:
            self._json({"error": "You already created this model repo", "url": url}, 409)
            return
        self.hub.repos[name] = Repo(private=asked.get("visibility") == "private")
        self._json({"url": url, "name": name})

    def _branch(self, repo: Repo, branch: str) -> None:
        if branch in repo.branches:
            self._error(409, "", "Reference already exists")
            return
        repo.branches[branch] = repo.branches.get("main") or repo.commit("main", {}, "initial")
        self._json({})

    def _preupload(self, repo: Repo, revision: str, asked: dict[str, Any]) -> None:
        known = repo.commits.get(repo.find(revision) or "", {})
        self._json(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "regular",
                        "shouldIgnore": False,
                        "oid": _git_oid(known[file["path"]]) if file["path"] in known else None,
                    }
                    for file in asked["files"]
                ]
            }
        )

    def _commit(self, repo: Repo, name: str, revision: str, body: bytes) -> None:
        header, *operations = [json.loads(line) for line in body.splitlines()]
        changed = {}
        for operation in operations:
            assert operation["key"] == "file", "only regular files are spoken here"
            value = operation["value"]
            changed[value["path"]] = base64.b64decode(value["content"])
        oid = repo.commit(revision, changed, header["value"]["summary"])
        url = f"{self.hub.url}/{name}/commit/{oid}"
        self._json({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def _validate(self, card: str) -> None:
        """What the real Hub asks first of a card: a header, and YAML in it."""
        _, header, _ = card.split("---\n", 2)
        try:
            facts = yaml.safe_load(header)
            wrong = [] if isinstance(facts, dict) else ["not a mapping"]
        except yaml.YAMLError as error:
            wrong = [str(error)]
        self._json(
            {"errors": [{"message": text} for text in wrong], "warnings": []}, 400 if wrong else 200
        )

    def _readable(self, name: str, revision: str) -> tuple[Repo, str] | None:
        """A repository and a commit of it; None once the refusal is sent."""
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self._may_write()):
            # The real Hub does not tell strangers a private repository from a missing one.
            status = 404 if self._may_write() else 401
            self._error(status, "RepoNotFound", "Repository not found")
        elif repo.gated:
            self._error(403, "GatedRepo", f"Access to model {name} is restricted")
        elif (oid := repo.find(revision)) is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return repo, oid
        return None

    def _info(self, name: str, repo: Repo, oid: str) -> None:
        files = [{"rfilename": path} for path in sorted(repo.commits[oid])]
        facts = {"id": name, "modelId": name, "sha": oid, "private": repo.private, "gated": False}
        self._json({**facts, "siblings": files, "tags": [], "downloads": 0, "likes": 0})

    def _file(self, repo: Repo, oid: str, path: str) -> None:
        content = repo.commits[oid].get(path)
        if content is None:
            self._error(404, "EntryNotFound", "Entry not found", commit=oid)
            return
        tag = f'"{_git_oid(content)}"'
        self._send(200, content, {"ETag": tag, "X-Repo-Commit": oid})

    def _may_write(self) -> bool:
        return self.headers.get("authorization") == f"Bearer {TOKEN}"

    def _error(self, status: int, code: str, message: str, *, commit: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message, "X-Repo-Commit": commit}
        body = json.dumps({"error": message}).encode()
        self._send(status, body, {key: value for key, value in headers.items() if value})

    def _json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silence: a test says what it saw."""


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
