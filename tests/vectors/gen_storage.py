"""
Share files as Tahoe-LAFS writes them, step by step, into
node/storage/container/testdata/containers.json.

Run with the Python that has Tahoe-LAFS 1.20 installed:
    .peers/bin/python tests/vectors/gen_storage.py
"""

import json
import os
import random
import tempfile

from allmydata.storage import immutable_schema, mutable_schema
from allmydata.storage.immutable import ShareFile
from allmydata.storage.lease import LeaseInfo
from allmydata.storage.mutable import MutableShareFile

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "..", "node", "storage", "container", "testdata", "containers.json")

NODE = bytes(range(100, 120))
ENABLER = b"E" * 32
FAR = 2 ** 62


class Quiet(object):
    def log(self, *args, **kwargs):
        pass


def schema(module, version):
    return next(s for s in module.ALL_SCHEMAS if s.version == version)


def lease(owner, number, expires):
    return LeaseInfo(owner, bytes([number]) * 32, bytes([number + 128]) * 32, expires, NODE)


def contents(path):
    with open(path, "rb") as f:
        return f.read().hex()


def immutable(name, version, size, steps):
    path = os.path.join(tempfile.mkdtemp(), "share")
    share = ShareFile(path, create=True, max_size=size, schema=schema(immutable_schema, version))
    share.add_lease(lease(0, 1, 1000))
    out = [{"op": "create", "size": size, "file": contents(path)}]
    share.write_share_data(0, bytes(i % 251 for i in range(size)))
    out.append({"op": "fill", "file": contents(path)})
    for owner, number, expires in steps:
        opened = ShareFile(path)
        opened.add_or_renew_lease(FAR, lease(owner, number, expires))
        out.append({"op": "lease", "owner": owner, "number": number, "expires": expires, "file": contents(path)})
    return {"name": name, "kind": "immutable", "version": version, "steps": out}


def mutable(name, version, steps):
    path = os.path.join(tempfile.mkdtemp(), "slot")
    share = MutableShareFile(path, Quiet(), schema=schema(mutable_schema, version))
    share.create(NODE, ENABLER)
    out = [{"op": "create", "file": contents(path)}]
    for step in steps:
        opened = MutableShareFile(path, Quiet())
        if step[0] == "lease":
            _, owner, number, expires = step
            opened.add_or_renew_lease(FAR, lease(owner, number, expires))
            out.append({"op": "lease", "owner": owner, "number": number, "expires": expires, "file": contents(path)})
        elif step[0] == "cancel":
            opened.cancel_lease(bytes([step[1] + 128]) * 32)
            out.append({"op": "replace", "file": contents(path)})
        else:
            _, writes, length = step
            opened.writev(writes, length)
            out.append({
                "op": "write",
                "writes": [{"offset": o, "data": d.hex()} for o, d in writes],
                "length": length,
                "file": contents(path),
            })
    return {"name": name, "kind": "mutable", "version": version, "steps": out}


def walk(seed, count):
    """A random but fixed history of a slot."""
    r = random.Random(seed)
    steps = []
    for _ in range(count):
        if r.random() < 0.3:
            steps.append(("lease", r.randrange(1, 5), r.randrange(1, 9), r.randrange(1000, 9000)))
            continue
        writes = [
            (r.randrange(0, 260), bytes(r.randrange(256) for _ in range(r.choice([0, 1, 7, 50, 150]))))
            for _ in range(r.randrange(0, 4))
        ]
        steps.append(("write", writes, r.choice([None, None, None, 1, 30, 120, 400])))
    return steps


def main():
    leases = [(0, 1, 2000), (1, 1, 1500), (1, 2, 3000), (7, 3, 2 ** 32 - 1), (1, 2, 3001), (0, 4, 5)]
    many = [("lease", 1, n, 1000 + n) for n in range(1, 8)]
    cases = []
    for version in (1, 2):
        for size in (0, 1, 72, 100):
            cases.append(immutable("size %d" % size, version, size, leases))
        cases.append(mutable("growth moves the extra leases", version, [
            ("write", [(0, b"first data")], None),
            *many,
            ("write", [(5, b"x" * 40)], None),
            ("lease", 1, 6, 9999),
            ("lease", 1, 6, 9),
            ("write", [(0, b"y" * 500)], None),
            ("lease", 2, 9, 77),
        ]))
        cases.append(mutable("shrinking leaves the container", version, [
            ("write", [(0, b"0123456789" * 10)], None),
            ("write", [], 3),
            ("write", [(50, b"far")], None),
            ("write", [(0, b"abc")], 2),
            ("write", [], 2000),
            ("write", [(2, b"")], None),
            ("write", [(9, b"")], None),
        ]))
        cases.append(mutable("a cancelled lease leaves a slot", version, [
            *many,
            ("cancel", 2),
            ("cancel", 6),
            ("lease", 3, 20, 4000),
            ("lease", 3, 21, 4001),
            ("lease", 3, 22, 4002),
        ]))
        for seed in range(3):
            cases.append(mutable("history %d" % seed, version, walk(seed, 12)))
    os.makedirs(os.path.dirname(OUT), exist_ok=True)
    with open(OUT, "w") as f:
        json.dump({"node": NODE.hex(), "enabler": ENABLER.hex(), "cases": cases}, f, indent=0)
        f.write("\n")


main()
