"""Vectors for magicfolder/snapshot from the real magic-folder 24.3.

Run with the Python of the peers' environment, from the project's root:

    PYTHON tests/vectors/gen_magicfolder.py

It writes magicfolder/snapshot/testdata/*.json: snapshots written by
magic_folder.snapshot on a grid that is a dictionary, authors that it takes and
refuses, and mangled paths. Keys and caps come from fixed seeds, so running it
again changes nothing.

With the argument "verify" it reads snapshots from standard input, in the form of
snapshots.json, and reads each with magic_folder.snapshot instead; it prints what
that code saw, or its error.
"""

import base64
import hashlib
import json
import os
import sys
import tempfile

from allmydata import uri
from nacl.encoding import Base64Encoder
from nacl.signing import SigningKey
from twisted.internet.defer import Deferred, succeed
from twisted.python.filepath import FilePath

from magic_folder import snapshot as real
from magic_folder.magicpath import InvalidMangledPath, magic2path, path2magic
from magic_folder.util.capabilities import Capability

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NOW = 1700000001


def value(d):
    """The result of a Deferred that has fired."""
    if not isinstance(d, Deferred):
        return d
    out = []
    d.addBoth(out.append)
    if not out:
        raise RuntimeError("a Deferred has not fired")
    if hasattr(out[0], "raiseException"):
        out[0].raiseException()
    return out[0]


class Now:
    """Runs cooperative work at once."""

    def cooperate(self, work):
        for _ in work:
            pass

        class Task:
            def whenDone(self):
                return succeed(None)

        return Task()


class Grid:
    """What magic-folder's Tahoe client does, on dictionaries."""

    def __init__(self):
        self.files = {}
        self.dirs = {}

    def _chk(self, kind, seed, size):
        h = hashlib.sha256(seed).digest()
        key, ueb = h[:16], hashlib.sha256(h).digest()
        cap = uri.CHKFileURI(key, ueb, 3, 5, size)
        if kind == "dir":
            return uri.ImmutableDirectoryURI(cap).to_string().decode("ascii")
        return cap.to_string().decode("ascii")

    def create_immutable(self, producer):
        if isinstance(producer, bytes):
            data = producer
        else:
            # a FileBodyProducer
            data = producer._inputFile.read()
        if len(data) <= 55:
            cap = uri.LiteralFileURI(data).to_string().decode("ascii")
        else:
            cap = self._chk("file", data, len(data))
        self.files[cap] = data
        return succeed(Capability.from_string(cap))

    def create_immutable_directory(self, data):
        raw = json.dumps(data)
        cap = self._chk("dir", raw.encode("utf8"), len(raw))
        self.dirs[cap] = json.loads(raw)
        return succeed(Capability.from_string(cap))

    def directory_data(self, cap):
        children = {}
        for name, (kind, node) in self.dirs[cap.danger_real_capability_string()].items():
            node = dict(node)
            if node.get("ro_uri", "absent") is None:
                # the real web API leaves the key of an empty cap out
                del node["ro_uri"]
            children[name] = [kind, node]
        return succeed({"children": children})

    def download_file(self, cap):
        return succeed(self.files[cap.danger_real_capability_string()])


def describe(grid, cap):
    d = grid.dirs[cap]
    meta = d["metadata"][1]["ro_uri"]
    return {
        "cap": cap,
        "content": d["content"][1]["ro_uri"] or "",
        "content_metadata": json.dumps(d["content"][1]["metadata"]),
        "metadata_cap": meta,
        "metadata_metadata": json.dumps(d["metadata"][1]["metadata"]),
        "metadata": base64.b64encode(grid.files[meta]).decode("ascii"),
    }


