package gbs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"warren/node/caps"
	"warren/node/storage"
)

// Watching slots is ours, and lies beside Tahoe's routes, where no later version of
// the protocol can come to lie:
//
//	POST /warren/v1/watch        200 CBOR
//	ask    {"wait": milliseconds, "slots": [[storage index, tag]...]}   byte strings of 16
//	answer {"changed": [[storage index, tag]...]}
//
// It is storage.Watcher's Watch, authorised by the swissnum as every request; the tag
// may be zeros. 404 from a server that has it not, 413 for more than
// storage.MaxWatched slots, 503 when too many wait already.
//
// A server that has it says so in its answer to GET version by the header
// "Warren-Watch: 1": in the message itself Tahoe's client bears no further key.
//
// What a server learns: which slots one client (one connection) takes an interest in,
// together and for how long. Who polls them shows as much, but for the togetherness
// of each request. It learns nothing of what is in them, nor whose they are.
const (
	watchPath   = "/warren/v1/watch"
	watchHeader = "Warren-Watch"
)

// watchBody is the largest request: a slot takes 35 bytes.
const watchBody = 64 + storage.MaxWatched*36

type watchAsk struct {
	Wait  time.Duration
	Slots map[caps.StorageIndex]storage.Tag
}

func (a watchAsk) encode() []byte {
	w := &writer{}
	w.head(majorMap, 2)
	w.text("wait")
	w.uint(uint64(max(a.Wait, 0) / time.Millisecond))
	w.text("slots")
	w.tags(a.Slots)
	return w.out
}

func readWatchAsk(r *reader) (a watchAsk, err error) {
	err = r.object([]string{"wait", "slots"}, func(key string) (err error) {
		if key == "slots" {
			a.Slots, err = r.tags()
			return err
		}
		ms, err := r.uint()
		a.Wait = time.Duration(min(ms, uint64(storage.MaxWait/time.Millisecond))) * time.Millisecond
		return err
	})
	return a, err
}

func encodeWatched(changed map[caps.StorageIndex]storage.Tag) []byte {
	w := &writer{}
	w.head(majorMap, 1)
	w.text("changed")
	w.tags(changed)
	return w.out
}

func readWatched(r *reader) (changed map[caps.StorageIndex]storage.Tag, err error) {
	err = r.object([]string{"changed"}, func(string) (err error) {
		changed, err = r.tags()
		return err
	})
	return changed, err
}

func (w *writer) tags(all map[caps.StorageIndex]storage.Tag) {
	w.head(majorArray, uint64(len(all)))
	for _, si := range slices.SortedFunc(maps.Keys(all), func(a, b caps.StorageIndex) int { return bytes.Compare(a[:], b[:]) }) {
		tag := all[si]
		w.head(majorArray, 2)
		w.bytes(si[:])
		w.bytes(tag[:])
	}
}

func (r *reader) tags() (map[caps.StorageIndex]storage.Tag, error) {
	all := map[caps.StorageIndex]storage.Tag{}
	err := r.array(storage.MaxWatched, func() error {
		var pair [][]byte
		err := r.array(2, func() error {
			b, err := r.bytes()
			if err == nil && len(b) != 16 {
				err = malformed("a storage index or tag is not 16 bytes")
			}
			pair = append(pair, b)
			return err
		})
		if err == nil && len(pair) != 2 {
			err = malformed("a slot is a storage index and a tag")
		}
		if err != nil {
			return err
		}
		all[caps.StorageIndex(pair[0])] = storage.Tag(pair[1])
		return nil
	})
	return all, err
}

// errCrowded: as many wait as may.
var errCrowded = errors.New("gbs: too many are waiting already")

type servingKey struct{}

// serving is closed when the server that a request came to is about to end: who waits
// for a change does not hold that up.
func serving(ctx context.Context) <-chan struct{} {
	done, _ := ctx.Value(servingKey{}).(<-chan struct{})
	return done
}

func (q *request) watch() error {
	if !acceptsCBOR(q.r.Header) {
		return errNotAcceptable
	}
	body, done, err := q.body(watchBody)
	if err != nil {
		return err
	}
	ask, err := decode(body, readWatchAsk)
	done()
	if err != nil {
		return err
	}
	if ask.Wait > 0 {
		slots := int64(len(ask.Slots))
		waiting, watched := q.waiting.Add(1), q.watched.Add(slots)
		defer q.waiting.Add(-1)
		defer q.watched.Add(-slots)
		if waiting > int64(q.opt.MaxWatchers) || watched > int64(q.opt.MaxWatched) {
			return errCrowded
		}
	}
	changed, err := q.session.WatchInTurns(q.ctx, ask.Slots, ask.Wait, serving(q.ctx), q.work)
	if err != nil {
		return err
	}
	return q.send(http.StatusOK, encodeWatched(changed))
}

// noteWatch remembers whether the server says that it can be watched.
func (c *Client) noteWatch(h http.Header) { c.canWatch.Store(h.Get(watchHeader) == "1") }

// Watches implements storage.Watcher: whether the server said so, when it was asked for
// its version last.
func (c *Client) Watches() bool { return c.canWatch.Load() }

// watchGrace is how much later than asked an answer may come.
const watchGrace = 30 * time.Second

// Watch implements storage.Watcher. It waits on a connection beside those of the other
// requests; one that asks to wait while another does comes after it.
func (c *Client) Watch(ctx context.Context, have map[caps.StorageIndex]storage.Tag, wait time.Duration) (map[caps.StorageIndex]storage.Tag, error) {
	if !c.Watches() {
		return nil, fmt.Errorf("gbs: watching: %w", errors.ErrUnsupported)
	}
	if len(have) > storage.MaxWatched {
		return nil, fmt.Errorf("gbs: watching: %w", storage.ErrTooLarge)
	}
	wait = min(wait, storage.MaxWait)
	q := call{
		method: "POST", path: watchPath,
		header: map[string]string{"Content-Type": cborType},
		body:   watchAsk{wait, have}.encode(),
		limit:  watchBody, want: cborType,
	}
	if wait > 0 {
		q.silence = wait + watchGrace
	}
	a, err := c.do(ctx, q)
	var s *StatusError
	if errors.Is(err, storage.ErrNoShare) || errors.As(err, &s) && (s.Code == http.StatusMethodNotAllowed || s.Code == http.StatusServiceUnavailable) {
		// Until it says otherwise when it is asked for its version again.
		c.canWatch.Store(false)
		return nil, fmt.Errorf("gbs: watching: %w", errors.ErrUnsupported)
	}
	if err != nil {
		return nil, err
	}
	changed, err := decode(a.body, readWatched)
	if err != nil {
		return nil, err
	}
	for si := range changed {
		if _, asked := have[si]; !asked {
			return nil, malformed("a slot that was not asked for")
		}
	}
	return changed, nil
}
