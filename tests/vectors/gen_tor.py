"""Onion keys as tor and `tahoe create-node --listen=tor` make them.

Usage: gen_tor.py TAHOE CONTROL_PORT OUT.json

TAHOE is the real tahoe command. CONTROL_PORT is "127.0.0.1:PORT" of a tor that
takes our user's cookie and is a client of a network in which onion services can
be published (tests/tornet serves one). The keys are of services that existed only
while this ran.
"""
import binascii
import configparser
import json
import os
import re
import socket
import subprocess
import sys
import tempfile


class Control:
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.stream = socket.create_connection((host, int(port))).makefile("rwb")
        info = "\n".join(self.ask("PROTOCOLINFO 1"))
        cookie = re.search(r'COOKIEFILE="([^"]+)"', info).group(1)
        with open(cookie, "rb") as f:
            self.ask("AUTHENTICATE " + binascii.hexlify(f.read()).decode())

    def ask(self, command):
        self.stream.write(command.encode() + b"\r\n")
        self.stream.flush()
        lines = []
        while True:
            line = self.stream.readline().decode().rstrip("\r\n")
            if not line.startswith("250"):
                raise RuntimeError(line)
            lines.append(line[4:])
            if line[3] == " ":
                return lines


def main(tahoe, control_port, out):
    control = Control(control_port)
    cases = []
    for n in range(8):
        answer = dict(
            line.split("=", 1)
            for line in control.ask("ADD_ONION NEW:ED25519-V3 Port=%d" % (1000 + n))
            if "=" in line
        )
        cases.append({
            "by": "tor " + control.ask("GETINFO version")[0].split("=", 1)[1],
            "key": answer["PrivateKey"],
            "address": answer["ServiceID"] + ".onion",
        })
        control.ask("DEL_ONION " + answer["ServiceID"])
    with tempfile.TemporaryDirectory() as tmp:
        node = os.path.join(tmp, "node")
        subprocess.run(
            [tahoe, "create-node", "--listen=tor", "--tor-control-port=tcp:" + control_port, node],
            check=True, stdout=subprocess.DEVNULL,
        )
        cfg = configparser.ConfigParser(interpolation=None)
        cfg.read(os.path.join(node, "tahoe.cfg"))
        location = cfg.get("node", "tub.location")
        with open(os.path.join(node, "private", "tor_onion.privkey"), "rb") as f:
            key = f.read().decode("ascii")
        cases.append({
            "by": "tahoe create-node --listen=tor",
            "key": key,
            "address": location.split(":")[1],
            "tub_port": cfg.get("node", "tub.port"),
            "tub_location": location,
            "tor": dict(cfg.items("tor")),
        })
    with open(out, "w") as f:
        json.dump(cases, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
