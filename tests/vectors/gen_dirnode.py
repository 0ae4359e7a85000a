"""Vectors for node/dirnode, made by the real Tahoe-LAFS.

Run with the peers' Python:  /tmp/peers/bin/python tests/vectors/gen_dirnode.py
Writes node/dirnode/testdata/dirnode.json: packed directories, mutable and
immutable, of the same entries; edits with a fixed clock; what Tahoe lists of odd
bytes; and metadata as json.dumps writes it.
"""

import base64
import json
import os
import unicodedata

from allmydata import dirnode, uri
from allmydata.client import SecretHolder
from allmydata.dirnode import Adder, Deleter, MetadataSetter, ONLY_FILES, DirectoryNode, pack_children
from allmydata.interfaces import SDMF_VERSION
from allmydata.nodemaker import NodeMaker
from allmydata.util import jsonbytes
from allmydata.util.hashutil import tagged_hash
from allmydata.util.netstring import netstring

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "..", "node", "dirnode", "testdata")
NOW = 1700000000.1234567


def b64(b):
    return base64.b64encode(b).decode("ascii")


def h(name, n=32):
    return tagged_hash(b"vector", name.encode("ascii"))[:n]


maker = NodeMaker(None, SecretHolder(b"lease", b"convergence"), None, None, None, {"k": 3, "n": 10}, SDMF_VERSION, None)

ssk = uri.WriteableSSKFileURI(h("w1", 16), h("f1"))
mdmf = uri.WriteableMDMFFileURI(h("w2", 16), h("f2"))
dir2 = uri.DirectoryURI(uri.WriteableSSKFileURI(h("w3", 16), h("f3")))
mdir = uri.MDMFDirectoryURI(uri.WriteableMDMFFileURI(h("w4", 16), h("f4")))
chk = uri.CHKFileURI(h("k1", 16), h("u1"), 3, 10, 12345)
dchk = uri.ImmutableDirectoryURI(uri.CHKFileURI(h("k2", 16), h("u2"), 3, 10, 999))
lit = uri.LiteralFileURI(b"small")
dlit = uri.LiteralDirectoryURI(uri.LiteralFileURI(b""))
writekey = h("w3", 16)


def text(u):
    return u.to_string().decode("ascii")


METADATA = [
    '{}',
    '{"a": 1, "b": [1, 2.5, "x"], "c": {"d": null, "e": true, "f": false}}',
    '{"b":1,"a":2}',
    '{"t": 1700000000.1234567, "u": 1e16, "v": 123456789012345678, "w": 1e-5, "x": 0.0001, "y": -0.0, "z": 1e22}',
    '{"name": "caf\u00e9 \\ud83d\\ude00 \\u0000\\u001f\\u007f \\" \\\\ \\/ \\b\\f\\n\\r\\t \u20ac"}',
    '{"lone": "\\ud800", "astral": "\U0001f600"}',
    '{"a": 1, "b": 2, "a": 3}',
    '{"e": [], "o": {}, "n": -0, "f": 1.0, "g": 5e-324, "h": 1.7976931348623157e308, "i": 100000.0, "j": 1E+2}',
    '{"tahoe": {"linkcrtime": 1.5, "linkmotime": 2.5}, "ctime": 3}',
]

# (name, writecap, readcap, metadata)
MUTABLE = [
    ("ssk", text(ssk), None, METADATA[1]),
    ("ssk-ro", None, text(ssk.get_readonly()), METADATA[2]),
    ("mdmf", text(mdmf), None, METADATA[0]),
    ("dir", text(dir2), text(dir2.get_readonly()), METADATA[3]),
    ("dir-ro", None, text(dir2.get_readonly()), METADATA[0]),
    ("mdmf-dir", text(mdir), None, METADATA[0]),
    ("chk", None, text(chk), METADATA[4]),
    ("lit", text(lit), None, METADATA[5]),
    ("dir-chk", None, text(dchk), METADATA[6]),
    ("dir-lit", None, text(dlit), METADATA[7]),
    ("unknown-ro", None, "ro.x-future-read", METADATA[0]),
    ("unknown-bare", None, "x-future-read", METADATA[0]),
    ("unknown-imm", None, "imm.x-future-read", METADATA[0]),
    ("unknown-rw", "x-future-write", "x-future-read", METADATA[0]),
    ("unknown-rw-prefixed", "ro.x-future-read", None, METADATA[0]),
    ("caf\u0065\u0301", None, text(chk), METADATA[0]),
    ("\U0001f600 \u20ac/x", None, text(chk), METADATA[0]),
    ("Z", None, text(chk), METADATA[0]),
    (" ", None, text(chk), METADATA[0]),
]
IMMUTABLE = [
    ("chk", None, text(chk), METADATA[1]),
    ("lit", None, text(lit), METADATA[0]),
    ("dir-chk", None, text(dchk), METADATA[2]),
    ("dir-lit", None, text(dlit), METADATA[8]),
    ("unknown-imm", None, "imm.x-future-read", METADATA[0]),
    ("unknown-ro", None, "ro.x-future-read", METADATA[0]),
    ("unknown-bare", None, "x-future-read", METADATA[0]),
    ("caf\u0065\u0301", None, text(chk), METADATA[3]),
    ("gone", None, None, METADATA[1]),  # magic-folder's delete
]


