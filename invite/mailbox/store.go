package mailbox

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// The database holds four buckets. Keys begin with the application id and a
// zero byte: applications do not see each other.
//
//	nameplates  app 0 number       nameplate, as JSON
//	mailboxes   app 0 id           box, as JSON
//	messages    app 0 id 0 seq     stored, as JSON; seq is big-endian, 8 bytes
//	gone        app 0 number       tombstone, as JSON: what became of a nameplate
const (
	bucketNameplates = "nameplates"
	bucketMailboxes  = "mailboxes"
	bucketMessages   = "messages"
	bucketGone       = "gone"
)

// idleLife is how long a mailbox without a listener lives: the reference
// server's CHANNEL_EXPIRATION_TIME.
const idleLife = 11 * time.Minute

// tombstoneLife is how long a nameplate's end is remembered, so that a newcomer
// who comes late hears "used" or "expired" rather than waiting for nobody.
const tombstoneLife = 14 * 24 * time.Hour

// Errors that clients are told, in the reference server's words where it has them.
var (
	errCrowded   = errors.New("crowded")
	errReclaimed = errors.New("reclaimed")
	errFull      = errors.New("mailbox server is full, try again later")
	errClaims    = errors.New("too many claims, try again later")
	errTooMuch   = errors.New("mailbox is full")
)

// What became of a nameplate.
const (
	goneUsed      = "used"
	goneExpired   = "expired"
	goneCancelled = "cancelled"
	goneFailed    = "failed"
)

type nameplate struct {
	Mailbox string          `json:"mailbox"`
	Sides   map[string]bool `json:"sides"` // side -> still claimed
	Reason  string          `json:"reason,omitempty"`
}

type box struct {
	Nameplate string          `json:"nameplate,omitempty"`
	Sides     map[string]bool `json:"sides"` // side -> still open
	Updated   int64           `json:"updated"`
	Expires   int64           `json:"expires,omitempty"` // granted life; 0 is the idle rule
	Messages  int             `json:"messages"`
	Bytes     int             `json:"bytes"`
	Reason    string          `json:"reason,omitempty"` // a side has called it off: cancelled or expired
}

// dead says whether a prune at now removes the mailbox.
func (b box) dead(now time.Time, listened bool) (string, bool) {
	if b.Expires != 0 {
		if now.Unix() >= b.Expires {
			return goneExpired, true
		}
		if b.Messages > 0 {
			return "", false
		}
	}
	return goneExpired, !listened && now.Sub(time.Unix(b.Updated, 0)) >= idleLife
}

type stored struct {
	Side  string  `json:"side"`
	Phase string  `json:"phase"`
	Body  string  `json:"body"`
	RX    float64 `json:"rx"`
	ID    string  `json:"id,omitempty"`
}

type tombstone struct {
	Reason string `json:"reason"`
	Until  int64  `json:"until"`
}

// store is the rules over one transaction. It has no clock of its own.
type store struct {
	tx    *bolt.Tx
	app   string
	now   time.Time
	limit Limits
	grow  func() bool // takes from the budget of new mailboxes
}

func (s store) key(parts ...string) []byte {
	return []byte(s.app + "\x00" + strings.Join(parts, "\x00"))
}

func load[T any](s store, bucket, name string) (T, bool, error) {
	var v T
	raw := s.tx.Bucket([]byte(bucket)).Get(s.key(name))
	if raw == nil {
		return v, false, nil
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, false, fmt.Errorf("reading %s: %w", bucket, err)
	}
	return v, true, nil
}

func (s store) put(bucket, name string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.tx.Bucket([]byte(bucket)).Put(s.key(name), raw)
}

func (s store) drop(bucket, name string) error {
	return s.tx.Bucket([]byte(bucket)).Delete(s.key(name))
}

