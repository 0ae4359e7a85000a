"""Vectors for node/caps, node/taghash and node/furl from the real Tahoe-LAFS.

Run with the Python of the peers' environment, from the project's root:

    PYTHON tests/vectors/gen_caps.py

It writes node/{caps,taghash,furl}/testdata/*.json. Inputs come from a fixed seed,
so running it again changes nothing.
"""

import hashlib
import json
import os
import random

from allmydata import uri
from allmydata.storage.http_common import get_spki_hash  # noqa: F401 (fails when Tahoe is too old)
from allmydata.storage.http_server import build_nurl
from allmydata.util import base32, hashutil
from allmydata.util.netstring import netstring
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from foolscap.furl import decode_furl, encode_furl
import datetime

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RNG = random.Random(3)


def rnd(n):
    return bytes(RNG.getrandbits(8) for _ in range(n))


def write(room, name, value):
    folder = os.path.join(ROOT, "node", room, "testdata")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "w") as f:
        json.dump(value, f, indent=1, sort_keys=True)
        f.write("\n")


def text(u):
    return None if u is None else u.to_string().decode("ascii")


def verifier(u):
    try:
        return text(u.get_verify_cap())
    except (AssertionError, AttributeError):
        # Tahoe 1.20 cannot take the verifier of some directory verifiers.
        return text(u)


def flag(u, name):
    f = getattr(u, name, None)
    return None if f is None else bool(f())


def describe(s):
    """What Tahoe says about the capability s."""
    u = uri.from_string(s)
    if isinstance(u, uri.UnknownURI):
        err = u.get_error()
        return {
            "input": s,
            "unknown": True,
            "error": None if err is None else type(err).__name__,
            "text": u.to_string().decode("utf-8"),
        }
    si = u.get_storage_index()
    out = {
        "input": s,
        "text": text(u),
        "readonly": text(u.get_readonly()),
        "verifier": verifier(u),
        "index": None if si is None else base32.b2a(si).decode("ascii"),
        "is_readonly": flag(u, "is_readonly"),
        "is_mutable": flag(u, "is_mutable"),
        "is_dir": isinstance(u, uri._DirectoryBaseURI),
    }
    if isinstance(u, uri._DirectoryBaseURI):
        out["file"] = text(u.get_filenode_cap())
    else:
        try:
            out["dir"] = text(uri.wrap_dirnode_cap(u))
        except AssertionError:
            pass
    return out


def caps():
    made = []
    for k, n, size in [(1, 1, 56), (3, 10, 1000), (7, 10, 1 << 20), (256, 256, 2**40),
                       (1, 256, 0), (71, 255, 131073), (2, 3, 2**63 - 1)]:
        made.append(uri.CHKFileURI(rnd(16), rnd(32), k, n, size))
    for size in [0, 1, 2, 3, 4, 5, 6, 31, 32, 54, 55, 56, 200]:
        made.append(uri.LiteralFileURI(rnd(size)))
    for _ in range(4):
        made.append(uri.WriteableSSKFileURI(rnd(16), rnd(32)))
        made.append(uri.WriteableMDMFFileURI(rnd(16), rnd(32)))
    # Corner values of the last base32 character.
    made.append(uri.WriteableSSKFileURI(b"\xff" * 16, b"\xff" * 32))
    made.append(uri.WriteableSSKFileURI(b"\0" * 16, b"\0" * 32))

    texts = []

    def add(u):
        if u is not None and text(u) not in texts:
            texts.append(text(u))

    for u in made:
        forms = [u]
        try:
            forms.append(uri.wrap_dirnode_cap(u))
        except AssertionError:
            pass
        for f in forms:
            for g in (f, f.get_readonly(), f.get_verify_cap()):
                add(g)
    plain = list(texts)
    # Prefixes: what agrees is accepted, what contradicts is refused.
    seen = set()
    for t in plain:
        kind = t.split(":")[1]
        if kind not in seen:
            seen.add(kind)
            texts.append("ro." + t)
            texts.append("imm." + t)
    # MDMF extensions, as Tahoe 1.9 wrote them.
    for t in plain:
        kind = t.split(":")[1]
        if "MDMF" in kind and kind + "+" not in seen:
            seen.add(kind + "+")
            texts.append(t + ":3:131073")
            texts.append(t + ":")
    # Kinds that Tahoe does not know.
    future = ["lafs://from_the_future", "URI:SSK2:abc:def", "x-tahoe-crazy://rw", "URI:", "URI", "foo",
              "URI:DIR3-CHK:" + "a" * 26, "lafs://\u00fcn\u00efc\u00f6de \u2713", "URI:chk:", "uri:CHK:", "URI:CHK",
              "pb://not-a-cap", "ro.", "imm.", "ro.imm.x", "imm.ro.x", "ro.ro.URI:LIT:aa", " URI:LIT:aa"]
    for t in future:
        texts.append(t)
        texts.append("ro." + t)
        texts.append("imm." + t)
    # Malformed ones of kinds that it knows: from_string says UnknownURI with an error.
    c = next(t for t in plain if t.startswith("URI:CHK:"))
    s = next(t for t in plain if t.startswith("URI:SSK:"))
    texts += [c[:-1] + "x", c + ":1", c.upper(), s[:-1], s + "a", s + ":3", s.replace(":", "::", 1),
              "URI:LIT:a", "URI:LIT:aaa", "URI:LIT:ab", "URI:LIT:1", "URI:LIT:AA", "URI:CHK:", "URI:SSK:", "URI:DIR2:",
              "URI:DIR2-LIT:a", "URI:MDMF:", "URI:MDMF:x:y", "URI:DIR2-CHK-Verifier:", "URI:CHK-Verifier:"]
    write("caps", "caps.json", [describe(t) for t in texts])