def enc(s):
    return None if s is None else s.encode("utf-8")


def nodes(entries, deep_immutable):
    out = {}
    for (name, rw, ro, meta) in entries:
        node = maker.create_from_cap(enc(rw), enc(ro), deep_immutable=deep_immutable, name=name)
        node.raise_error()
        out[name] = (node, json.loads(meta))
    return out


def directory(cap):
    return DirectoryNode(maker._create_from_single_cap(cap.get_filenode_cap()), maker, None)


def listed(node, data):
    return [
        {"name": name, "write": (c.get_write_uri() or b"").decode("utf-8"),
         "read": (c.get_readonly_uri() or b"").decode("utf-8"), "metadata": jsonbytes.dumps(m)}
        for name, (c, m) in sorted(node._unpack_contents(data).items())
    ]


def entry(e):
    return {"name": e[0], "write": e[1] or "", "read": e[2] or "", "metadata": e[3]}


rwnode, ronode = directory(dir2), directory(dir2.get_readonly())
immnode = directory(dchk)

packs = []
for group in (MUTABLE, MUTABLE[:1], []):
    data = pack_children(nodes(group, False), writekey)
    packs.append({"immutable": False, "entries": [entry(e) for e in group], "data": b64(data),
                  "listed": listed(rwnode, data), "readonly": listed(ronode, data)})
for group in (IMMUTABLE, IMMUTABLE[1:2], []):
    data = pack_children(nodes(group, True), None, deep_immutable=True)
    packs.append({"immutable": True, "entries": [entry(e) for e in group], "data": b64(data),
                  "listed": listed(immnode, data), "readonly": [],
                  "literal": text(uri.LiteralDirectoryURI(uri.LiteralFileURI(data)))})

base = pack_children(nodes(MUTABLE, False), writekey)
dirnode.time.time = lambda: NOW


def edit(what, modifier, **change):
    try:
        data, error = modifier.modify(base, None, True), ""
    except Exception as e:
        data, error = None, type(e).__name__
    return dict(change, what=what, data=b64(data) if data is not None else None, error=error)


def adder(entries, **kw):
    a = Adder(rwnode, create_readonly_node=rwnode._create_readonly_node, **kw)
    for (name, rw, ro, meta) in entries:
        a.set_node(name, maker.create_from_cap(enc(rw), enc(ro)), None if meta is None else json.loads(meta))
    return a


def adding(what, entries, **kw):
    policy = kw.get("overwrite", True)
    return edit(what, adder(entries, **kw), sets=[dict(entry((e[0], e[1], e[2], e[3] or "")), none=e[3] is None) for e in entries],
                overwrite="only-files" if policy is ONLY_FILES else str(policy).lower())


edits = [
    adding("new", [("new", text(ssk), None, '{"z": 1, "a": 2}')]),
    adding("new without metadata", [("new", text(ssk), None, None)]),
    adding("two", [("new", text(ssk), None, None), ("chk", None, text(lit), None)]),
    adding("replace, keep metadata", [("dir-lit", None, text(lit), None)]),
    adding("replace, new metadata", [("dir-lit", None, text(lit), '{"m": 1, "tahoe": {"x": 1}}')]),
    adding("replace by NFC name", [("caf\u00e9", None, text(lit), None)]),
    adding("no-write", [("nw", text(ssk), None, '{"no-write": true}')]),
    adding("no-write false", [("nw", text(ssk), None, '{"no-write": 0}')]),
    adding("taken", [("chk", None, text(lit), None)], overwrite=False),
    adding("free", [("free", None, text(lit), None)], overwrite=False),
    adding("only files, file", [("chk", None, text(lit), None)], overwrite=ONLY_FILES),
    adding("only files, dir", [("dir", None, text(lit), None)], overwrite=ONLY_FILES),
    adding("only files, unknown", [("unknown-ro", None, text(lit), None)], overwrite=ONLY_FILES),
]
for (name, kw) in (("chk", {}), ("none", {}), ("none", {"must_exist": False}), ("dir", {"must_be_file": True}),
                   ("chk", {"must_be_directory": True}), ("dir", {"must_be_directory": True}),
                   ("unknown-ro", {"must_be_directory": True}), ("cafe\u0301", {})):
    edits.append(edit("delete", Deleter(rwnode, name, **kw), delete=name, options=sorted(kw)))