// allocate finds a free nameplate and claims it for side. digits 0 takes the
// shortest free number as the reference does; otherwise a random one of that
// many digits, which nobody finds by counting. A number that was used or expired
// lately is not free: its old holder may still try it, and would spend the new code.
func (s store) allocate(side string, digits int, expires int64) (string, error) {
	free := func(name string) bool {
		return s.tx.Bucket([]byte(bucketNameplates)).Get(s.key(name)) == nil &&
			s.tx.Bucket([]byte(bucketGone)).Get(s.key(name)) == nil
	}
	claim := func(name string) (string, error) {
		_, err := s.claim(name, side, expires)
		return name, err
	}
	if digits == 0 {
		for size := 1; size <= 3; size++ {
			var names []string
			for n := pow10(size - 1); n < pow10(size); n++ {
				if name := strconv.FormatInt(n, 10); free(name) {
					names = append(names, name)
				}
			}
			if len(names) > 0 {
				n, err := rand.Int(rand.Reader, big.NewInt(int64(len(names))))
				if err != nil {
					return "", err
				}
				return claim(names[n.Int64()])
			}
		}
		digits = 5
	}
	// When many are taken, one digit more.
	for ; digits <= maxDigits; digits++ {
		for range 100 {
			n, err := rand.Int(rand.Reader, big.NewInt(pow10(digits)-pow10(digits-1)))
			if err != nil {
				return "", err
			}
			name := strconv.FormatInt(n.Int64()+pow10(digits-1), 10)
			if free(name) {
				return claim(name)
			}
		}
	}
	return "", errFull
}

func pow10(n int) int64 {
	v := int64(1)
	for range n {
		v *= 10
	}
	return v
}

// gone says what became of a nameplate that does not exist.
func (s store) gone(name string) (string, error) {
	t, ok, err := load[tombstone](s, bucketGone, name)
	if err != nil || !ok || s.now.Unix() >= t.Until {
		return "unknown", err
	}
	return t.Reason, nil
}

// claim gives side the nameplate's mailbox, making both if they do not exist.
// Repeating it is safe. A third side is refused and leaves no trace.
func (s store) claim(name, side string, expires int64) (string, error) {
	np, ok, err := load[nameplate](s, bucketNameplates, name)
	if err != nil {
		return "", err
	}
	if !ok {
		if s.tx.Bucket([]byte(bucketNameplates)).Stats().KeyN >= s.limit.Nameplates {
			return "", errFull
		}
		id := make([]byte, 10)
		rand.Read(id)
		np = nameplate{Mailbox: strings.ToLower(base32.StdEncoding.EncodeToString(id)), Sides: map[string]bool{}}
		if err := s.drop(bucketGone, name); err != nil {
			return "", err
		}
	}
	claimed, known := np.Sides[side]
	switch {
	case known && !claimed:
		return "", errReclaimed
	case !known && len(np.Sides) >= 2:
		return "", errCrowded
	}
	if _, err := s.open(np.Mailbox, side, name, expires); err != nil {
		return "", err
	}
	np.Sides[side] = true
	return np.Mailbox, s.put(bucketNameplates, name, np)
}

// release gives up side's claim; the last release frees the nameplate.
func (s store) release(name, side, reason string) error {
	np, ok, err := load[nameplate](s, bucketNameplates, name)
	if err != nil || !ok {
		return err
	}
	if _, mine := np.Sides[side]; !mine {
		return nil
	}
	np.Sides[side] = false
	if reason != "" {
		np.Reason = reason
	}
	for _, claimed := range np.Sides {
		if claimed {
			return s.put(bucketNameplates, name, np)
		}
	}
	return s.freeNameplate(name, np, goneUsed)
}

// freeNameplate removes a nameplate and remembers why: what a side said of it,
// else what happened.
func (s store) freeNameplate(name string, np nameplate, reason string) error {
	if np.Reason != "" {
		reason = np.Reason
	} else if reason == goneUsed && len(np.Sides) < 2 {
		reason = goneCancelled
	}
	if err := s.drop(bucketNameplates, name); err != nil {
		return err
	}
	if s.tx.Bucket([]byte(bucketGone)).Stats().KeyN >= s.limit.Nameplates {
		return nil // memory is bounded; the newcomer then hears "unknown"
	}
	return s.put(bucketGone, name, tombstone{reason, s.now.Add(tombstoneLife).Unix()})
}

// open notes that side has the mailbox open, making it if it does not exist. It
// returns why the other side has called it off, if that has.
func (s store) open(id, side, name string, expires int64) (string, error) {
	b, ok, err := load[box](s, bucketMailboxes, id)
	if err != nil {
		return "", err
	}
	if !ok {
		if s.tx.Bucket([]byte(bucketMailboxes)).Stats().KeyN >= s.limit.Mailboxes {
			return "", errFull
		}
		if !s.grow() {
			return "", errClaims
		}
		b = box{Nameplate: name, Sides: map[string]bool{}, Expires: expires}
	}
	open, known := b.Sides[side]
	if !known && len(b.Sides) >= 2 {
		return "", errCrowded
	}
	reason := b.Reason
	if known && !open {
		reason = "" // it was this side
	}
	b.Sides[side] = true
	b.Updated = s.now.Unix()
	return reason, s.put(bucketMailboxes, id, b)
}

