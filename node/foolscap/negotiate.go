package foolscap

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"warren/node/furl"
)

// negotiationTimeout is how long a peer may take. Foolscap allows two minutes
// because a Tor circuit may have to be built; that is in the dialing here.
const negotiationTimeout = time.Minute

// buffered is a connection whose first bytes were read ahead.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// guard closes conn when ctx ends and bounds negotiation in time; the returned
// function lifts both.
func guard(ctx context.Context, conn net.Conn) func() {
	conn.SetDeadline(time.Now().Add(negotiationTimeout))
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return func() {
		stop()
		conn.SetDeadline(time.Time{})
	}
}

// negotiateServer agrees with a peer that connected to us.
func (t *Tub) negotiateServer(ctx context.Context, conn net.Conn) (*connection, error) {
	defer guard(ctx, conn)()
	r := bufio.NewReader(conn)
	header, err := readBlock(r)
	if err != nil {
		return nil, err
	}
	id, err := parseRequest(header)
	if err == nil && id != t.id {
		err = disagree("unknown TubID")
	}
	if err != nil {
		conn.Write([]byte("HTTP/1.1 500 Internal Server Error: " + plain(err) + "\r\n\r\n"))
		return nil, err
	}
	if _, err := conn.Write([]byte(switchingProtocols)); err != nil {
		return nil, err
	}
	secure := tls.Server(buffered{conn, r}, &tls.Config{
		Certificates: []tls.Certificate{t.config.Certificate},
		ClientAuth:   tls.RequireAnyClientCert,
		MinVersion:   tls.VersionTLS12,
		// A resumed session would skip the certificates.
		SessionTicketsDisabled: true,
	})
	return t.agree(ctx, secure, "", "")
}

// negotiateClient agrees with the peer that we connected to by a hint.
func (t *Tub) negotiateClient(ctx context.Context, conn net.Conn, peer string, hint furl.Hint) (*connection, error) {
	defer guard(ctx, conn)()
	if _, err := conn.Write([]byte(formatRequest(peer, hint.Address()))); err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	header, err := readBlock(r)
	if err != nil {
		return nil, err
	}
	if err := parseResponse(header); err != nil {
		return nil, err
	}
	secure := tls.Client(buffered{conn, r}, &tls.Config{
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &t.config.Certificate, nil
		},
		// The tub id replaces the check of names, dates and authorities: see below.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if TubID(s.PeerCertificates[0].Raw) != peer {
				return disagree("the server is another tub")
			}
			return nil
		},
		MinVersion: tls.VersionTLS12,
	})
	return t.agree(ctx, secure, peer, hint.Text())
}

// plain is an error's text without the wrapping, for the peer.
func plain(err error) string {
	text := err.Error()
	if prefix := ErrNegotiation.Error() + ": "; len(text) > len(prefix) && text[:len(prefix)] == prefix {
		text = text[len(prefix):]
	}
	return clip(text, 200)
}

// agree is the encrypted part. expected is the tub that we connected to, "" when
// it connected to us.
func (t *Tub) agree(ctx context.Context, secure *tls.Conn, expected, hint string) (*connection, error) {
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, disagree("TLS: %v", err)
	}
	certificates := secure.ConnectionState().PeerCertificates
	if len(certificates) == 0 {
		return nil, disagree("the peer has no certificate")
	}
	peer := TubID(certificates[0].Raw)

	hello := map[string]string{
		"banana-negotiation-range":  "3 3",
		"initial-vocab-table-range": "0 1",
		"my-tub-id":                 t.id,
		"my-incarnation":            t.incarnation,
	}
	if expected != "" {
		t.mu.Lock()
		last, ok := t.lastHeard[peer]
		connected := t.connections[peer] != nil
		t.mu.Unlock()
		if connected {
			// Another attempt was faster. To go on, knowing of that connection, would tell
			// the master that it is dead.
			return nil, ErrDuplicate
		}
		if !ok {
			last = "none 0"
		}
		hello["last-connection"] = last
	}
	if _, err := secure.Write([]byte(formatBlock(hello))); err != nil {
		return nil, err
	}

	// Reading goes through the connection's activity note from here on, since the
	// reader is handed to it.
	in := &activity{Conn: secure, at: func() {}}
	r := bufio.NewReaderSize(in, 16<<10)
	theirs, err := readHello(r)
	if err == nil && theirs["my-tub-id"] != peer {
		err = disagree("TubID mismatch")
	}
	if err == nil && peer == t.id {
		err = disagree("connected to itself")
	}
	if err == nil {
		err = checkVersion(theirs)
	}
	if err != nil {
		secure.Write([]byte(refusal(plain(err))))
		return nil, err
	}
	made := func(a agreed) *connection {
		c := newConnection(t, secure, r, peer, hint, a)
		in.at = func() { c.received.Store(time.Now().UnixNano()) }
		return c
	}
	if t.id > peer {
		return t.decide(secure, theirs, peer, made)
	}
	return t.accept(r, peer, made)
}

func readHello(r *bufio.Reader) (map[string]string, error) {
	text, err := readBlock(r)
	if err != nil {
		return nil, err
	}
	block, err := parseBlock(text)
	if err != nil {
		return nil, err
	}
	return block, remoteRefusal(block)
}

// decide is the master's part.
func (t *Tub) decide(secure *tls.Conn, theirs map[string]string, peer string, made func(agreed) *connection) (*connection, error) {
	vocabulary, err := chooseVocabulary(theirs)
	if err != nil {
		secure.Write([]byte(refusal(plain(err))))
		return nil, err
	}
	c := made(agreed{vocabulary: vocabulary, peerIncarnation: theirs["my-incarnation"]})
	err = t.attach(c, func(existing *connection) error {
		if existing != nil && !replaces(theirs, existing.agreed, t.incarnation, existing.unheard()) {
			return ErrDuplicate
		}
		c.seqnum = t.lastSeqnum[peer] + 1
		remember(t.lastSeqnum, peer, c.seqnum)
		return nil
	})
	if err != nil {
		reason := "shutting down"
		if errors.Is(err, ErrDuplicate) {
			reason = "Duplicate connection" // the words by which peers know it
		}
		secure.Write([]byte(refusal(reason)))
		return nil, err
	}
	if _, err := secure.Write([]byte(formatDecision(c.agreed, t.incarnation))); err != nil {
		c.fail(err)
		return nil, err
	}
	return c, nil
}

// accept is the other side's part.
func (t *Tub) accept(r *bufio.Reader, peer string, made func(agreed) *connection) (*connection, error) {
	text, err := readBlock(r)
	if err != nil {
		return nil, err
	}
	block, err := parseBlock(text)
	if err != nil {
		return nil, err
	}
	a, current, err := parseDecision(block)
	if err != nil {
		return nil, err
	}
	c := made(a)
	// The master has chosen this connection, so one that we still have is dead.
	err = t.attach(c, func(*connection) error {
		if current != "" {
			remember(t.lastHeard, peer, current)
		}
		return nil
	})
	return c, err
}
