"""Writes the test vectors of the invite rooms, from the real programs.

    /path/to/peers/bin/python tests/vectors/gen_invite.py

Output: invite/wormhole/testdata/wormhole.json, from python-spake2 and
magic-wormhole, and invite/message/testdata/settings.json: what `tahoe invite`
sends (captured from it: allmydata.scripts.tahoe_invite runs over a wormhole that
only records) and what Gridsync sends (gridsync/wormhole_.py encodes the settings
twice, its predecessor wrapped them in an offer). The randomness is seeded: a
second run writes the same files.
"""
import hashlib
import io
import json
import os
import random
import tempfile

from allmydata.scripts import tahoe_invite
from nacl.secret import SecretBox
from spake2 import SPAKE2_Symmetric
from spake2.parameters.ed25519 import ParamsEd25519
from wormhole._key import derive_key, derive_phase_key
from wormhole._wordlist import byte_to_even_word, byte_to_odd_word
from twisted.internet import defer
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

FURL = "pb://%s@tcp:127.0.0.1:4321/%s" % ("a" * 31 + "q", "b" * 32)


class Recorder:
    """A wormhole that records what is sent and answers as a client does."""

    def __init__(self):
        self.sent = []

    def get_welcome(self):
        return defer.succeed({})

    def allocate_code(self):
        pass

    def get_code(self):
        return defer.succeed("7-adroitness-zulu")

    def send_message(self, body):
        self.sent.append(body.decode("utf-8"))

    def get_message(self):
        return defer.succeed(b'{"abilities": {"client-v1": {}}}')

    def close(self):
        return defer.succeed(None)


class Parent(dict):
    wormhole = None


class Options(dict):
    pass


def tahoe(nick, needed, happy, total):
    recorder = Recorder()
    options = Options()
    options.parent = Parent({"wormhole-server": "ws://x/v1", "wormhole-invite-appid": "tahoe-lafs.org/invite"})
    options.parent.wormhole = type("Module", (), {"create": staticmethod(lambda **kw: recorder)})
    options.stdout = options.stderr = io.StringIO()
    with tempfile.TemporaryDirectory() as d:
        os.mkdir(os.path.join(d, "private"))
        with open(os.path.join(d, "tahoe.cfg"), "w") as f:
            f.write("[node]\nnickname = op\n[client]\nshares.needed = %d\nshares.happy = %d\nshares.total = %d\n" % (needed, happy, total))
        with open(os.path.join(d, "private", "introducers.yaml"), "w") as f:
            f.write("introducers:\n  default:\n    furl: %s\n" % FURL)
        options.parent["node-directory"] = d
        options.update({"nick": nick, "shares-needed": None, "shares-happy": None, "shares-total": None})
        failures = []
        tahoe_invite.invite(options).addErrback(failures.append)
        assert not failures, failures
    greeting, settings = recorder.sent
    return {"from": "tahoe invite", "greeting": greeting, "settings": settings, "nickname": nick,
            "introducer": FURL, "needed": needed, "happy": happy, "total": total, "hide_ip": False}


def gridsync(nick, legacy, hide, numbers):
    settings = {"nickname": nick, "introducer": FURL, "icon_url": "https://example.org/i.png",
                "shares-needed": numbers(3), "shares-happy": numbers(7), "shares-total": numbers(10)}
    if hide:
        settings["hide-ip"] = True
    text = json.dumps(settings)
    v = {"from": "gridsync", "nickname": nick, "introducer": FURL, "needed": 3, "happy": 7, "total": 10, "hide_ip": hide}
    if legacy:
        v["greeting"] = json.dumps({"offer": {"message": text}})
    else:
        v["greeting"] = json.dumps({"abilities": {"server-v1": {}}})
        v["settings"] = json.dumps(text)
    return v


settings = [
    tahoe("bob", 3, 7, 10),
    tahoe("b\u00f6b's laptop", 1, 1, 1),
    gridsync("Example Grid", False, False, str),
    gridsync("Example Grid", False, True, int),
    gridsync("Grid \u2603", True, False, str),
]


def write(room, name, value):
    path = os.path.join(ROOT, "invite", room, "testdata", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


write("wormhole", "wormhole.json", vectors)
write("message", "settings.json", settings)