def derivations():
    h = lambda b: b.hex()
    out = []

    def case(name, args, result):
        out.append({"name": name, "args": [h(a) if isinstance(a, bytes) else str(a) for a in args], "result": h(result)})

    for _ in range(3):
        k16, k32, si, peer, iv, data = rnd(16), rnd(32), rnd(16), rnd(20), rnd(16), rnd(RNG.randrange(0, 300))
        tag = bytes(RNG.choice(b"abcdefgh_:,0") for _ in range(RNG.randrange(0, 40)))
        case("Netstring", [data], netstring(data))
        case("Tagged", [tag, data], hashutil.tagged_hash(tag, data))
        case("TaggedPair", [tag, data, si], hashutil.tagged_pair_hash(tag, data, si))
        case("StorageIndex", [k16], hashutil.storage_index_hash(k16))
        case("BlockHash", [data], hashutil.block_hash(data))
        case("UEBHash", [data], hashutil.uri_extension_hash(data))
        case("Crypttext", [data], hashutil.crypttext_hash(data))
        case("CrypttextSegment", [data], hashutil.crypttext_segment_hash(data))
        for k, n, seg in [(1, 1, 1), (3, 10, 131072), (256, 256, 2**20)]:
            case("Convergence", [k, n, seg, k32, data], hashutil.convergence_hash(k, n, seg, data, k32))
        case("Convergence", [3, 10, 9, b"", data], hashutil.convergence_hash(3, 10, 9, data, b""))
        case("MyRenewal", [k32], hashutil.my_renewal_secret_hash(k32))
        case("MyCancel", [k32], hashutil.my_cancel_secret_hash(k32))
        case("FileRenewal", [k32, si], hashutil.file_renewal_secret_hash(k32, si))
        case("FileCancel", [k32, si], hashutil.file_cancel_secret_hash(k32, si))
        case("BucketRenewal", [k32, peer], hashutil.bucket_renewal_secret_hash(k32, peer))
        case("BucketCancel", [k32, peer], hashutil.bucket_cancel_secret_hash(k32, peer))
        case("SSKWriteKey", [data], hashutil.ssk_writekey_hash(data))
        case("SSKReadKey", [k16], hashutil.ssk_readkey_hash(k16))
        case("SSKDataKey", [iv, k16], hashutil.ssk_readkey_data_hash(iv, k16))
        case("SSKStorageIndex", [k16], hashutil.ssk_storage_index_hash(k16))
        case("SSKFingerprint", [data], hashutil.ssk_pubkey_fingerprint_hash(data))
        case("SSKWriteEnablerMaster", [k16], hashutil.ssk_write_enabler_master_hash(k16))
        case("SSKWriteEnabler", [k16, peer], hashutil.ssk_write_enabler_hash(k16, peer))
        case("DirChildKey", [iv, k16], hashutil.mutable_rwcap_key_hash(iv, k16))
        case("DirChildSalt", [data], hashutil.mutable_rwcap_salt_hash(data))
        for key in (k16, k32, rnd(100), b""):
            case("HMAC", [key, data], hashutil.hmac(key, data))
        case("Permute", [si, peer], hashutil.permute_server_hash(si, peer))
        case("Permute", [si, data], hashutil.permute_server_hash(si, data))
    for n in range(42):
        b = rnd(n)
        out.append({"name": "Base32", "args": [h(b)], "text": base32.b2a(b).decode("ascii")})
    write("taghash", "derivations.json", out)


def furls():
    tub = lambda: base32.b2a(rnd(20)).decode("ascii")
    swiss = lambda: base32.b2a(rnd(20)).decode("ascii")
    onion = "a2dfr3i2nxt7ucb4p6nlvy7pnz4c4nchnxxhkuhknaasxdwxvvuxpxad.onion"
    cases = []
    for hints in [[], ["tcp:127.0.0.1:3457"], ["tcp:example.org:1", "tcp:[::1]:65535"], ["127.0.0.1:80", "example.org:443"],
                  ["tor:" + onion + ":3457"], ["i2p:" + "b" * 52 + ".b32.i2p"], ["i2p:" + "b" * 52 + ".b32.i2p:3457"],
                  ["tcp:[fe80::1%eth0]:99"], ["unix:fd=3", "quic:a:b:c=d", "tcp:10.0.0.1:9"]]:
        for name in ["introducer", swiss()]:
            f = encode_furl(tub(), hints, name)
            got = decode_furl(f)
            cases.append({"furl": f, "tubid": got[0], "hints": got[1], "swissnum": got[2]})
    key = ec.derive_private_key(7, ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vector")])
    when = datetime.datetime(2020, 1, 1)
    cert = (x509.CertificateBuilder().subject_name(who).issuer_name(who).public_key(key.public_key())
            .serial_number(1).not_valid_before(when).not_valid_after(when.replace(year=2030)).sign(key, hashes.SHA256()))
    nurls = []
    for host, port, sub in [("127.0.0.1", 3457, None), ("example.org", 1, None), (onion, 443, "tor"), ("::1", 65535, None)]:
        n = build_nurl(host, port, swiss(), cert, sub)
        nurls.append({"nurl": n.to_text(), "scheme": n.scheme, "user": n.user, "host": n.host, "port": n.port,
                      "swissnum": n.path[0], "fragment": n.fragment})
    write("furl", "furl.json", {"furls": cases, "nurls": nurls})


caps()
derivations()
furls()
