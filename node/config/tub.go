package config

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"time"

	"warren/node/taghash"
)

// Tub is the node's certificate (private/node.pem), made when missing, and the tub id
// that follows from it: the base32 of the SHA-1 of the certificate, which lease
// secrets and write enablers hang on. my_nodeid is written beside it.
func (n *Node) Tub() (cert tls.Certificate, tubID string, err error) {
	text, err := n.ReadPrivate("node.pem")
	var data []byte
	switch {
	case err == nil:
		data = []byte(text + "\n")
	case errors.Is(err, fs.ErrNotExist):
		if data, err = newTub(); err != nil {
			return cert, "", err
		}
		if err = n.WritePrivate("node.pem", data); err != nil {
			return cert, "", err
		}
	default:
		return cert, "", err
	}
	if cert, err = tls.X509KeyPair(data, data); err != nil {
		return cert, "", fmt.Errorf("%w: private/node.pem: %w", ErrValue, err)
	}
	sum := sha1.Sum(cert.Certificate[0])
	tubID = taghash.EncodeBase32(sum[:])
	return cert, tubID, n.writeChanged("my_nodeid", tubID)
}

// newTub makes a certificate like Foolscap's: self-signed RSA, because peers pin its
// hash and ask no authority. Nobody looks at the dates; ours lasts, so that a peer
// that did look would not cut the node off.
func newTub() ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("config: tub key: %w", err)
	}
	name := pkix.Name{CommonName: "newpb_thingy"}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      name,
		Issuer:       name,
		// Fixed dates say nothing about when the node was made.
		NotBefore:          time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:           time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC),
		SignatureAlgorithm: x509.SHA256WithRSA,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("config: tub certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("config: tub key: %w", err)
	}
	var out bytes.Buffer
	if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
		return nil, err
	}
	if err := pem.Encode(&out, &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