# metadata that older versions left: ctime, then an edit
oldbase = pack_children({"old": (maker.create_from_cap(enc(text(ssk))), {"ctime": 12.5, "mtime": 13, "k": "v"}),
                         "new": (maker.create_from_cap(enc(text(ssk))), {"tahoe": {"linkmotime": 1, "linkcrtime": 2.5}, "k": 1})}, writekey)
base = oldbase
stamps = [
    adding("ctime kept", [("old", None, text(chk), None)]),
    adding("ctime moves", [("old", None, text(chk), '{"q": 1}')]),
    adding("times", [("new", None, text(chk), None)]),
    adding("times, metadata", [("new", None, text(chk), '{"q": 1}')]),
]

# what Tahoe makes of odd bytes
def raw(name, ro, rw, meta=b"{}"):
    return netstring(netstring(name.encode("utf-8")) + netstring(ro) + netstring(rw) + netstring(meta))


sealed = lambda c: dirnode._encrypt_rw_uri(writekey, c)
odd = []
for what, data in [
    ("padded", raw("a", enc(text(chk)) + b"  ", sealed(enc(text(ssk)) + b"   "))),
    ("no writecap field", raw("a", enc(text(ssk.get_readonly())), b"")),
    ("malformed cap", raw("a", b"URI:CHK:xxx", sealed(b"")) + raw("b", enc(text(chk)), sealed(b""))),
    ("readcap in writecap's place", raw("a", enc(text(chk)), sealed(enc(text(chk))))),
    ("marked ro", raw("a", b"ro." + enc(text(ssk.get_readonly())), sealed(b""))),
    ("lies ro", raw("a", b"ro." + enc(text(ssk)), sealed(b""))),
    ("lies imm", raw("a", b"imm." + enc(text(ssk.get_readonly())), sealed(b""))),
    ("unsorted", raw("b", enc(text(chk)), sealed(b"")) + raw("a", enc(text(lit)), sealed(b""))),
    ("twice", raw("a", enc(text(chk)), sealed(b"")) + raw("a", enc(text(lit)), sealed(b""))),
    ("twice after NFC", raw("\u00e9", enc(text(chk)), sealed(b"")) + raw("e\u0301", enc(text(lit)), sealed(b""))),
    ("unknown rw with imm ro", raw("a", b"imm.x-r", sealed(b"x-w"))),
    ("unknown rw alone", raw("a", b"", sealed(b"x-w"))),
    ("unknown ro in both", raw("a", b"x-r", sealed(b"ro.x-w"))),
    ("verifier", raw("a", enc(text(ssk.get_verify_cap())), sealed(b""))),
    ("no caps", raw("a", b"", sealed(b""))),
    ("metadata with spaces", raw("a", enc(text(chk)), sealed(b""), b' { "x" :1 , "y":[ ] } ')),
]:
    odd.append({"what": what, "data": b64(data), "listed": listed(rwnode, data), "readonly": listed(ronode, data)})
oddimm = []
for what, data in [
    ("mutable in immutable", raw("a", enc(text(ssk.get_readonly())), b"") + raw("b", enc(text(chk)), b"")),
    ("writecap in immutable", raw("a", enc(text(ssk)), b"") + raw("b", enc(text(chk)), b"")),
    ("mutable dir in immutable", raw("a", enc(text(dir2.get_readonly())), b"")),
    ("no caps", raw("a", b"", b"")),
    ("unknown", raw("a", b"x-r", b"") + raw("b", b"imm.x-r", b"") + raw("c", b"ro.x-r", b"")),
]:
    oddimm.append({"what": what, "data": b64(data), "listed": listed(immnode, data), "readonly": []})

os.makedirs(OUT, exist_ok=True)
with open(os.path.join(OUT, "dirnode.json"), "w") as f:
    json.dump({
        "write": text(dir2), "now": repr(NOW), "packs": packs, "base": packs[0]["data"], "edits": edits,
        "oldbase": b64(oldbase), "stamps": stamps, "odd": odd, "oddimm": oddimm,
        "metadata": [{"in": m, "out": jsonbytes.dumps(json.loads(m))} for m in METADATA],
    }, f, indent=1)
    f.write("\n")
print(len(packs), len(edits), len(odd))
