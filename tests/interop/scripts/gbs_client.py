"""
Tahoe-LAFS's own storage client, sent through every endpoint of the server whose
NURL is the argument: rightly first, then with wrong, missing and malformed secrets,
ranges and bodies. Prints a JSON object: what each step came to, in order.
"""

import json
import sys

from base64 import b64encode

import cbor2
from hyperlink import DecodedURL
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react

from allmydata.storage.common import si_b2a
from allmydata.storage.http_client import (
    ClientException,
    ReadVector,
    StorageClientFactory,
    StorageClientGeneral,
    StorageClientImmutables,
    StorageClientMutables,
    TestVector,
    TestWriteVectors,
    WriteVector,
)

RENEW, CANCEL, UPLOAD, ENABLER = b"r" * 32, b"c" * 32, b"u" * 20, b"w" * 32
SI, SLOT, NOTHING = b"\x01" * 16, b"\x02" * 16, b"\x03" * 16
DATA = bytes(i % 251 for i in range(3000))

results = {}


def show(value):
    if isinstance(value, (set, frozenset)):
        return ["set"] + sorted(value)
    if isinstance(value, bytes):
        return "bytes " + value.hex()
    if isinstance(value, dict):
        return {str(k): show(v) for k, v in sorted(value.items(), key=lambda kv: str(kv[0]))}
    if isinstance(value, (list, tuple)):
        return [show(v) for v in value]
    return value


async def step(name, awaitable, reshape=lambda r: r):
    try:
        results[name] = show(reshape(await awaitable))
    except ClientException as e:
        results[name] = "status %d" % e.code
    except Exception as e:
        results[name] = "%s %s" % (type(e).__name__, e)


def text(si):
    return si_b2a(si).decode()


class Raw(object):
    """Requests that the client class would never send."""

    def __init__(self, client):
        self.client = client

    async def __call__(self, name, method, path, secrets=(), headers=None, body=None, swissnum=b"sekritswissnum", message=None):
        all_headers = dict(headers or {})
        if swissnum is not None:
            all_headers["Authorization"] = [b"Tahoe-LAFS " + b64encode(swissnum)]
        all_headers["X-Tahoe-Authorization"] = [
            s if isinstance(s, bytes) else s[0].encode() + b" " + b64encode(s[1]) for s in secrets
        ]
        if message is not None:
            body = cbor2.dumps(message)
        r = await self.client._treq.request(
            method, self.client.relative_url(path), headers=all_headers, data=body or b"", timeout=60
        )
        content = await r.content()
        results["raw " + name] = r.code
        return content


LEASE = [("lease-renew-secret", RENEW), ("lease-cancel-secret", CANCEL)]
UP = [("upload-secret", UPLOAD)]
WE = [("write-enabler", ENABLER)]


