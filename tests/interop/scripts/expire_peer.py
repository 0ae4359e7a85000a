"""
Tahoe-LAFS's own storage server and lease checker on a directory, for tests.

Standard input is a JSON list of steps, each {"dir", "now", "do", ...}; standard
output a JSON list of their results. "now" is in seconds since 1970, and what every
clock shows.

  fill    make shares: {"files": [[si hex, version]..], "slots": [[si hex, version]..]}
  lease   add or renew: {"indexes": [hex..], "renew": one character, "cancel": one}
  read    {"files": [hex..], "slots": [hex..]} -> the data of share 0 of each
  expire  run the lease checker through all shares: {"enabled", "mode", "override",
          "cutoff", "types"} -> its account of the round
  stats   do each thing once, and show the statistics: {"counters", "stats"}
"""

import json
import sys
import time

from twisted.internet.task import Clock

from allmydata.storage import immutable, immutable_schema, mutable, mutable_schema
from allmydata.storage.server import StorageServer

NODE = bytes(range(1, 21))




def server(step, **settings):
    now = step["now"]
    time.time = lambda: now
    clock = Clock()
    clock.advance(now)
    ss = StorageServer(step["dir"], NODE, clock=clock, **settings)
    return ss


def schema(module, version):
    for s in module.ALL_SCHEMAS:
        if s.version == version:
            return s
    raise ValueError(version)


def fill(step):
    ss = server(step)
    renew, cancel = b"r" * 32, b"c" * 32
    newest = immutable_schema.NEWEST_SCHEMA_VERSION
    for si, version in step["files"]:
        immutable.ShareFile.__init__.__defaults__ = immutable.ShareFile.__init__.__defaults__[:-1] + (schema(immutable_schema, version),)
        _, writers = ss.allocate_buckets(bytes.fromhex(si), renew, cancel, {0, 1}, 1000)
        for w in writers.values():
            w.write(0, b"f" * 1000)
            w.close()
        for timer in ss._clock.getDelayedCalls():
            timer.cancel()
    immutable.ShareFile.__init__.__defaults__ = immutable.ShareFile.__init__.__defaults__[:-1] + (newest,)
    for si, version in step["slots"]:
        mutable.MutableShareFile.__init__.__defaults__ = (None, schema(mutable_schema, version))
        ok, _ = ss.slot_testv_and_readv_and_writev(
            bytes.fromhex(si), (b"w" * 32, renew, cancel), {0: ([], [(0, b"s" * 1000)], None)}, []
        )
        assert ok
    mutable.MutableShareFile.__init__.__defaults__ = (None, mutable_schema.NEWEST_SCHEMA_VERSION)


def lease(step):
    ss = server(step)
    for si in step["indexes"]:
        ss.add_lease(bytes.fromhex(si), step["renew"].encode() * 32, step["cancel"].encode() * 32)


def read(step):
    ss = server(step)
    out = {}
    for si in step["files"]:
        buckets = ss.get_buckets(bytes.fromhex(si))
        out[si] = buckets[0].read(0, 2000).decode() if 0 in buckets else None
    for si in step["slots"]:
        got = ss.slot_readv(bytes.fromhex(si), [0], [(0, 2000)])
        out[si] = got[0][0].decode() if 0 in got else None
    return out


def expire(step):
    ss = server(
        step,
        expiration_enabled=step["enabled"],
        expiration_mode=step["mode"],
        expiration_override_lease_duration=step["override"] or None,
        expiration_cutoff_date=step["cutoff"] if step["mode"] == "cutoff-date" else None,
        expiration_sharetypes=tuple(step["types"]),
    )
    checker = ss.lease_checker
    checker.cpu_slice = 1e9
    checker.start_current_prefix(step["now"])
    history = checker._history_serializer.load()
    return history[max(history, key=int)]


class Provider:
    def __init__(self):
        self.counters = {}

    def count(self, name, delta=1):
        self.counters[name] = self.counters.get(name, 0) + delta

    def register_producer(self, producer):
        pass


def stats(step):
    provider = Provider()
    ss = server(step, stats_provider=provider, reserved_space=12345)
    si, slot = b"1" * 16, b"2" * 16
    renew, cancel = b"r" * 32, b"c" * 32
    _, writers = ss.allocate_buckets(si, renew, cancel, {0, 1}, 1000)
    writers[0].write(0, b"f" * 1000)
    writers[0].close()
    writers[1].abort()
    ss.get_buckets(si)[0].read(0, 100)
    ss.slot_testv_and_readv_and_writev(slot, (b"w" * 32, renew, cancel), {0: ([], [(0, b"s")], None)}, [])
    ss.slot_readv(slot, [0], [(0, 1)])
    ss.add_lease(si, renew, cancel)
    return {"counters": provider.counters, "stats": ss.get_stats()}


def main():
    results = []
    for step in json.load(sys.stdin):
        results.append({"fill": fill, "lease": lease, "read": read, "expire": expire, "stats": stats}[step["do"]](step))
    json.dump(results, sys.stdout)


main()
