"""Writes node/foolscap/banana/testdata/vectors.json: values as the real Foolscap
serialises them. Run with the peers' Python."""
import json
import os

from foolscap import storage, vocab

EXACT = [
    None, True, False, 0, 1, 127, 128, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 2**100,
    -1, -2**31, -2**31 - 1, -2**63, -2**63 - 1, -2**100, 0.0, 1.5, -2.25, 1e300, float("inf"),
    b"", b"a", b"list", b"x" * 127, b"x" * 128, b"x" * 1000, bytes(range(256)),
    "", "text", "list", "h\u00e9llo", "\U0001f600",
    [], [1, 2, [3, [4]]], (), (1,), (b"a", ("b", None)), {}, {"a": 1}, {b"k": [1], b"l": (3, 4)}, {2: 3},
    {b"http://allmydata.org/tahoe/protocols/introducer/v2": {}, b"application-version": b"tahoe-lafs/1.20.0"},
    set(), {7}, frozenset(), frozenset([b"one"]), [None, True, 1.0, "x", b"x"],
]

def serialize(obj, index):
    b = storage.StorageBanana()
    b.populateVocabTable(vocab.INITIAL_VOCAB_TABLES[index])
    out = []
    storage.serialize(obj, banana=b).addCallback(out.append)
    assert out, obj
    return out[0].hex()

shared = [1, b"two"]
pair = (b"p", b"q")
SHARED = [[shared, shared], [pair, pair, [pair]], {b"a": shared, b"b": shared}]
out = {
    "exact": [{"repr": repr(o), "vocab": i, "hex": serialize(o, i)} for o in EXACT for i in (0, 1)],
    "shared": [{"repr": repr(o), "vocab": i, "hex": serialize(o, i)} for o in SHARED for i in (0, 1)],
    "vocab_hash": {str(i): vocab.hashVocabTable(i) for i in vocab.INITIAL_VOCAB_TABLES},
}
root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
path = os.path.join(root, "node", "foolscap", "banana", "testdata", "vectors.json")
os.makedirs(os.path.dirname(path), exist_ok=True)
with open(path, "w") as f:
    json.dump(out, f, indent=0)
    f.write("\n")
