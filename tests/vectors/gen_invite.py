"""Writes the test vectors of the invite rooms, from the real programs.

    /path/to/peers/bin/python tests/vectors/gen_invite.py

Output: invite/wormhole/testdata/wormhole.json, from python-spake2 and
magic-wormhole. The randomness is seeded: a second run writes the same file.
"""
import hashlib
import json
import os
import random

from nacl.secret import SecretBox
from spake2 import SPAKE2_Symmetric
from spake2.parameters.ed25519 import ParamsEd25519
from wormhole._key import derive_key, derive_phase_key
from wormhole._wordlist import byte_to_even_word, byte_to_odd_word
from wormhole.util import to_bytes

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
rng = random.Random("warren invite vectors")


def entropy(n):
    return rng.randbytes(n)


def scalar(x):
    return x.xy_scalar.to_bytes(32, "little").hex()


def exchange(code, appid, side_a, side_b):
    a = SPAKE2_Symmetric(to_bytes(code), idSymmetric=to_bytes(appid), entropy_f=entropy)
    b = SPAKE2_Symmetric(to_bytes(code), idSymmetric=to_bytes(appid), entropy_f=entropy)
    ma, mb = a.start(), b.start()
    key = a.finish(mb)
    assert key == b.finish(ma)
    phases = []
    for side, phase, plain in [
        (side_a, "version", b'{"app_versions": {}}'),
        (side_b, "0", b'{"abilities": {"client-v1": {}}}'),
        (side_a, "1", b""),
        (side_b, "11", bytes(range(256)) * 4),
    ]:
        k = derive_phase_key(key, side, phase)
        phases.append({
            "side": side,
            "phase": phase,
            "key": k.hex(),
            "plain": plain.hex(),
            "sealed": SecretBox(k).encrypt(plain, entropy(24)).hex(),
        })
    return {
        "code": code,
        "appid": appid,
        "scalar_a": scalar(a),
        "scalar_b": scalar(b),
        "message_a": ma.hex(),
        "message_b": mb.hex(),
        "key": key.hex(),
        "verifier": derive_key(key, b"wormhole:verifier").hex(),
        "phases": phases,
    }


vectors = {
    "blinding": ParamsEd25519.S.to_bytes().hex(),
    "words": {
        "odd": [byte_to_odd_word[bytes([i])].lower() for i in range(256)],
        "even": [byte_to_even_word[bytes([i])].lower() for i in range(256)],
    },
    "exchanges": [
        exchange(code, appid, hashlib.sha256(code.encode()).hexdigest()[:10], "b" * 10)
        for code, appid in [
            ("7-adroitness-zulu", "tahoe-lafs.org/invite"),
            ("123456-crossover-clockwork-hazardous-dogsled", "tahoe-lafs.org/invite"),
            ("4-purple-sausages", "lothar.com/wormhole/text-or-file-xfer"),
            ("1-e\u0301tage-caf\u00e9", "private.storage/magic-folder/invites"),
            ("999-x", "x"),
        ]
    ],
}

path = os.path.join(ROOT, "invite", "wormhole", "testdata", "wormhole.json")
os.makedirs(os.path.dirname(path), exist_ok=True)
with open(path, "w") as f:
    json.dump(vectors, f, indent=1)
    f.write("\n")
