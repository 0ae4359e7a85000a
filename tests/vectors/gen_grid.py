"""Vectors for node/grid, made by the real Tahoe-LAFS.

Run with the peers' Python:  .peers/bin/python tests/vectors/gen_grid.py
Writes node/grid/testdata/permutation.json: announcements of storage servers with
and without a permutation seed, and the order in which Tahoe's storage broker asks
them for several storage indexes, also with peers.preferred set. WARREN_VECTORS
names another directory to write below.
"""

import hashlib
import json
import os

from allmydata.client import config_from_string
from allmydata.storage_client import StorageClientConfig, StorageFarmBroker
from allmydata.util import base32

ROOT = os.environ.get("WARREN_VECTORS") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUT = os.path.join(ROOT, "node", "grid", "testdata")


def sha(text):
    return hashlib.sha256(text.encode("ascii")).digest()


def furl(i):
    tub = base32.b2a(sha("tub %d" % i)[:20]).decode("ascii")
    swissnum = base32.b2a(sha("swissnum %d" % i)[:16]).decode("ascii")
    return "pb://%s@tcp:127.0.0.1:%d/%s" % (tub, 10000 + i, swissnum)


def main():
    config = config_from_string("/nowhere", "", "")
    broker = StorageFarmBroker(True, None, config)
    picky = StorageFarmBroker(True, None, config, StorageClientConfig())
    servers = []
    for i in range(20):
        key = "v0-" + base32.b2a(sha("key %d" % i)).decode("ascii")
        ann = {"anonymous-storage-FURL": furl(i), "nickname": "server %d" % i}
        if i % 3 == 0:
            # As a server of 1.20 announces: its key once more in base32.
            ann["permutation-seed-base32"] = base32.b2a(key[3:].encode("ascii")).decode("ascii")
        elif i % 3 == 1:
            # As an old one does: its tub id, which is also what names it then.
            tub = ann["anonymous-storage-FURL"][5:37]
            ann["permutation-seed-base32"] = tub
            if i % 2:
                key = tub
        elif i == 11:
            key = "an odd name"
        servers.append({"id": key, "announcement": ann})
        broker.test_add_rref(key.encode("ascii"), object(), ann)
        picky.test_add_rref(key.encode("ascii"), object(), ann)
    preferred = [servers[5]["id"], servers[13]["id"]]
    picky.storage_client_config.preferred_peers = [p.encode("ascii") for p in preferred]
    orders = []
    for j in range(8):
        si = sha("storage index %d" % j)[:16]
        orders.append({
            "index": base32.b2a(si).decode("ascii"),
            "servers": [s.get_longname().decode("ascii") for s in broker.get_servers_for_psi(si)],
            "preferred": [s.get_longname().decode("ascii") for s in picky.get_servers_for_psi(si)],
            "lease-seed": base32.b2a(broker.get_servers_for_psi(si)[0].get_lease_seed()).decode("ascii"),
        })
    os.makedirs(OUT, exist_ok=True)
    os.makedirs(OUT, exist_ok=True)
    with open(os.path.join(OUT, "permutation.json"), "w") as f:
        json.dump({"servers": servers, "preferred": preferred, "orders": orders}, f, indent=1)
        f.write("\n")


main()
