"""Vectors for node/mutable, made by the real Tahoe-LAFS.

Run with the peers' Python:  /tmp/peers/bin/python tests/vectors/gen_mutable.py
Writes to node/mutable/testdata: key.json, one recorded test key; sdmf.json, for several
sizes and encodings the shares that allmydata.mutable.publish writes for it, with
the server and the test vector of each write, and a new version over an old one;
mdmf.json, the same of MDMF with the hashes of large shares, and what changes in
place make of them. Salts are those of salt() below, in order.
"""

import base64
import hashlib
import json
import os

from twisted.internet import defer, task

from allmydata.crypto import rsa
from allmydata.interfaces import SDMF_VERSION, MDMF_VERSION
from allmydata.mutable import publish
from allmydata.mutable.publish import MutableData
from allmydata.nodemaker import NodeMaker
from allmydata.client import SecretHolder
from allmydata.util import hashutil, base32

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "..", "node", "mutable", "testdata")


def b64(b):
    return base64.b64encode(b).decode("ascii")


def contents(size):
    return bytes((i * 7 + i // 251) % 256 for i in range(size))


class Slots(object):
    """One server's mutable slots, with real tests."""

    def __init__(self):
        self.shares = {}
        self.writes = []

    def slot_readv(self, storage_index, shnums, readv):
        return defer.succeed({
            n: [d[o:o + l] for (o, l) in readv]
            for n, d in self.shares.items() if not shnums or n in shnums
        })

    def slot_testv_and_readv_and_writev(self, storage_index, secrets, tw, readv):
        self.writes.append((secrets, tw))
        reads = {n: [d[o:o + l] for (o, l) in readv] for n, d in self.shares.items()}
        for n, (testv, writev, new_length) in tw.items():
            for t in testv:
                offset, length, specimen = t[0], t[1], t[-1]
                if self.shares.get(n, b"")[offset:offset + length] != specimen:
                    return defer.succeed((False, reads))
        for n, (testv, writev, new_length) in tw.items():
            assert new_length is None
            share = bytearray() if writev[0] == (0, writev[0][1]) and len(writev) == 1 else bytearray(self.shares.get(n, b""))
            for offset, data in writev:
                share.extend(bytes(max(0, offset - len(share))))
                share[offset:offset + len(data)] = data
            self.shares[n] = bytes(share)
        return defer.succeed((True, reads))

    def advise_corrupt_share(self, *a):
        raise AssertionError("corrupt?")


class Server(object):
    def __init__(self, i, seed=None):
        self.slots = Slots()
        self.seed = seed or hashutil.tagged_hash(b"server", b"%d" % i)[:20]

    def get_storage_server(self):
        return self.slots

    def get_serverid(self):
        return base32.b2a(self.seed)

    get_name = get_longname = lambda self: self.get_serverid().decode("ascii")

    def get_lease_seed(self):
        return self.seed

    get_foolscap_write_enabler_seed = get_lease_seed

    def upload_permitted(self):
        return True

    def __lt__(self, other):
        return self.seed < other.seed


class Broker(object):
    def __init__(self, servers):
        self.servers = servers

    def get_servers_for_psi(self, si, for_upload=False):
        return sorted(self.servers, key=lambda s: hashutil.permute_server_hash(si, s.seed))


LEASE_SECRET = b"a lease secret for the vectors, fixed"[:32]


@defer.inlineCallbacks
def case(keypair, size, k, n, nservers, again=None):
    servers = [Server(i) for i in range(nservers)]
    maker = NodeMaker(Broker(servers), SecretHolder(LEASE_SECRET, b"convergence"), None, None, None,
                      {"k": k, "n": n}, SDMF_VERSION, None)
    node = yield maker.create_mutable_file(MutableData(contents(size)), version=SDMF_VERSION, keypair=keypair)
    if again is not None:
        yield node.overwrite(MutableData(contents(again)))
        size = again
    broker = maker.storage_broker
    shares = []
    for i, s in enumerate(broker.get_servers_for_psi(node.get_storage_index())):
        for num in sorted(s.slots.shares):
            (we, renew, cancel), tw = [w for w in s.slots.writes if num in w[1]][-1]
            testv = tw[num][0]
            shares.append({
                "server": i, "seed": s.seed.hex(), "num": num, "share": b64(s.slots.shares[num]),
                "test": [[t[0], t[1], b64(t[-1])] for t in testv],
                "write_enabler": we.hex(), "renew": renew.hex(), "cancel": cancel.hex(),
            })
    return {
        "size": size, "k": k, "n": n, "servers": nservers,
        "write": node.get_uri().decode("ascii"),
        "read": node.get_readonly_uri().decode("ascii"),
        "verify": node.get_verify_cap().to_string().decode("ascii"),
        "index": base32.b2a(node.get_storage_index()).decode("ascii"),
        "shares": shares,
    }


class Salts(object):
    """Stands for the module os in publish, which takes its salts from there."""

    SEEK_END = os.SEEK_END

    def __init__(self):
        self.count = 0

    def urandom(self, n):
        self.count += 1
        return hashlib.sha256(b"salt %d" % (self.count - 1)).digest()[:n]


@defer.inlineCallbacks
def mdmf_case(keypair, size, k, n, updates=(), whole=False):
    publish.os = Salts()
    servers = [Server(i) for i in range(n)]
    maker = NodeMaker(Broker(servers), SecretHolder(LEASE_SECRET, b"convergence"), None, None, None,
                      {"k": k, "n": n}, SDMF_VERSION, None)
    node = yield maker.create_mutable_file(MutableData(contents(size)), version=MDMF_VERSION, keypair=keypair)
    for (offset, length) in updates:
        version = yield node.get_best_mutable_version()
        yield version.update(MutableData(contents(length)), offset)
    publish.os = os
    shares = {}
    for s in servers:
        for num, b in s.slots.shares.items():
            shares[num] = b
            assert [t for (_, tw) in s.slots.writes for t in tw[num][0]][0][:2] == (0, 1)
    assert sorted(shares) == list(range(n))
    b = shares[0]
    signature, key = int.from_bytes(b[75:83], "big"), int.from_bytes(b[83:91], "big")
    return {
        "size": size, "k": k, "n": n, "updates": [list(u) for u in updates],
        "write": node.get_uri().decode("ascii"),
        "read": node.get_readonly_uri().decode("ascii"),
        "verify": node.get_verify_cap().to_string().decode("ascii"),
        "signature": b64(b[signature:key]),
        "sha256": [hashlib.sha256(shares[i]).hexdigest() for i in range(n)],
        "shares": [b64(shares[i]) for i in range(n)] if whole else [],
    }


@defer.inlineCallbacks
def mdmf(keypair):
    cases = []
    for (k, n) in ((1, 1), (3, 5), (3, 10), (7, 10)):
        segment = -(-131072 // k) * k
        for size in (0, 1, segment - 1, segment, segment + 1, 5 * segment + 77):
            whole = size < 2 and (k, n) == (3, 5)
            cases.append((yield mdmf_case(keypair, size, k, n, whole=whole)))
    cases.append((yield mdmf_case(keypair, (24 << 20) + 5, 2, 3)))
    # Tahoe itself fails to append to an empty file or at the end of a full segment.
    s = 131073  # the segment of k=3
    for size, updates in (
            (4 * s, [(0, 10)]), (4 * s, [(s, s)]), (4 * s, [(s - 1, 2)]), (4 * s, [(2 * s + 5, s)]),
            (4 * s - 9, [(4 * s - 9, 5)]), (100, [(100, 5 * s)]),
            (3 * s, [(s + 7, 3 * s)]), (2 * s + 3, [(5, 6), (2 * s, 9), (2 * s + 9, 4 * s)])):
        cases.append((yield mdmf_case(keypair, size, 3, 5, updates)))
    with open(os.path.join(OUT, "mdmf.json"), "w") as f:
        json.dump({"cases": cases}, f, indent=0)
        f.write("\n")
    print(len(cases), "cases of MDMF")


@defer.inlineCallbacks
def main(_reactor):
    path = os.path.join(OUT, "key.json")
    if os.path.exists(path):
        der = base64.b64decode(json.load(open(path))["private"])
    else:
        der = rsa.der_string_from_signing_key(rsa.create_signing_keypair(2048)[0])
    private, public = rsa.create_signing_keypair_from_string(der)
    os.makedirs(OUT, exist_ok=True)
    with open(path, "w") as f:
        json.dump({"comment": "a test key, worthless", "private": b64(der),
                   "public": b64(rsa.der_string_from_verifying_key(public))}, f, indent=1)
    cases = []
    for size in (0, 1, 2, 55, 1000):
        for (k, n, servers) in ((1, 1, 1), (3, 5, 5), (3, 10, 4)):
            if n == 10 and size not in (0, 55):
                continue  # keep the file small
            cases.append((yield case((public, private), size, k, n, servers)))
    cases.append((yield case((public, private), 20000, 2, 3, 3)))
    cases.append((yield case((public, private), 400, 3, 5, 5, again=100)))
    with open(os.path.join(OUT, "sdmf.json"), "w") as f:
        json.dump({"lease_secret": b64(LEASE_SECRET), "cases": cases}, f, indent=0)
        f.write("\n")
    print(len(cases), "cases")
    yield mdmf((public, private))


if __name__ == "__main__":
    task.react(main)