def snapshots():
    real.time.time = lambda: NOW + 0.5
    out = []
    grid = Grid()
    names = ["alice", "bob", "Zo\u00eb", "\u05d0\u05d1", "a b\"c\\d"]
    relpaths = [
        "notes.txt", "dir/sub/file", "@at", "a@_b", "line\nbreak", "tab\t\x7f\x01", "quote\"back\\slash",
        "\u00fcml\u00e4ut", "e\u0301", "\u05e9\u05dc\u05d5\u05dd", "\U0001f600 smile", "x" * 255, "/".join(["d" * 50] * 20),
        " lead and trail ", "caf\u00e9/\u2028sep", "\ufffd", "%41&<>",
    ]
    with tempfile.TemporaryDirectory() as stash:
        for i, relpath in enumerate(relpaths):
            seed = hashlib.sha256(b"author %d" % (i % len(names))).digest()
            author = real.LocalAuthor(names[i % len(names)], SigningKey(seed))
            parents = None
            for version, content in enumerate([b"short", b"longer than a literal file may be, by some bytes more" * (i + 1), None, b""]):
                path = os.path.join(stash, "in")
                if content is not None:
                    with open(path, "wb") as f:
                        f.write(content)
                local = value(real.create_snapshot(
                    relpath, author, None if content is None else open(path, "rb"), FilePath(stash),
                    raw_remote_parents=parents, modified_time=1500000000 + 97 * i + version, cooperator=Now()))
                remote = value(real.write_snapshot_to_tahoe(local, author, grid))
                cap = remote.capability.danger_real_capability_string()
                parents = [cap] if version < 2 else [cap] + (parents or [])
                out.append(dict(
                    describe(grid, cap), seed=seed.hex(), author=author.name, relpath=relpath,
                    verify_key=author.verify_key.encode(encoder=Base64Encoder).decode("ascii"),
                    modified=1500000000 + 97 * i + version, created=NOW,
                    parents=[p for p in remote.parents_raw]))
                # what it wrote, it reads
                value(real.create_snapshot_from_capability(remote.capability, grid))
    return out


def mangled():
    paths = ["a", "a/b", "@", "@@", "@_", "/", "a@b/c@/d", "@metadata", "x@_y", "\u00fc/\u05d0", "line\nbreak/@", "_", "a/_@/"]
    names = ["a@", "@x", "@metadata", "a@\u00fc", "@@@", "@@_", "@_@@", "@@@@"]
    out = {"paths": [{"path": p, "mangled": path2magic(p)} for p in paths], "names": []}
    for p in paths:
        assert magic2path(path2magic(p)) == p
    for n in names:
        try:
            out["names"].append({"name": n, "path": magic2path(n)})
        except InvalidMangledPath:
            out["names"].append({"name": n, "path": None})
    return out


def authors():
    key = SigningKey(bytes(32)).verify_key.encode(encoder=Base64Encoder).decode("ascii")
    cases = [
        {"name": "a", "verify_key": key}, {"name": "a"}, {"verify_key": key}, {"name": "a", "verify_key": key, "x": 1},
        {"name": "a", "verify_key": key[:-4]}, {"name": "a", "verify_key": "!" + key[1:]}, {"name": "a", "verify_key": ""}, {},
        {"name": 1, "verify_key": key}, {"name": "a", "verify_key": 1},
    ]
    out = []
    for c in cases:
        try:
            real.create_author_from_json(c)
            out.append({"author": c, "ok": True})
        except Exception:
            out.append({"author": c, "ok": False})
    return out


def verify():
    for case in json.load(sys.stdin):
        grid = Grid()
        grid.files[case["metadata_cap"]] = base64.b64decode(case["metadata"])
        grid.dirs[case["cap"]] = {
            "content": ["filenode", {"ro_uri": case["content"] or None, "metadata": json.loads(case["content_metadata"])}],
            "metadata": ["filenode", {"ro_uri": case["metadata_cap"], "metadata": json.loads(case["metadata_metadata"])}],
        }
        try:
            s = value(real.create_snapshot_from_capability(Capability.from_string(case["cap"]), grid))
            print(json.dumps({
                "relpath": s.relpath, "author": s.author.name,
                "verify_key": s.author.verify_key.encode(encoder=Base64Encoder).decode("ascii"),
                "content": s.content_cap.danger_real_capability_string() if s.content_cap else "",
                "modified": s.metadata["modification_time"], "parents": s.parents_raw,
                "encoded": base64.b64encode(json.dumps(s.metadata).encode("utf8")).decode("ascii")}))
        except Exception as e:
            print(json.dumps({"error": "{}: {}".format(type(e).__name__, e)}))


def write(name, content):
    folder = os.path.join(ROOT, "magicfolder", "snapshot", "testdata")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "w") as f:
        json.dump(content, f, indent=1, sort_keys=True)
        f.write("\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["verify"]:
        verify()
    else:
        write("snapshots.json", snapshots())
        write("mangled.json", mangled())
        write("authors.json", authors())
