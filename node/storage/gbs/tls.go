package gbs

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"

	"warren/node/furl"
)

// ErrCertificate: the server did not show the certificate that the NURL names.
var ErrCertificate = errors.New("gbs: the server's certificate is not the one that the NURL names")

// LoadCertificate reads a node's private/node.pem: certificate and key, one after
// the other, as Foolscap writes them.
func LoadCertificate(pem []byte) (tls.Certificate, error) {
	cert, err := tls.X509KeyPair(pem, pem)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("gbs: reading the node's certificate: %w", err)
	}
	return cert, nil
}

// TLSConfig is the server's side: the node's own certificate, HTTP/1.1.
func TLSConfig(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{cert},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"},
		// Small records at first would help who shows a page before all of it is there.
		DynamicRecordSizingDisabled: true,
	}
}

// SPKIHash is the name of a certificate's public key in a NURL.
func SPKIHash(cert *x509.Certificate) string {
	hash := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return base64.RawURLEncoding.EncodeToString(hash[:])
}

// NURL is where a server with the certificate is reached.
func NURL(cert tls.Certificate, host string, port int, tor bool, swissnum string) (furl.NURL, error) {
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return furl.NURL{}, fmt.Errorf("gbs: %w", err)
	}
	return furl.NURL{SPKIHash: SPKIHash(leaf), Host: host, Port: port, Tor: tor, Swissnum: swissnum, Version: 1}, nil
}

// clientTLS is the client's side: it pins the key. Names, dates and authorities
// mean nothing: node certificates expire, and are signed by themselves.
func clientTLS(nurl furl.NURL) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		// As the server's.
		DynamicRecordSizingDisabled: true,
		// A node's certificate names no host; the pin below decides, for resumed
		// sessions too.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return ErrCertificate
			}
			return checkPin(state.PeerCertificates[0], nurl.SPKIHash)
		},
		ClientSessionCache: tls.NewLRUClientSessionCache(8),
	}
}

func checkPin(leaf *x509.Certificate, want string) error {
	if subtle.ConstantTimeCompare([]byte(SPKIHash(leaf)), []byte(want)) != 1 {
		return ErrCertificate
	}
	// Signed by itself, with the pinned key. Tahoe refuses a certificate that an
	// authority signed, so whoever uses one by mistake should notice here too.
	if string(leaf.RawIssuer) != string(leaf.RawSubject) {
		return fmt.Errorf("%w: it is not self-signed", ErrCertificate)
	}
	// The pin is what protects; that old nodes signed with MD5 or SHA-1, which are not
	// checked, is as good.
	var weak x509.InsecureAlgorithmError
	err := leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature)
	if err != nil && !errors.As(err, &weak) {
		return fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	return nil
}
