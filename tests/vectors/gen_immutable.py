"""Make the expected values for node/erasure, node/hashtree, node/grid (happiness)
and node/immutable from the installed Tahoe-LAFS and zfec.

    /tmp/peers/bin/python tests/vectors/gen_immutable.py [zfec|hashtree|happiness|chk ..]

Writes into the packages' testdata directories. Nothing here is random: a second
run writes the same bytes.
"""

import hashlib
import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


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


GENERATORS = {"zfec": gen_zfec, "hashtree": gen_hashtree}

if __name__ == "__main__":
    for name in sys.argv[1:] or list(GENERATORS):
        GENERATORS[name]()
