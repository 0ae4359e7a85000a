"""
Tahoe-LAFS's own storage servers over HTTPS, for tests.

Each line of standard input is the path of a storage directory; the answer is a
line with the NURL of a new server on it. Ends when standard input does. With an
argument, a time in seconds since 1970, the servers' clocks stand still there.
"""

import datetime
import os
import sys
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from twisted.internet import reactor, stdio
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import Clock
from twisted.protocols.basic import LineReceiver
from twisted.python.filepath import FilePath

from allmydata.storage.http_server import HTTPServer, listen_tls
from allmydata.storage.server import StorageServer

NODE = bytes(range(1, 21))


def certificate():
    where = tempfile.mkdtemp()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "newpb_thingy")])
    now = datetime.datetime(2026, 1, 1)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))  # long ago: nobody cares
        .sign(key, hashes.SHA256())
    )
    paths = FilePath(os.path.join(where, "key.pem")), FilePath(os.path.join(where, "cert.pem"))
    paths[0].setContent(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    paths[1].setContent(cert.public_bytes(Encoding.PEM))
    return paths


class Control(LineReceiver):
    delimiter = b"\n"

    def __init__(self, clock):
        self.clock = clock
        self.key, self.cert = certificate()

    def lineReceived(self, line):
        backend = StorageServer(line.decode(), NODE, clock=self.clock)
        server = HTTPServer(reactor, backend, b"sekritswissnum")
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        d = listen_tls(server, "127.0.0.1", endpoint, self.key, self.cert)
        d.addCallback(lambda result: self.sendLine(result[0].to_text().encode()))
        d.addErrback(lambda f: self.sendLine(b"failed: " + f.getTraceback().encode().replace(b"\n", b"|")))

    def connectionLost(self, reason):
        reactor.stop()


def main():
    clock = reactor
    if len(sys.argv) > 1:
        clock = Clock()
        clock.advance(int(sys.argv[1]))
    stdio.StandardIO(Control(clock))
    reactor.run()


main()
