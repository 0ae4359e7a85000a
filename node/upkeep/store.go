package upkeep

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"warren/node/caps"
	"warren/node/durable"
)

// The database. Values are JSON; hash is 16 bytes of SHA-256.
//
//	state     "version"        1             another one is not read, but made anew
//	          "round"          round         the one under way, or the last
//	          "last"           round         the last that was finished
//	items     hash(verifycap)  item          what shares are of: leases and health
//	nodes     hash(see keyOf)  node          what is walked: an item, as something of a kind
//	links     node 4           entry         what it led to; 4 bytes of number
//	queue     8 8              entry         to visit: seconds since 1970 from when on (0:
//	                                         at once), and a sequence number
//	risks     hash(verifycap)  Risk
//	failures  node             Failure
const storeVersion = "1"

var buckets = []string{"state", "items", "nodes", "links", "queue", "risks", "failures"}

type (
	// round is one walk.
	round struct {
		Number   uint64    `json:"number"`
		Started  time.Time `json:"started"`
		Finished time.Time `json:"finished,omitzero"`
		Request
		Asked bool   `json:"asked"`
		Why   string `json:"why,omitempty"` // not all roots are known
		// Open are visits that are left, Done those made.
		Open     int `json:"open"`
		Done     int `json:"done"`
		Renewed  int `json:"renewed"`
		Repaired int `json:"repaired"`
	}
	// item is a file or directory as servers know it.
	item struct {
		Seen    uint64    `json:"seen"` // the round that met it last
		Renewed time.Time `json:"renewed,omitzero"`
	}
	// node is an item as something of a kind.
	node struct {
		Seen     uint64 `json:"seen"`
		Expanded bool   `json:"expanded,omitempty"` // what it leads to is known
		Version  string `json:"version,omitempty"`  // of which that is so
		// Tries have failed, or found it not whole; the next is due at Retry.
		Tries int       `json:"tries,omitempty"`
		Retry time.Time `json:"retry,omitzero"`
	}
	// entry is a visit to be made, or, with the name alone as its Path, a link.
	entry struct {
		Path  string `json:"path"`
		Cap   string `json:"cap"`
		Kind  string `json:"kind,omitempty"`
		Past  bool   `json:"past,omitempty"`
		First bool   `json:"first,omitempty"` // it is of the round's walk, no further try
	}
)

// key is what items and nodes are kept under.
type key [16]byte

func hash(parts ...string) key {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return key(sum[:16])
}

// itemKey is that of all capabilities of one file; false: it has no shares.
func itemKey(c caps.Cap) (key, bool) {
	v := caps.Verifier(c)
	if v == nil {
		return key{}, false
	}
	return hash(caps.File(v).Text()), true
}

// keyOf is that of a visit: of one thing, of one kind, with the right to write or
// without.
func keyOf(c caps.Cap, kind string, write bool) key {
	v := caps.Verifier(c)
	if v == nil {
		v = c
	}
	right := "read"
	if write {
		right = "write"
	}
	return hash(v.Text(), kind, right)
}

// asked says that somebody waits for the round.
func (r round) asked() bool { return r.Asked && r.Finished.IsZero() }

type store struct{ db *bolt.DB }

