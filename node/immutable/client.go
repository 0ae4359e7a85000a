package immutable

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"warren/node/caps"
	"warren/node/erasure"
	"warren/node/grid"
)

// Servers is the grid: the connected servers in the order in which Tahoe's
// permutation asks them for one file.
type Servers interface {
	Permuted(si caps.StorageIndex) []grid.Server
}

// Secret is a convergence or lease secret. It prints redacted.
type Secret []byte

// String hides the secret.
func (Secret) String() string { return "<secret>" }

// Format hides the secret from every verb.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// Config says how a Client stores and fetches.
type Config struct {
	Servers Servers

	// Needed, Happy and Total are k, servers of happiness and n.
	Needed, Happy, Total int
	// SegmentSize is the largest segment, DefaultSegmentSize if zero. Capabilities
	// of convergent files depend on it.
	SegmentSize int
	// Convergence is the node's convergence secret (private/convergence, decoded);
	// nil encrypts every upload with a random key.
	Convergence Secret
	// LeaseSecret is the node's lease secret (private/secret, decoded).
	LeaseSecret Secret
	// TempDir is where bodies are spooled; the system's if empty.
	TempDir string
	// Rand makes keys; crypto/rand if nil.
	Rand io.Reader

	// QueryTimeout bounds one question to a server (what do you hold, will you
	// take this): 30 s if zero.
	QueryTimeout time.Duration
	// StallTimeout bounds one write or read of at most a megabyte (much less while
	// the line is slow): 2 min if zero.
	StallTimeout time.Duration
	// HedgeAfter is how long a block is waited for before another server is asked as
	// well: 3 s if zero. Servers that have been quicker so far are waited for less,
	// and all of them for longer when k of them are known to need it.
	HedgeAfter time.Duration
}

// Client stores and fetches immutable files. It is safe for concurrent use.
type Client struct {
	cfg Config

	mu sync.Mutex
	// mu guards busy, uploads under way by storage index, each closed when it ends
	// (a server refuses a share that another upload is writing, so two uploads of
	// one content take turns), and the rest.
	busy       map[caps.StorageIndex]chan struct{}
	coders     map[[2]int]*erasure.Coder
	memoryUsed int // by the buffers of uploads

	speeds  speeds
	guesses guesses
	// The buffers of downloads: blocks as they come, and segments of plaintext.
	blocks, segments spare
}

// New checks cfg and makes a Client. It starts nothing.
func New(cfg Config) (*Client, error) {
	cfg.SegmentSize = cmp.Or(cfg.SegmentSize, DefaultSegmentSize)
	cfg.QueryTimeout = cmp.Or(cfg.QueryTimeout, 30*time.Second)
	cfg.StallTimeout = cmp.Or(cfg.StallTimeout, 2*time.Minute)
	cfg.HedgeAfter = cmp.Or(cfg.HedgeAfter, 3*time.Second)
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	switch {
	case cfg.Servers == nil:
		return nil, errors.New("immutable: no servers given")
	case cfg.Needed < 1 || cfg.Total < cfg.Needed || cfg.Total > erasure.MaxShares:
		return nil, fmt.Errorf("immutable: %d of %d shares: %w", cfg.Needed, cfg.Total, erasure.ErrParameters)
	case cfg.Happy < 1 || cfg.Happy > cfg.Total:
		return nil, fmt.Errorf("immutable: happy is %d, which is not between 1 and %d", cfg.Happy, cfg.Total)
	case cfg.SegmentSize < cfg.Needed || cfg.SegmentSize > maxSegmentSize-erasure.MaxShares:
		return nil, fmt.Errorf("immutable: segment size %d", cfg.SegmentSize)
	}
	return &Client{
		cfg:    cfg,
		busy:   map[caps.StorageIndex]chan struct{}{},
		coders: map[[2]int]*erasure.Coder{},
	}, nil
}

// coder keeps the coders of the encodings in use. Capabilities of strangers
// choose k and n, so the store is small.
func (c *Client) coder(k, n int) (*erasure.Coder, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if got := c.coders[[2]int{k, n}]; got != nil {
		return got, nil
	}
	made, err := erasure.New(k, n)
	if err != nil {
		return nil, err
	}
	if len(c.coders) >= 16 {
		clear(c.coders)
	}
	c.coders[[2]int{k, n}] = made
	return made, nil
}

// ErrUnhappy is what errors.Is finds in every UnhappyError.
var ErrUnhappy = errors.New("immutable: too few servers took shares")

// UnhappyError says that shares could not be spread over enough servers. Nothing
// was stored that counts; another try is safe.
type UnhappyError struct {
	Happy   int // wanted
	Got     int // reached
	Servers int // that answered at all
	Needed  int
	Total   int
	Last    error // the last failure of a server, or nil
}

func (e *UnhappyError) Error() string {
	s := fmt.Sprintf("%v: shares would stand on %d servers, %d are wanted (%d of %d encoding, %d servers answered)",
		ErrUnhappy, e.Got, e.Happy, e.Needed, e.Total, e.Servers)
	if e.Last != nil {
		s += ": " + e.Last.Error()
	}
	return s
}

// Is reports whether target is ErrUnhappy.
func (e *UnhappyError) Is(target error) bool { return target == ErrUnhappy }

// Unwrap is the last failure of a server.
func (e *UnhappyError) Unwrap() error { return e.Last }

// ErrNotEnoughShares is what errors.Is finds in every NotEnoughSharesError.
var ErrNotEnoughShares = errors.New("immutable: not enough shares")

// NotEnoughSharesError says that fewer than k good shares could be read.
type NotEnoughSharesError struct {
	Found  int // good shares
	Needed int
	Last   error // the last failure of a server or share, or nil
}

func (e *NotEnoughSharesError) Error() string {
	s := fmt.Sprintf("%v: found %d, need %d", ErrNotEnoughShares, e.Found, e.Needed)
	if e.Last != nil {
		s += ": " + e.Last.Error()
	}
	return s
}

// Is reports whether target is ErrNotEnoughShares.
func (e *NotEnoughSharesError) Is(target error) bool { return target == ErrNotEnoughShares }

// Unwrap is the last failure of a server or share.
func (e *NotEnoughSharesError) Unwrap() error { return e.Last }