async def rightly(client):
    general, im, mut = StorageClientGeneral(client), StorageClientImmutables(client), StorageClientMutables(client)
    key = b"http://allmydata.org/tahoe/protocols/storage/v1"
    await step("version", general.get_version(), lambda v: [sorted(v), sorted(v[key]), v[key][b"available-space"] > 0])

    def both(r):
        return [r.already_have, r.allocated]

    def progress(r):
        return [r.finished, [(a, b) for a, b, _ in r.required.ranges()]]

    await step("list nothing", im.list_shares(SI))
    await step("lease on nothing", general.add_or_renew_lease(SI, RENEW, CANCEL))
    await step("create", im.create(SI, {0, 1, 7}, len(DATA), UPLOAD, RENEW, CANCEL), both)
    await step("list incomplete", im.list_shares(SI))
    await step("read incomplete", im.read_share_chunk(SI, 0, 0, 10))
    await step("write end", im.write_share_chunk(SI, 0, UPLOAD, 2000, DATA[2000:]), progress)
    await step("write middle", im.write_share_chunk(SI, 0, UPLOAD, 500, DATA[500:1000]), progress)
    await step("write overlapping", im.write_share_chunk(SI, 0, UPLOAD, 700, DATA[700:1200]), progress)
    await step("write again", im.write_share_chunk(SI, 0, UPLOAD, 700, DATA[700:1200]), progress)
    await step("write conflict", im.write_share_chunk(SI, 0, UPLOAD, 700, b"x" * 100))
    await step("write wrong secret", im.write_share_chunk(SI, 0, b"x" * 20, 0, DATA[:10]))
    await step("write unknown share", im.write_share_chunk(SI, 3, UPLOAD, 0, DATA[:10]))
    await step("write unknown index", im.write_share_chunk(NOTHING, 3, UPLOAD, 0, DATA[:10]))
    await step("write start", im.write_share_chunk(SI, 0, UPLOAD, 0, DATA[:600]), progress)
    await step("write rest", im.write_share_chunk(SI, 0, UPLOAD, 1200, DATA[1200:2000]), progress)
    await step("write complete", im.write_share_chunk(SI, 0, UPLOAD, 0, DATA[:10]))
    await step("list complete", im.list_shares(SI))
    await step("whole at once", im.write_share_chunk(SI, 7, UPLOAD, 0, DATA), progress)
    for offset, length in [(0, 3000), (0, 1), (2999, 1), (2990, 100), (3000, 10), (10 ** 12, 10), (1000, 1234)]:
        await step("read %d+%d" % (offset, length), im.read_share_chunk(SI, 0, offset, length))
    await step("read absent", im.read_share_chunk(SI, 4, 0, 10))
    await step("abort wrong secret", im.abort_upload(SI, 1, b"x" * 20))
    await step("abort", im.abort_upload(SI, 1, UPLOAD))
    await step("abort again", im.abort_upload(SI, 1, UPLOAD))
    await step("abort complete", im.abort_upload(SI, 7, UPLOAD))
    await step("create again", im.create(SI, {0, 1, 2}, len(DATA), UPLOAD, RENEW, CANCEL), both)
    await step("create with another lease", im.create(SI, {0}, len(DATA), UPLOAD, b"R" * 32, b"C" * 32), both)
    await step("lease", general.add_or_renew_lease(SI, RENEW, CANCEL))
    await step("another lease", general.add_or_renew_lease(SI, b"S" * 32, CANCEL))
    await step("corrupt", im.advise_corrupt_share(SI, 0, "it is \u2623 rotten"))
    await step("corrupt absent", im.advise_corrupt_share(SI, 9, "rotten"))

    async def rtw(name, vectors, reads=(), enabler=ENABLER, si=SLOT):
        await step(
            name,
            mut.read_test_write_chunks(si, enabler, RENEW, CANCEL, vectors, [ReadVector(o, s) for o, s in reads]),
            lambda r: [r.success, r.reads],
        )

    await step("slot list nothing", mut.list_shares(SLOT))
    await step("slot read nothing", mut.read_share_chunk(SLOT, 0, 0, 10))
    await rtw("slot create", {
        0: TestWriteVectors([TestVector(0, 1, b"")], [WriteVector(0, b"first version of it")], None),
        5: TestWriteVectors([TestVector(0, 1, b"")], [WriteVector(10, b"with a hole")], None),
    }, [(0, 100)])
    await step("slot list", mut.list_shares(SLOT))
    await rtw("slot read only", {}, [(0, 5), (10, 100), (500, 1), (0, 0)])
    await rtw("slot test fails", {0: TestWriteVectors([TestVector(0, 5, b"wrong")], [WriteVector(0, b"never")])}, [(0, 5)])
    await rtw("slot test of absent", {1: TestWriteVectors([TestVector(0, 5, b"wrong")], [WriteVector(0, b"never")])}, [(0, 5)])
    await rtw("slot test holds", {0: TestWriteVectors([TestVector(0, 5, b"first")], [WriteVector(0, b"SECOND")])}, [(0, 5)])
    await rtw("slot wrong enabler", {0: TestWriteVectors([], [WriteVector(0, b"never")])}, enabler=b"x" * 32)
    await rtw("slot grow", {0: TestWriteVectors([], [WriteVector(1000, b"far out"), WriteVector(3, b"!")])})
    for i in range(6):
        await step("slot lease %d" % i, general.add_or_renew_lease(SLOT, bytes([i]) * 32, CANCEL))
    await rtw("slot grow past leases", {0: TestWriteVectors([], [WriteVector(1500, b"z" * 700)])})
    await rtw("slot cut", {0: TestWriteVectors([], [], 300)})
    await rtw("slot regrow", {0: TestWriteVectors([], [WriteVector(400, b"back")])})
    await rtw("slot empty share", {6: TestWriteVectors([], [])})
    await step("slot list again", mut.list_shares(SLOT))
    for offset, length in [(0, 5000), (299, 3), (404, 1), (10 ** 12, 10)]:
        await step("slot read %d+%d" % (offset, length), mut.read_share_chunk(SLOT, 0, offset, length))
    await step("slot read empty", mut.read_share_chunk(SLOT, 6, 0, 10))
    await step("slot read absent", mut.read_share_chunk(SLOT, 4, 0, 10))
    await rtw("slot delete", {5: TestWriteVectors([], [WriteVector(0, b"gone")], 0)})
    await rtw("slot delete absent", {5: TestWriteVectors([], [], 0)})
    await step("slot list after delete", mut.list_shares(SLOT))
    await step("slot corrupt", mut.advise_corrupt_share(SLOT, 0, "rotten"))
    await step("slot corrupt absent", mut.advise_corrupt_share(SLOT, 9, "rotten"))
    await rtw("slot that stays", {200: TestWriteVectors([], [WriteVector(0, b"stays")])}, si=NOTHING)


