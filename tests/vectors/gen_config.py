"""Vectors for node/config from the real Tahoe-LAFS and Python's ConfigParser.

Run with the Python of the peers' environment, from the project's root:

    PYTHON tests/vectors/gen_config.py

It writes, below node/config/testdata:
  ini.json       texts and what ConfigParser as Tahoe makes it reads from them
  settings.json  tahoe.cfg texts and whether Tahoe's own start-up code accepts them
  values.json    sizes, durations, dates
  tahoe/NAME/    directories as tahoe create-* makes them (no secrets in them)
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import warnings

from allmydata import client, node
from allmydata.util import abbreviate, configutil, time_format

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUT = os.path.join(ROOT, "node", "config", "testdata")
TUB = "sisi4zenj7cxncgvdog7szg3yxbrnamy"
FURL = "pb://%s@tcp:127.0.0.1:9/introducer" % TUB


def write(name, value):
    os.makedirs(OUT, exist_ok=True)
    with open(os.path.join(OUT, name), "w") as f:
        json.dump(value, f, indent=1, sort_keys=True)
        f.write("\n")


def read(text):
    """What ConfigParser says: None when it cannot be parsed, else section -> key ->
    value, with None for a value that cannot be interpolated."""
    try:
        cfg = configutil.get_config_from_string(text)
    except Exception:
        return None
    if cfg.defaults():
        return "defaults"
    out = {}
    for section in cfg.sections():
        out[section] = {}
        for key in cfg.options(section):
            try:
                out[section][key] = cfg.get(section, key)
            except Exception:
                out[section][key] = None
    return out


BY_HAND = [
    "", "\n", "# only\n; comments\n", "[a]\n", "[a]", "[a]\nk=v", "[a]\nk = v\n", "[a]\nk: v\n", "[a]\nk : v = w\n",
    "[a]\nk = v : w\n", "[a]\nk=\n", "[a]\nk =\n  v\n", "[a]\nk = v # w\n", "[a]\nk = v ; w\n", "[a]\nk = # v\n",
    "[a]\n  # c\nk = v\n  # c\n  w\n", "[a]\nk = v\n\n  w\n", "[a]\nk = v\n\n\n", "[a]\nk = v\n\n\n[b]\n", "[a]\nk = v\n \n\tw\n x\n",
    "[a]\n  k = v\n  l = w\n", "[a]\n  k = v\n    l = w\n  m = x\n", "  [a]\nk = v\n", "[a]\nk = v\n  [b]\nl = w\n",
    "[a]\n k=v\n [b]\n l=w\n", "[a] junk\nk=v\n", "[a]]\nk=v\n", "[a] ] x\nk=v\n", "[]\nk=v\n", "[a]\n[]=v\n", "[ a ]\nk=v\n", "[a\nk=v\n",
    "k=v\n", "[a]\nk\n", "[a]\n=v\n", "[a]\n:v\n", "[a]\n = v\n", "[a]\nK.Ey = v\n", "[a]\nk=1\nk=2\n", "[a]\nk=1\n[b]\nx=1\n[a]\nk=2\nl=3\n",
    "[A]\nk=1\n[a]\nk=2\n", "[a]\nk k = v v\n", "[a]\nk = 100%\n", "[a]\nk = 100%%\n", "[a]\nk = %(l)s\nl = x\n", "[a]\nk = %(L)s%(l)s\nl = x\n",
    "[a]\nk = %(none)s\n", "[a]\nk = %()s\n", "[a]\nk = %(l)\nl=1\n", "[a]\nk = %(l)d\nl=1\n", "[a]\nk = %(k)s\n", "[a]\nk = %\n", "[a]\nk = %%(l)s\n",
    "[a]\nk = %(l)s\nl = %%\n", "[a]\nk = %(l)s\nl = %(m)s!\nm = z\n", "[a]\nk=%(b)s\nb=%(c)s\nc=%(d)s\nd=%(e)s\ne=%(f)s\nf=%(g)s\ng=%(h)s\nh=%(i)s\ni=%(j)s\nj=x\n",
    "[a]\nk0=%(k1)s\nk1=%(k2)s\nk2=%(k3)s\nk3=%(k4)s\nk4=%(k5)s\nk5=%(k6)s\nk6=%(k7)s\nk7=%(k8)s\nk8=%(k9)s\nk9=%(k10)s\nk10=%(k11)s\nk11=%(k12)s\nk12=x\n",
    "[DEFAULT]\n", "[DEFAULT]\nk=v\n[a]\n", "[a]\r\nk = v\r\n\r\n[b]\r\nl=w\r\n", "[a]\rk=v\r", "[a]\nk = v\x0bw\x0c\n", "[a]\nk = \x1cv\x1f\n",
    "[a]\nk\u00a0=\u00a0v\u00a0\n", "[a]\n\u2003k = v\n\u2003\u2003w\n", "[a]\nk = \u00e4\u00f6\u00fc \u2713\n", "[\u00e4]\n\u00c4 = 1\n", "[a]\nk = v\\\nl = w\n",
    "[a]\nk = \"v\"\n", "[a]\nk = 'v # w'\n", "[a]\nk = `v`\n", "[a]\nk = v\n;c\n w\n", "[a]\nrem = x\n", "[a]\nk = b'2'\n", "[a]\nk\x00 = v\x00\n",
    "[a]\nk = v\n\t\n\n  w  \n\n  x\n\n[b]\n", "[a]\n\n\nk = v\n", "[a]\n   \n k = v\n   w\n", "[a]\nk = [b]\n", "[a]\nk = v\n  [c]\n  l = 1\n[b]\nm=2\n",
    "[a]\nk = v\u2028w\n", "[a]\nk = v\x85w\n", "[a]\n\x85k = v\n", "\ufeff[a]\nk=v\n", "[a]\nk==v\n", "[a]\nk:=v\n", "[a]\nk=:v\n",
]


def random_texts(n):
    rng = random.Random(7)
    lines = ["[b]", "[a]", " [b]", "[a] x", "k = v", "k=", "l: w", " l = w", "  m = x", "    deep", "\tdeep = er", "# c", "  ; c", "", "", "  ", "K = %(l)s",
             "l = %%", "m = %(k)s%(l)s", "l = 50%", "k = v # no comment", "k\u00a0= \x1cv", "k = v\r", "\x1fk = v", "o=p=q:r", "o:p", "k l = m n"]
    for _ in range(n):
        text = "[a]\n" + "\n".join(rng.choice(lines) for _ in range(rng.randrange(1, 12)))
        yield text + rng.choice(["", "\n", "\njunk\n" if rng.randrange(10) == 0 else "\n"])


def decoded(text):
    # node.read_config decodes with utf-8-sig.
    return text.encode("utf-8").decode("utf-8-sig")


def ini():
    texts = BY_HAND + sorted(set(random_texts(500)))
    write("ini.json", [{"text": t, "values": read(decoded(t))} for t in texts])


def starts(kind, text):
    """Tahoe's checks of a configuration, as far as they need no network: the error's
    name or None."""
    valid = client._valid_config() if kind == "client" else node._common_valid_config()
    try:
        with tempfile.TemporaryDirectory() as d, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cfg = node.config_from_string(d, "client.port", text, valid)
            cfg.nickname
            node.create_tub_options(cfg)
            handlers = {"tcp": object(), "tor": object(), "i2p": None}
            node.create_default_connection_handlers(cfg, handlers)
            where = node._tub_portlocation(cfg, lambda: ["127.0.0.1"], lambda: 1234)
            from allmydata.util.tor_provider import _Provider
            _Provider(cfg, None, object(), object()).check_onion_config()
            cfg.get_config("tor", "enabled", True, boolean=True)
            cfg.get_introducer_configuration()
            if kind == "introducer":
                if where is None:
                    raise ValueError("not listening")
                return None
            for key, default in [("shares.needed", 3), ("shares.happy", 7), ("shares.total", 10),
                                 ("shares._max_immutable_segment_size_for_testing", 1 << 20)]:
                int(cfg.get_config("client", key, default))
            cfg.get_config("client", "helper.furl", None)
            enabled = client.storage_enabled(cfg)
            if enabled and where is None:
                raise ValueError("not listening")
            if cfg.get_config("helper", "enabled", False, boolean=True) and where is None:
                raise ValueError("not listening")
            if enabled:
                client.anonymous_storage_enabled(cfg)
                for key in ("readonly", "debug_discard", "expire.enabled", "expire.immutable", "expire.mutable", "force_foolscap", "grid_management"):
                    cfg.get_config("storage", key, False, boolean=True)
                abbreviate.parse_abbreviated_size(cfg.get_config("storage", "reserved_space", None))
                mode = cfg.get_config("storage", "expire.mode") if cfg.get_config("storage", "expire.enabled", False, boolean=True) \
                    else cfg.get_config("storage", "expire.mode", "age")
                if mode not in ("age", "cutoff-date"):
                    raise ValueError(mode)  # LeaseCheckingCrawler
                old = cfg.get_config("storage", "expire.override_lease_duration", None)
                if old is not None:
                    time_format.parse_duration(old)
                if mode == "cutoff-date":
                    time_format.parse_date(cfg.get_config("storage", "expire.cutoff_date"))
        return None
    except Exception as e:
        return type(e).__name__


LISTEN = "[node]\ntub.port = tcp:1234\ntub.location = tcp:127.0.0.1:1234\n"
DEAF = "[node]\ntub.port = disabled\ntub.location = disabled\n[storage]\nenabled = false\n"
SETTINGS = [
    "", LISTEN, DEAF, LISTEN + "[client]\nshares.needed = 1\nshares.happy=1\nshares.total = 1\n",
    LISTEN + "nickname = \u00fcml\u00e4ut\n", LISTEN + "nickname = 100%\n", LISTEN + "nickname = 100%%\n", LISTEN + "nicknam = x\n", LISTEN + "NickName = x\n",
    LISTEN + "[nodes]\n", LISTEN + "[Node]\n", LISTEN + "[node]\nnickname = again\n", LISTEN + "[mailbox]\nenabled = true\n", LISTEN + "[drop_upload]\nenabled = false\n",
    LISTEN + "ssh.port = 1\n", LISTEN + "web.ambient_upload_authority = true\n", LISTEN + "[client]\nstats_gatherer.furl = x\n", LISTEN + "[helper]\nport = 1\n",
    LISTEN + "[client]\nshares.needed = b'2'\n", LISTEN + "[client]\nshares.needed = x\n", LISTEN + "[client]\nshares.needed =\n",
    LISTEN + "[client]\nshares.total = 3.0\n", LISTEN + "[client]\nintroducer.furl = None\n", LISTEN + "[client]\nintroducer.furl = " + FURL + "\n",
    LISTEN + "[client]\nintroducer.furl = " + FURL + " # old\n", LISTEN + "[client]\nintroducer.furl =\n", LISTEN + "[client]\nhelper.furl = None\n",
    LISTEN + "[client]\nhelper.furl = " + FURL + "#x\n", LISTEN + "[client]\nhelper.furl = " + FURL + "\n",
    LISTEN + "[client]\nmutable.format = mdmf\nforce_foolscap = yes\n", LISTEN + "[client]\nkey_generator.furl = old\n",
    LISTEN + "timeout.keepalive = 240\ntimeout.disconnect = 1800\n", LISTEN + "timeout.keepalive = soon\n", LISTEN + "timeout.keepalive =\n", LISTEN + "timeout.disconnect = -x\n",
    LISTEN + "reveal-IP-address = maybe\n", LISTEN + "reveal-IP-address = false\n", LISTEN + "reveal-IP-address = false\n[connections]\ntcp = tor\n",
    "[node]\nreveal-IP-address = off\ntub.port = tcp:1\ntub.location = tor:abc.onion:1\n[connections]\ntcp = tor\n",
    "[node]\nreveal-IP-address = off\ntub.port = tcp:1\ntub.location = tor:abc.onion:1\n[connections]\ntcp = disabled\n",
    "[node]\nreveal-IP-address = off\ntub.port = tcp:1\ntub.location = tor:abc.onion:1\n",
    "[node]\nreveal-IP-address = off\ntub.port = tcp:1\ntub.location = AUTO\n[connections]\ntcp = tor\n",
    "[node]\nreveal-IP-address = off\ntub.port = tcp:1\n[connections]\ntcp = tor\n",
    "[node]\nreveal-IP-address = off\ntub.port = tcp:1\ntub.location = example.org:1\n[connections]\ntcp = tor\n",
    "[node]\nreveal-IP-address = off\n[connections]\ntcp = TOR\n[storage]\nenabled = 0\n[node]\ntub.port = disabled\ntub.location = disabled\n",
    LISTEN + "[connections]\ntcp = carrier pigeon\n", LISTEN + "[connections]\ntcp = i2p\n", LISTEN + "[connections]\ntor = tor\n", LISTEN + "[connections]\ntcp = disabled\n",
    "[node]\ntub.port =\n", "[node]\ntub.port = 1\ntub.location =\n", "[node]\ntub.port = disabled\n", "[node]\ntub.location = disabled\n",
    "[node]\ntub.port = disabled\ntub.location = tcp:a:1\n", "[node]\ntub.port = tcp:1\ntub.location = disabled\n", "[node]\ntub.port = disabled\ntub.location = disabled\n",
    "[node]\ntub.port = 0\ntub.location = tcp:a:1\n", "[node]\ntub.port = tcp:0\ntub.location = tcp:a:1\n", "[node]\ntub.port = tcp:0:interface=127.0.0.1\ntub.location = tcp:a:1\n",
    "[node]\ntub.port = tcp:1,tcp:0\ntub.location = tcp:a:1\n", "[node]\ntub.port = 1234\ntub.location = AUTO\n", "[node]\ntub.port = tcp:1234\ntub.location = AUTO,tcp:a:1\n",
    LISTEN + "[tor]\nonion = true\n", LISTEN + "[tor]\nonion = true\nlaunch = true\n", LISTEN + "[tor]\nonion = true\ncontrol.port = tcp:127.0.0.1:9051\nonion.local_port = 1\n",
    LISTEN + "[tor]\nonion = true\nlaunch = true\nonion.local_port = 1\nonion.external_port = 3457\nonion.private_key_file = private/tor_onion.privkey\n",
    LISTEN + "[tor]\nenabled = nope\n", LISTEN + "[tor]\nenabled = false\n", LISTEN + "[tor]\nlaunch = true\ntor.executable = /usr/bin/tor\nsocks.port = tcp:127.0.0.1:9050\n", LISTEN + "[tor]\ntorrc = x\n",
    LISTEN + "[storage]\nreserved_space = 1G\n", LISTEN + "[storage]\nreserved_space = lots\n", LISTEN + "[storage]\nreserved_space =\n", LISTEN + "[storage]\nreserved_space = -1\n",
    LISTEN + "[storage]\nenabled = ja\n", LISTEN + "[storage]\nreadonly = 2\n", LISTEN + "[storage]\nanonymous = \n", LISTEN + "[storage]\nstorage_dir = ~/x\n",
    LISTEN + "[storage]\nexpire.enabled = true\n", LISTEN + "[storage]\nexpire.enabled = true\nexpire.mode = age\n", LISTEN + "[storage]\nexpire.enabled = true\nexpire.mode = never\n",
    LISTEN + "[storage]\nexpire.enabled = true\nexpire.mode = cutoff-date\n", LISTEN + "[storage]\nexpire.enabled = true\nexpire.mode = cutoff-date\nexpire.cutoff_date = 2026-11-23\n",
    LISTEN + "[storage]\nexpire.enabled = true\nexpire.mode = cutoff-date\nexpire.cutoff_date = tomorrow\n",
    LISTEN + "[storage]\nexpire.override_lease_duration = 31 days\n", LISTEN + "[storage]\nexpire.override_lease_duration = 31\n", LISTEN + "[storage]\nexpire.override_lease_duration = x days\n",
    "[node]\ntub.port = disabled\ntub.location = disabled\n[storage]\nenabled = true\n", DEAF + "[helper]\nenabled = true\n",
    LISTEN + "[helper]\nenabled = true\n", LISTEN + "[sftpd]\nenabled = false\n", LISTEN + "[grid_managers]\ngm = pub-v0-abc\n",
    LISTEN + "[grid_manager_certificates]\ndefault = gm.cert\n", LISTEN + "[storageserver.plugins.x]\nany = thing\n", LISTEN + "[storageclient.plugins.]\nany = thing\n",
    LISTEN + "no delimiter\n", "nickname = x\n", LISTEN + " = x\n", "[DEFAULT]\nnickname = x\n" + LISTEN + "[storage]\nenabled = true\n", LISTEN + "[i2p]\nenabled = false\n", LISTEN + "[i2p]\nsam = x\n",
    "\ufeff" + LISTEN, LISTEN.replace("\n", "\r\n"),
]


def settings():
    out = []
    for text in SETTINGS:
        for kind in ("client", "introducer"):
            out.append({"text": text, "kind": kind, "error": starts(kind, decoded(text))})
    write("settings.json", out)


def values():
    def each(f, texts):
        out = []
        for t in texts:
            try:
                v = f(t)
            except Exception:
                v = -1
            out.append({"text": t, "value": 0 if v is None else v})
        return out

    write("values.json", {
        "sizes": each(abbreviate.parse_abbreviated_size,
                      ["", "0", "7", "1G", "1g", "10MiB", "500kB", "3 GB", "1GI", "1Gi", "2I", "2iB", "5B", "4E", "2PiB", "1T", "K", "G1", "1.5G", "-1", "1GG", "1KM", "0x10", "1 ", "+1"]),
        "durations": each(time_format.parse_duration,
                          ["31 days", "1day", "2mo", "2 mos", "3months", "1 month", "1 year", "2years", "0 days", "31", "x days", "days", "", "-1 days", "1.5 days", "1 week", "5 s", "1 dayss"]),
        "dates": each(time_format.parse_date, ["2026-11-23", "1970-01-01", "2000-02-29", "tomorrow", "", "2026-13-01", "2026-11-31", "23.11.2026"]),
    })


def directories():
    base = os.path.join(OUT, "tahoe")
    shutil.rmtree(base, ignore_errors=True)
    os.makedirs(base)
    tahoe = os.path.join(os.path.dirname(sys.executable), "tahoe")
    where = ["--listen=tcp", "--port=tcp:1234:interface=127.0.0.1", "--location=tcp:127.0.0.1:1234"]
    for name, args in {
        "node": ["create-node", "--introducer=" + FURL, "--nickname=b\u00f6b", "--webport=none"] + where,
        "node-storage": ["create-node", "--storage-dir=/srv/shares", "--helper", "--shares-needed=2", "--shares-happy=3", "--shares-total=5"] + where,
        "node-none": ["create-node", "--listen=none", "--no-storage"],
        "client": ["create-client", "--introducer=" + FURL, "--shares-needed=2", "--shares-happy=3", "--shares-total=3"],
        "client-hidden": ["create-client", "--hide-ip"],
        "introducer": ["create-introducer"] + where,
    }.items():
        subprocess.run([tahoe, "--quiet"] + args + [os.path.join(base, name)], check=True, stdout=subprocess.DEVNULL)


ini()
settings()
values()
directories()
