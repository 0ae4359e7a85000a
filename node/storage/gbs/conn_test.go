package gbs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"testing"
)

// TestSecureConn: whatever the sizes of writes and reads, the bytes arrive, in both
// directions at once.
func TestSecureConn(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &secureListener{plain, TLSConfig(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}), newBuffers()}
	defer l.Close()
	data := make([]byte, 5<<20)
	mathrand.NewChaCha8([32]byte{1}).Read(data)

	// Each side sends in two ways and receives in pieces of all sizes.
	talk := func(c net.Conn, seed uint64) error {
		sizes := mathrand.New(mathrand.NewPCG(seed, 0))
		sent := make(chan error, 1)
		go func() {
			left := data
			for len(left) > len(data)/2 {
				n := min(1+sizes.IntN(300<<10), len(left))
				if _, err := c.Write(left[:n]); err != nil {
					sent <- err
					return
				}
				left = left[n:]
			}
			_, err := c.(io.ReaderFrom).ReadFrom(bytes.NewReader(left))
			sent <- err
		}()
		got, reads := make([]byte, 0, len(data)), mathrand.New(mathrand.NewPCG(seed, 1))
		for len(got) < len(data) {
			n, err := c.Read(got[len(got):min(len(got)+1+reads.IntN(100<<10), len(data))])
			if err != nil {
				return err
			}
			got = got[:len(got)+n]
		}
		if !bytes.Equal(got, data) {
			t.Errorf("side %d received something else", seed)
		}
		return <-sent
	}
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			served <- err
			return
		}
		defer c.Close()
		served <- talk(c, 1)
	}()
	raw, err := net.Dial("tcp", plain.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := newSecureConn(raw, tls.Client, &tls.Config{InsecureSkipVerify: true}, newBuffers())
	defer c.Close()
	if err := talk(c, 2); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