// messages returns what the mailbox holds, oldest first.
func (s store) messages(id string) ([]stored, error) {
	var out []stored
	prefix := string(s.key(id)) + "\x00"
	c := s.tx.Bucket([]byte(bucketMessages)).Cursor()
	for k, v := c.Seek([]byte(prefix)); k != nil && strings.HasPrefix(string(k), prefix); k, v = c.Next() {
		var m stored
		if err := json.Unmarshal(v, &m); err != nil {
			return nil, fmt.Errorf("reading a message: %w", err)
		}
		out = append(out, m)
	}
	return out, nil
}

// add appends a message. A repetition of one that is there (a client that
// reconnected and does not know) is not stored twice: it returns false.
func (s store) add(id string, m stored) (bool, error) {
	b, ok, err := load[box](s, bucketMailboxes, id)
	if err != nil {
		return false, err
	}
	if !ok {
		return false, errors.New("mailbox expired")
	}
	held, err := s.messages(id)
	if err != nil {
		return false, err
	}
	for _, h := range held {
		if h.Side == m.Side && h.Phase == m.Phase && h.Body == m.Body {
			return false, nil
		}
	}
	if b.Messages >= s.limit.Messages || b.Bytes+len(m.Body) > s.limit.MailboxBytes {
		return false, errTooMuch
	}
	if s.used()+int64(len(m.Body)) > s.limit.Disk {
		return false, errFull
	}
	b.Messages++
	b.Bytes += len(m.Body)
	b.Updated = s.now.Unix()
	bucket := s.tx.Bucket([]byte(bucketMessages))
	seq, err := bucket.NextSequence()
	if err != nil {
		return false, err
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return false, err
	}
	key := binary.BigEndian.AppendUint64(append(s.key(id), 0), seq)
	if err := bucket.Put(key, raw); err != nil {
		return false, err
	}
	return true, s.put(bucketMailboxes, id, b)
}

// used is how much of the database file holds something: bbolt does not give
// free pages back to the disk.
func (s store) used() int64 {
	stats := s.tx.DB().Stats()
	return s.tx.Size() - int64(stats.FreePageN+stats.PendingPageN)*int64(s.tx.DB().Info().PageSize)
}

// close notes that side is done; when both are, everything goes. It says whether
// the other side is still there and shall hear why this one has called it off.
func (s store) close(id, side, mood, reason string) (tell bool, err error) {
	b, ok, err := load[box](s, bucketMailboxes, id)
	if err != nil || !ok {
		return false, err
	}
	if _, mine := b.Sides[side]; !mine {
		return false, nil
	}
	b.Sides[side] = false
	for _, open := range b.Sides {
		if open {
			if tell = reason == goneCancelled || reason == goneExpired; tell {
				b.Reason = reason
			}
			return tell, s.put(bucketMailboxes, id, b)
		}
	}
	if reason == "" {
		switch mood {
		case "scary":
			reason = goneFailed
		default:
			reason = goneUsed
		}
	}
	return false, s.remove(id, b, reason)
}

func (s store) remove(id string, b box, reason string) error {
	if b.Nameplate != "" {
		np, ok, err := load[nameplate](s, bucketNameplates, b.Nameplate)
		if err != nil {
			return err
		}
		switch {
		case ok && np.Mailbox == id:
			err = s.freeNameplate(b.Nameplate, np, reason)
		case !ok && reason != goneUsed:
			// Both released it when they met, which looked like use; the
			// end of the mailbox says what it was.
			err = s.correctTombstone(b.Nameplate, reason)
		}
		if err != nil {
			return err
		}
	}
	prefix := string(s.key(id)) + "\x00"
	c := s.tx.Bucket([]byte(bucketMessages)).Cursor()
	for k, _ := c.Seek([]byte(prefix)); k != nil && strings.HasPrefix(string(k), prefix); k, _ = c.Seek([]byte(prefix)) {
		if err := c.Delete(); err != nil {
			return err
		}
	}
	return s.drop(bucketMailboxes, id)
}

func (s store) correctTombstone(name, reason string) error {
	t, ok, err := load[tombstone](s, bucketGone, name)
	if err != nil || !ok || t.Reason != goneUsed {
		return err
	}
	t.Reason = reason
	return s.put(bucketGone, name, t)
}
