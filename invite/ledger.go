package invite

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"warren/invite/wormhole"
	"warren/node/durable"
)

// The ledger is one bbolt file with one bucket: invite id -> record, as JSON.
// It contains codes and keys of invites that are under way; the file is 0600.
const bucketInvites = "invites"

// record is an invite and what a restart needs.
type record struct {
	Invite
	// Session is removed when the invite has ended and said goodbye.
	Session *wormhole.State `json:"session,omitempty"`
	// Seen is when the mailbox server was last found alive.
	Seen time.Time `json:"seen"`
	// Admitting: Config.Joined has been or is being called; no way back.
	Admitting bool `json:"admitting,omitempty"`
}

type ledger struct{ db *bolt.DB }

func openLedger(path string) (*ledger, error) {
	db, err := durable.OpenBolt(path, &bolt.Options{Timeout: 5 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("opening the ledger of invites: %w", err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists([]byte(bucketInvites))
		return err
	})
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("preparing the ledger of invites: %w", err)
	}
	return &ledger{db}, nil
}

// save keeps a record; it is on disk when save returns.
func (l *ledger) save(r record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return errors.New("encoding an invite") // the encoder's words may quote it
	}
	return l.db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(bucketInvites)).Put([]byte(r.ID), b)
	})
}

func (l *ledger) remove(id string) error {
	return l.db.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucketInvites)).Delete([]byte(id)) })
}

func (l *ledger) all() ([]record, error) {
	var out []record
	err := l.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(bucketInvites)).ForEach(func(k, v []byte) error {
			var r record
			if err := json.Unmarshal(v, &r); err != nil {
				return fmt.Errorf("the ledger's entry %q is damaged", k)
			}
			out = append(out, r)
			return nil
		})
	})
	return out, err
}

func (l *ledger) close() error { return l.db.Close() }
