"""Make the expected values for node/erasure, node/hashtree, node/grid (happiness)
and node/immutable from the installed Tahoe-LAFS and zfec.

    .peers/bin/python tests/vectors/gen_immutable.py [zfec|hashtree|happiness|chk ..]

Writes into the packages' testdata directories, or below the directory that
WARREN_VECTORS names. Nothing here is random: a second run writes the same bytes
(tests/interop checks that).
"""

import hashlib
import json
import os
import sys

ROOT = os.environ.get("WARREN_VECTORS") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def pattern(size):
    """The plaintext that the Go tests make in the same way."""
    out = bytearray()
    i = 0
    while len(out) < size:
        out += hashlib.sha256(b"warren %d" % i).digest()
        i += 1
    return bytes(out[:size])


def sha(data):
    return hashlib.sha256(data).hexdigest()


def write(path, value):
    path = os.path.join(ROOT, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write("[\n")
        f.write(",\n".join(json.dumps(v, sort_keys=True, separators=(",", ":")) for v in value))
        f.write("\n]\n")
    print(path, len(value), os.path.getsize(path))


def gen_zfec():
    import zfec

    out = []
    for k, n in [(1, 1), (1, 3), (2, 2), (2, 3), (3, 10), (7, 10), (16, 20), (22, 30),
                 (71, 255), (101, 256), (128, 256), (255, 256), (256, 256)]:
        for size in (k, 40 * k - (k > 1)):
            block = -(-size // k)
            data = pattern(size).ljust(block * k, b"\0")
            blocks = zfec.Encoder(k, n).encode([data[i * block:(i + 1) * block] for i in range(k)])
            out.append({"K": k, "N": n, "Size": size, "Sums": [sha(bytes(b)) for b in blocks]})
    write("node/erasure/testdata/zfec.json", out)


def gen_hashtree():
    from allmydata.hashtree import HashTree

    out = []
    for n in (1, 2, 3, 4, 5, 7, 8, 9, 10, 16, 17, 100, 255, 256):
        leaves = [hashlib.sha256(b"leaf %d" % i).digest() for i in range(n)]
        t = HashTree(leaves)
        out.append({
            "Leaves": n,
            "Root": t[0].hex(),
            "Nodes": sha(b"".join(t)),
            "Needed": [sorted(t.needed_hashes(i)) for i in sorted({0, 1 % n, n // 2, n - 1})],
        })
    write("node/hashtree/testdata/hashtree.json", out)


class OrderedSet(dict):
    """A set that iterates in the order of insertion. Tahoe iterates over sets of
    server ids, whose order changes from process to process; with this in place
    of `set` its answer depends on nothing but its arguments."""

    def __init__(self, items=()):
        super().__init__((i, None) for i in items)

    def add(self, item):
        self[item] = None

    def remove(self, item):
        del self[item]

    def pop(self):
        return self.popitem()[0]

    def __sub__(self, other):
        return OrderedSet(i for i in self if i not in other)


def gen_happiness():
    import random
    from allmydata.immutable import happiness_upload
    from allmydata.util.happinessutil import servers_of_happiness

    happiness_upload.set = OrderedSet
    rng = random.Random(20261123)
    out = []
    for case in range(300):
        total = rng.choice([1, 2, 3, 3, 5, 10, 10, 17])
        count = rng.randrange(1, 13)
        names = ["s%02d" % i for i in range(count)]
        rng.shuffle(names)
        fresh = case < 60
        readonly = [] if fresh else [s for s in names if rng.random() < 0.2]
        writable = [s for s in names if s not in readonly]
        held = {}
        if not fresh:
            for s in names:
                if rng.random() < 0.5:
                    held[s] = sorted(rng.sample(range(total), rng.randrange(1, min(total, 4) + 1)))
        got = happiness_upload.share_placement(
            OrderedSet(writable), OrderedSet(readonly), OrderedSet(range(total)),
            {s: OrderedSet(v) for s, v in held.items()})
        # What stands on the grid afterwards: what was there and what could be sent.
        sharemap = {}
        for s, v in held.items():
            for share in v:
                sharemap.setdefault(share, set()).add(s)
        before = servers_of_happiness(sharemap)
        for share, s in got.items():
            if s in writable:
                sharemap.setdefault(share, set()).add(s)
        out.append({"Writable": writable, "Readonly": readonly, "Total": total, "Held": held,
                    "Placed": {str(k): v for k, v in got.items()},
                    "Before": before, "After": servers_of_happiness(sharemap)})
    write("node/grid/testdata/happiness.json", out)


CONVERGENCE = b"convergence secret for vectors!!"
LEASE_SECRET = b"lease secret for the vectors...!"


class RecordedShare:
    """What a storage server would hold: the writes, in order, without holes."""

    def __init__(self):
        self.data = bytearray()

    def callRemote(self, method, *args):
        from twisted.internet import defer

        if method == "write":
            offset, data = args
            assert offset == len(self.data)
            self.data += data
        return defer.succeed(None)


class RecordingServer:
    def get_name(self):
        return "vectors"

    def get_serverid(self):
        return b"vectors"


async def encode(k, n, segment_size, size):
    """The capability and all shares, made by Tahoe's own uploader."""
    from allmydata import uri
    from allmydata.hashtree import IncompleteHashTree
    from allmydata.immutable import encode, layout, upload

    body = upload.Data(pattern(size), CONVERGENCE)
    body.set_default_encoding_parameters(
        {"k": k, "happy": 1, "n": n, "max_segment_size": segment_size})
    if size <= upload.Uploader.URI_LIT_SIZE_THRESHOLD:
        return uri.LiteralFileURI(pattern(size)).to_string(), []
    encoder = encode.Encoder()
    await encoder.set_encrypted_uploadable(upload.EncryptAnUploadable(body))
    chain = len(IncompleteHashTree(n).needed_hashes(0, include_leaf=True))
    shares = {}
    writers = {}
    for i in range(n):
        shares[i] = RecordedShare()
        writers[i] = layout.make_write_bucket_proxy(
            shares[i], RecordingServer(), encoder.get_param("share_size"),
            encoder.get_param("block_size"), encoder.get_param("num_segments"),
            chain, encoder.get_uri_extension_size())
    encoder.set_shareholders(writers, {i: {b"vectors"} for i in range(n)})
    verify = await encoder.start()
    key = await body.get_encryption_key()
    cap = uri.CHKFileURI(key, verify.uri_extension_hash, k, n, size)
    return cap.to_string(), [bytes(shares[i].data) for i in range(n)]


def gen_chk():
    from allmydata.immutable import layout
    from allmydata.util import hashutil
    from allmydata import uri

    out = []

    async def record(k, n, segment_size, size, v2=False):
        layout.FORCE_V2 = v2
        cap, shares = await encode(k, n, segment_size, size)
        sums = [sha(s) for s in shares]
        case = {"K": k, "N": n, "SegmentSize": segment_size, "Size": size, "V2": v2,
                "Cap": cap.decode("ascii"), "ShareSize": len(shares[0]) if shares else 0,
                "Shares": sums if n <= 30 else [],
                # Over the hexadecimal sums, one after the other.
                "All": sha("".join(sums).encode("ascii")) if shares else ""}
        if shares:
            si = uri.from_string(cap).get_storage_index()
            seed = b"vectors of a tub id!"
            renew = hashutil.file_renewal_secret_hash(hashutil.my_renewal_secret_hash(LEASE_SECRET), si)
            cancel = hashutil.file_cancel_secret_hash(hashutil.my_cancel_secret_hash(LEASE_SECRET), si)
            case["Renew"] = hashutil.bucket_renewal_secret_hash(renew, seed).hex()
            case["Cancel"] = hashutil.bucket_cancel_secret_hash(cancel, seed).hex()
        out.append(case)

    async def run():
        for k, n in [(1, 1), (1, 3), (2, 3), (3, 10), (7, 10), (22, 30), (71, 255), (101, 256)]:
            for segment_size in (1 << 20, 131072):
                sizes = (0, 1, 55, 56, segment_size - 1, segment_size, segment_size + 1,
                         (2 if segment_size > 131072 else 5) * segment_size + 12345)
                if n > 30 and segment_size > 131072:  # tests under the race detector are slow
                    sizes = (segment_size + 1,)
                for size in sizes:
                    await record(k, n, segment_size, size)
        for k, n in [(1, 1), (3, 10)]:
            for size in (56, 300000):
                await record(k, n, 131072, size, v2=True)

    _react(run)
    write("node/immutable/testdata/chk.json", out)


def _react(run):
    from twisted.internet import defer, task

    try:
        task.react(lambda reactor: defer.ensureDeferred(run()))
    except SystemExit as e:
        if e.code:
            raise


GENERATORS = {"zfec": gen_zfec, "hashtree": gen_hashtree, "happiness": gen_happiness, "chk": gen_chk}

if __name__ == "__main__":
    for name in sys.argv[1:] or list(GENERATORS):
        GENERATORS[name]()