async def wrongly(client):
    raw = Raw(client)
    si, slot, nothing = text(SI), text(SLOT), text(b"\x04" * 16)
    create = {"share-numbers": {0, 1}, "allocated-size": 12}
    v1 = "/storage/v1/"
    endpoints = [
        ("version", "GET", "version", []),
        ("create", "POST", "immutable/" + nothing, LEASE + UP),
        ("write", "PATCH", "immutable/%s/2" % si, UP),
        ("read", "GET", "immutable/%s/0" % si, []),
        ("list", "GET", "immutable/%s/shares" % si, []),
        ("abort", "PUT", "immutable/%s/2/abort" % nothing, UP),
        ("corrupt", "POST", "immutable/%s/0/corrupt" % si, []),
        ("lease", "PUT", "lease/" + nothing, LEASE),
        ("rtw", "POST", "mutable/%s/read-test-write" % slot, LEASE + WE),
        ("slot read", "GET", "mutable/%s/0" % slot, []),
        ("slot list", "GET", "mutable/%s/shares" % slot, []),
        ("slot corrupt", "POST", "mutable/%s/0/corrupt" % slot, []),
    ]
    for name, method, path, secrets in endpoints:
        await raw(name + " no swissnum", method, v1 + path, secrets, swissnum=None)
        await raw(name + " wrong swissnum", method, v1 + path, secrets, swissnum=b"wrong")
        await raw(name + " empty swissnum", method, v1 + path, secrets, swissnum=b"")
        await raw(name + " basic auth", method, v1 + path, secrets, swissnum=None, headers={"Authorization": ["Basic QWxhZGRpbg=="]})
        await raw(name + " too many secrets", method, v1 + path, secrets + [("upload-secret", b"x"), ("write-enabler", ENABLER)])
        await raw(name + " unknown secret", method, v1 + path, secrets + [b"frobnicator AAAA"])
        await raw(name + " not base64", method, v1 + path, secrets[:-1] + [b"upload-secret =%%"])
        await raw(name + " no value", method, v1 + path, secrets[:-1] + [b"upload-secret"])
        await raw(name + " empty value", method, v1 + path, secrets[:-1] + [b"upload-secret "])
        await raw(name + " wrong method", "DELETE", v1 + path, secrets)
        for gone in secrets:
            await raw("%s without %s" % (name, gone[0]), method, v1 + path, [s for s in secrets if s != gone])
    for secret in "lease-renew-secret", "lease-cancel-secret":
        await raw("short " + secret, "PUT", v1 + "lease/" + si, [s if s[0] != secret else (secret, b"short") for s in LEASE])

    for path in ["", "/", "/storage", "/storage/v1", "/storage/v2/version", v1 + "versions", v1 + "immutable/" + si + "x/0",
                 v1 + "immutable/" + si[:-1] + "/0", v1 + "immutable/" + si[:-1] + "1/0", v1 + "immutable/" + si.upper() + "/0",
                 v1 + "immutable/" + si + "/-1", v1 + "immutable/" + si + "/x", v1 + "immutable/" + si + "/99999999999999999999",
                 v1 + "mutable/" + slot + "/-1", v1 + "frob/" + si + "/0", v1 + "immutable/" + si + "/0/frob"]:
        await raw("path " + path, "GET", path)

    for name, value in [
        ("none", None), ("no unit", "0-9"), ("wrong unit", "beets=0-9"), ("open", "bytes=5-"), ("suffix", "bytes=-5"),
        ("two", "bytes=0-1,3-4"), ("backwards", "bytes=9-3"), ("empty", "bytes="), ("minus", "bytes=-1-5"), ("text", "bytes=a-b"),
        ("plus", "bytes=+1-5"), ("past the end", "bytes=3000-3001"), ("over the end", "bytes=2999-4000"), ("spaces", "bytes = 0 - 9"),
        ("hex", "bytes=0x0-0x9"), ("underscore", "bytes=0-1_0"), ("upper case", "BYTES=0-9"), ("one byte", "bytes=0-0"),
        ("far", "bytes=4611686018427387904-4611686018427387905"),
    ]:
        headers = {"Range": [value]} if value is not None else {}
        for kind, where in ("immutable", si), ("mutable", slot):
            content = await raw("range %s %s" % (kind, name), "GET", v1 + "%s/%s/0" % (kind, where), headers=headers)
            if results["raw range %s %s" % (kind, name)] < 300:
                results["raw range %s %s bytes" % (kind, name)] = len(content)

    await raw("create properly", "POST", v1 + "immutable/" + nothing, LEASE + UP, message=create)
    for name, value in [
        ("none", None), ("no unit", "0-9/*"), ("wrong unit", "beets 0-9/*"), ("no length", "bytes 0-9"), ("backwards", "bytes 9-3/*"),
        ("text", "bytes a-b/*"), ("minus", "bytes -1-5/*"), ("empty", ""), ("equals", "bytes=0-9/*"), ("beyond its length", "bytes 10-11/10"),
    ]:
        headers = {"Content-Range": [value]} if value is not None else {}
        await raw("content-range " + name, "PATCH", v1 + "immutable/%s/0" % nothing, UP, headers=headers, body=b"0123456789")
    await raw("write with length", "PATCH", v1 + "immutable/%s/0" % nothing, UP, headers={"Content-Range": ["bytes 0-9/12"]}, body=b"0123456789")
    await raw("write no swissnum", "PATCH", v1 + "immutable/%s/0" % nothing, UP, swissnum=None, headers={"Content-Range": ["bytes 0-9/*"]}, body=b"0123456789")

    async def allocate(name, message=None, **kw):
        await raw("create " + name, "POST", v1 + "immutable/" + text(b"\x05" * 16), LEASE + UP, message=message, **kw)

    await allocate("empty body", body=b"")
    await allocate("text body", body=b"hello")
    await allocate("no size", {"share-numbers": {0}})
    await allocate("extra key", dict(create, more=1))
    await allocate("list for set", dict(create, **{"share-numbers": [0]}))
    await allocate("negative share", dict(create, **{"share-numbers": {-1}}))
    await allocate("text share", dict(create, **{"share-numbers": {"1"}}))
    await allocate("negative size", dict(create, **{"allocated-size": -1}))
    await allocate("float size", dict(create, **{"allocated-size": 1.5}))
    await allocate("null size", dict(create, **{"allocated-size": None}))
    await allocate("byte keys", {k.encode(): v for k, v in create.items()})
    await allocate("257 shares", dict(create, **{"share-numbers": set(range(257))}))
    await allocate("too large", body=b"\x00" * 9000)
    await allocate("json type", create, headers={"Content-Type": ["application/json"]})
    await allocate("cbor type with a parameter", create, headers={"Content-Type": ["application/cbor; x=y"]})
    await raw("accept json", "GET", v1 + "version", headers={"Accept": ["application/json"]})
    await raw("accept all", "GET", v1 + "version", headers={"Accept": ["*/*"]})
    await raw("accept cbor last", "GET", v1 + "version", headers={"Accept": ["text/html;q=0.5, application/cbor;q=0.9"]})

    # On slots of their own, whose names begin with "5": Tahoe does some of it.
    junk = iter(range(256))

    async def rtw(name, vectors, reads=(), **kw):
        message = {"test-write-vectors": vectors, "read-vector": list(reads)}
        where = text(b"\xee" + bytes([next(junk)]) * 15)
        await raw("rtw " + name, "POST", v1 + "mutable/%s/read-test-write" % where, LEASE + WE, message=message, **kw)

    good = {"test": [], "write": [], "new-length": None}
    await rtw("good", {200: good})
    await rtw("no new-length", {0: {"test": [], "write": []}})
    await rtw("text share", {"0": good})
    await rtw("negative share", {-1: good})
    await rtw("negative offset", {0: dict(good, write=[{"offset": -1, "data": b"x"}])})
    await rtw("negative read", {}, [{"offset": -92, "size": 92}])
    await rtw("negative size", {}, [{"offset": 0, "size": -1}])
    await rtw("text data", {0: dict(good, write=[{"offset": 0, "data": "x"}])})
    await rtw("extra key", {0: dict(good, more=1)})
    await rtw("31 tests", {0: dict(good, test=[{"offset": 0, "size": 0, "specimen": b""}] * 31)})
    await rtw("30 tests", {0: dict(good, test=[{"offset": 0, "size": 0, "specimen": b""}] * 30)})
    await rtw("31 reads", {}, [{"offset": 0, "size": 0}] * 31)
    await rtw("true for length", {0: dict(good, **{"new-length": True})})
    await raw("rtw no reads", "POST", v1 + "mutable/%s/read-test-write" % slot, LEASE + WE, message={"test-write-vectors": {}})
    await raw("rtw two items", "POST", v1 + "mutable/%s/read-test-write" % slot, LEASE + WE,
              body=cbor2.dumps({"test-write-vectors": {}, "read-vector": []}) * 2)
    for name, message in [("empty", {"reason": ""}), ("bytes", {"reason": b"x"}), ("missing", {}), ("extra", {"reason": "x", "y": 1}),
                          ("longest", {"reason": "x" * 32700}), ("too long", {"reason": "x" * 32766}), ("list", ["reason"])]:
        await raw("reason " + name, "POST", v1 + "immutable/%s/0/corrupt" % si, message=message)
    # Nothing of all that changed what is there.
    mut = StorageClientMutables(client)
    await step("slot at last", mut.list_shares(SLOT))


async def everything(reactor):
    factory = StorageClientFactory({"tcp": "tcp"}, None)
    client = await factory.create_storage_client(DecodedURL.from_text(sys.argv[1]), reactor)
    await rightly(client)
    if "rightly" not in sys.argv[2:]:
        await wrongly(client)
    await client.shutdown()
    json.dump(results, sys.stdout)


react(lambda reactor: ensureDeferred(everything(reactor)))