func openStore(path string, log *slog.Logger) (*store, error) {
	options := &bolt.Options{Timeout: 5 * time.Second, FreelistType: bolt.FreelistMapType}
	db, err := durable.OpenBolt(path, options)
	if errors.Is(err, bolterrors.ErrInvalid) || errors.Is(err, bolterrors.ErrChecksum) || errors.Is(err, bolterrors.ErrVersionMismatch) {
		log.Warn("upkeep begins anew: its database cannot be read", "error", err)
		if err = os.Remove(path); err == nil {
			db, err = durable.OpenBolt(path, options)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening upkeep's database: %w", err)
	}
	err = db.Update(func(t *bolt.Tx) error {
		if b := t.Bucket([]byte("state")); b != nil && string(b.Get([]byte("version"))) != storeVersion {
			log.Warn("upkeep begins anew: its database is of another version")
			for _, name := range buckets {
				if err := t.DeleteBucket([]byte(name)); err != nil && !errors.Is(err, bolterrors.ErrBucketNotFound) {
					return err
				}
			}
		}
		for _, name := range buckets {
			if _, err := t.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return t.Bucket([]byte("state")).Put([]byte("version"), []byte(storeVersion))
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("preparing upkeep's database: %w", err), db.Close())
	}
	return &store{db}, nil
}

func (s *store) close() error { return s.db.Close() }

// tx is used only inside the function that it is given to.
type tx struct{ t *bolt.Tx }

func (t *tx) bucket(name string) *bolt.Bucket { return t.t.Bucket([]byte(name)) }

func (s *store) update(f func(*tx) error) error {
	return s.db.Update(func(t *bolt.Tx) error { return f(&tx{t}) })
}

func (s *store) view(f func(*tx) error) error {
	return s.db.View(func(t *bolt.Tx) error { return f(&tx{t}) })
}

// get reads into v, and leaves it alone when there is nothing.
func (t *tx) get(bucket string, k []byte, v any) error {
	raw := t.bucket(bucket).Get(k)
	if raw == nil {
		return nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("upkeep's database: %s: %w", bucket, err)
	}
	return nil
}

func (t *tx) put(bucket string, k []byte, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return t.bucket(bucket).Put(k, raw)
}

func (t *tx) round() (r round, err error) { return r, t.get("state", []byte("round"), &r) }

// setRound keeps the round; a finished one is the last, with what is tried again
// after it.
func (t *tx) setRound(r round) error {
	if !r.Finished.IsZero() {
		if err := t.put("state", []byte("last"), r); err != nil {
			return err
		}
	}
	return t.put("state", []byte("round"), r)
}

func (t *tx) item(k key) (i item, err error) { return i, t.get("items", k[:], &i) }

func (t *tx) node(k key) (n node, err error) { return n, t.get("nodes", k[:], &n) }

func (s *store) round() (r round, err error) {
	err = s.view(func(t *tx) (err error) {
		r, err = t.round()
		return err
	})
	return r, err
}

// begin starts a round with the next number; fill puts its first visits into the
// queue, which is empty.
func (s *store) begin(r round, fill func(*tx, *round) error) (number uint64, err error) {
	err = s.update(func(t *tx) error {
		old, err := t.round()
		if err != nil {
			return err
		}
		if err := t.t.DeleteBucket([]byte("queue")); err != nil {
			return err
		}
		if _, err := t.t.CreateBucket([]byte("queue")); err != nil {
			return err
		}
		r.Number = old.Number + 1
		number = r.Number
		if err := fill(t, &r); err != nil {
			return err
		}
		return t.setRound(r)
	})
	return number, err
}

// end notes that a round is finished, unless another has begun meanwhile.
func (s *store) end(number uint64, now time.Time) (r round, err error) {
	err = s.update(func(t *tx) error {
		if r, err = t.round(); err != nil || r.Number != number || r.Open > 0 {
			return err
		}
		r.Finished = now
		return t.setRound(r)
	})
	return r, err
}

// enqueue adds a visit; a zero time is at once.
func (t *tx) enqueue(e entry, at time.Time) error {
	b := t.bucket("queue")
	n, err := b.NextSequence()
	if err != nil {
		return err
	}
	var k []byte
	if at.IsZero() {
		k = binary.BigEndian.AppendUint64(k, 0)
	} else {
		k = binary.BigEndian.AppendUint64(k, uint64(max(at.Unix(), 1)))
	}
	k = binary.BigEndian.AppendUint64(k, n)
	return t.put("queue", k, e)
}

// due lists the first visits that are due at now.
func (t *tx) due(now time.Time, limit int) (keys [][]byte, entries []entry, err error) {
	c := t.bucket("queue").Cursor()
	for k, v := c.First(); k != nil && len(keys) < limit; k, v = c.Next() {
		if binary.BigEndian.Uint64(k) > uint64(max(now.Unix(), 0)) {
			break
		}
		var e entry
		if err := json.Unmarshal(v, &e); err != nil {
			return nil, nil, fmt.Errorf("upkeep's database: queue: %w", err)
		}
		keys, entries = append(keys, bytes.Clone(k)), append(entries, e)
	}
	return keys, entries, nil
}

// firstDue is when the first visit is due.
func (s *store) firstDue() (at time.Time, ok bool, err error) {
	err = s.view(func(t *tx) error {
		if k, _ := t.bucket("queue").Cursor().First(); k != nil {
			at, ok = time.Unix(int64(binary.BigEndian.Uint64(k)), 0), true
		}
		return nil
	})
	return at, ok, err
}

// links lists what a node led to.
func (t *tx) links(k key) (out []entry, err error) {
	c := t.bucket("links").Cursor()
	for at, v := c.Seek(k[:]); bytes.HasPrefix(at, k[:]); at, v = c.Next() {
		var e entry
		if err := json.Unmarshal(v, &e); err != nil {
			return nil, fmt.Errorf("upkeep's database: links: %w", err)
		}
		out = append(out, e)
	}
	return out, nil
}

func (t *tx) setLinks(k key, list []entry) error {
	if err := t.dropLinks(k); err != nil {
		return err
	}
	for i, e := range list {
		if err := t.put("links", binary.BigEndian.AppendUint32(slices.Clone(k[:]), uint32(i)), e); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) dropLinks(k key) error {
	b := t.bucket("links")
	var old [][]byte
	c := b.Cursor()
	for at, _ := c.Seek(k[:]); bytes.HasPrefix(at, k[:]); at, _ = c.Next() {
		old = append(old, bytes.Clone(at))
	}
	for _, at := range old {
		if err := b.Delete(at); err != nil {
			return err
		}
	}
	return nil
}

// sweep forgets what the round did not meet, some at a time: whoever asks for the
// status does not wait.
func (s *store) sweep(number uint64) error {
	const some = 1000
	for _, name := range []string{"nodes", "items"} {
		var from []byte
		for more := true; more; {
			err := s.update(func(t *tx) error {
				var gone []key
				c := t.bucket(name).Cursor()
				k, v := c.Seek(from)
				for n := 0; k != nil && n < some; k, v = c.Next() {
					var e struct {
						Seen uint64 `json:"seen"`
					}
					if err := json.Unmarshal(v, &e); err != nil {
						return fmt.Errorf("upkeep's database: %s: %w", name, err)
					}
					if e.Seen < number {
						gone = append(gone, key(k))
					}
					n++
				}
				more, from = k != nil, bytes.Clone(k)
				for _, k := range gone {
					if err := t.forget(name, k); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *tx) forget(bucket string, k key) error {
	of := map[string]string{"nodes": "failures", "items": "risks"}[bucket]
	if err := errors.Join(t.bucket(bucket).Delete(k[:]), t.bucket(of).Delete(k[:])); err != nil || bucket != "nodes" {
		return err
	}
	return t.dropLinks(k)
}
