"""Make the expected values for node/erasure, node/hashtree, node/grid (happiness)
and node/immutable from the installed Tahoe-LAFS and zfec.

    .peers/bin/python tests/vectors/gen_immutable.py [zfec|hashtree|happiness|chk|large|layout ..]

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


def bucket(encoder, n, share):
    """Tahoe's writer of one share, as its uploader makes it."""
    from allmydata.hashtree import IncompleteHashTree
    from allmydata.immutable import layout

    return layout.make_write_bucket_proxy(
        share, RecordingServer(), encoder.get_param("share_size"),
        encoder.get_param("block_size"), encoder.get_param("num_segments"),
        len(IncompleteHashTree(n).needed_hashes(0, include_leaf=True)), encoder.get_uri_extension_size())


async def encode(k, n, segment_size, size):
    """The capability and all shares, made by Tahoe's own uploader."""
    from allmydata import uri
    from allmydata.immutable import encode, upload

    body = upload.Data(pattern(size), CONVERGENCE)
    body.set_default_encoding_parameters(
        {"k": k, "happy": 1, "n": n, "max_segment_size": segment_size})
    if size <= upload.Uploader.URI_LIT_SIZE_THRESHOLD:
        return uri.LiteralFileURI(pattern(size)).to_string(), []
    encoder = encode.Encoder()
    await encoder.set_encrypted_uploadable(upload.EncryptAnUploadable(body))
    shares = {i: RecordedShare() for i in range(n)}
    writers = {i: bucket(encoder, n, share) for i, share in shares.items()}
    encoder.set_shareholders(writers, {i: {b"vectors"} for i in range(n)})
    verify = await encoder.start()
    key = await body.get_encryption_key()
    cap = uri.CHKFileURI(key, verify.uri_extension_hash, k, n, size)
    return cap.to_string(), [bytes(shares[i].data) for i in range(n)]


ENCODINGS = [(1, 1), (1, 3), (2, 3), (3, 10), (7, 10), (22, 30), (71, 255), (101, 256)]


async def record(k, n, segment_size, size, v2=False):
    """One case: the capability, and the hashes of the shares and lease secrets."""
    from allmydata.immutable import layout
    from allmydata.util import hashutil
    from allmydata import uri

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
    return case


async def gen_chk():
    out = []
    for k, n in ENCODINGS:
        for segment_size in (1 << 20, 131072):
            sizes = (0, 1, 55, 56, segment_size - 1, segment_size, segment_size + 1,
                     (2 if segment_size > 131072 else 5) * segment_size + 12345)
            if n > 30 and segment_size > 131072:  # tests under the race detector are slow
                sizes = (segment_size + 1,)
            for size in sizes:
                out.append(await record(k, n, segment_size, size))
    for k, n in [(1, 1), (3, 10)]:
        for size in (56, 300000):
            out.append(await record(k, n, 131072, size, v2=True))
    write("node/immutable/testdata/chk.json", out)


async def gen_large():
    """What tests under the race detector are too slow for: tests/interop compares
    them. Tens of MiB, and many shares of large segments."""
    out = []
    segment = 1 << 20
    for k, n in ENCODINGS:
        sizes = [24 * segment + 12345]
        if n > 30:
            sizes += [56, segment - 1, segment, 2 * segment + 12345]
        if (k, n) == (3, 10):
            sizes += [48 * segment]
        for size in sizes:
            out.append(await record(k, n, segment, size))
    write("node/immutable/testdata/chk-large.json", out)


async def gen_layout():
    """The layout that Tahoe gives shares too large to make: what its writers say
    of header and length. Files of that size are not made, nor are these written."""
    import struct

    from allmydata.immutable import encode, layout, upload
    from twisted.internet import defer

    class Huge(upload.Data):
        """Says its size; nobody reads it."""

        def __init__(self, size):
            super().__init__(b"", CONVERGENCE)
            self.size = size

        def get_size(self):
            return defer.succeed(self.size)

        def get_encryption_key(self):
            return defer.succeed(b"k" * 16)

    async def writer(k, n, segment_size, size):
        body = Huge(size)
        body.set_default_encoding_parameters({"k": k, "happy": 1, "n": n, "max_segment_size": segment_size})
        encoder = encode.Encoder()
        await encoder.set_encrypted_uploadable(upload.EncryptAnUploadable(body))
        return bucket(encoder, n, None)

    layout.FORCE_V2 = False
    out = []
    for k, n in ENCODINGS:
        for segment_size in (1 << 20, 131072):
            # Where Tahoe changes from one layout to the other: by bisection.
            low, high = 1 << 20, k << 33
            while high - low > 1:
                middle = (low + high) // 2
                if isinstance(await writer(k, n, segment_size, middle), layout.WriteBucketProxy_v2):
                    high = middle
                else:
                    low = middle
            for size in (low - k, low, high, high + k, k << 32, (k << 32) + 1, 12 << 30, 13 << 30, 1 << 40):
                w = await writer(k, n, segment_size, size)
                out.append({"K": k, "N": n, "SegmentSize": segment_size, "Size": size,
                            "Version": struct.unpack(">L", w._offset_data[:4])[0],
                            "Header": w._offset_data.hex(), "ShareSize": w.get_allocated_size()})
    write("node/immutable/testdata/layout.json", out)


GENERATORS = {"zfec": gen_zfec, "hashtree": gen_hashtree, "happiness": gen_happiness, "chk": gen_chk, "large": gen_large,
              "layout": gen_layout}


def main():
    import inspect

    from twisted.internet import defer, task

    async def run():  # all in one: a reactor does not start twice
        for name in sys.argv[1:] or list(GENERATORS):
            made = GENERATORS[name]()
            if inspect.isawaitable(made):
                await made

    task.react(lambda reactor: defer.ensureDeferred(run()))


if __name__ == "__main__":
    main()
