package upkeep

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Status is how upkeep stands. Paths and reasons hold names that others chose: clean
// them before a terminal. No capability is in it.
type Status struct {
	Automatic bool `json:"automatic"`
	Repair    bool `json:"repair"`
	History   bool `json:"history"`
	// Working, or else Waiting for what, or for Next.
	Working bool      `json:"working"`
	Waiting string    `json:"waiting,omitempty"`
	Next    time.Time `json:"next,omitzero"`
	// Known is how many files and directories are kept alive.
	Known int `json:"known"`
	// Current is the round under way, Last the last one finished.
	Current *Round `json:"current,omitempty"`
	Last    *Round `json:"last,omitempty"`
	// AtRisk counts what is at risk, and Risks are the first few, by path; Failed and
	// Failures what could not be looked after.
	AtRisk   int       `json:"at_risk"`
	Risks    []Risk    `json:"risks"`
	Failed   int       `json:"failed"`
	Failures []Failure `json:"failures"`
}

// Round is one walk over everything.
type Round struct {
	Number   uint64    `json:"number"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished,omitzero"`
	Request
	// Open is how many visits are known to be left, Done how many were made.
	Open     int `json:"open"`
	Done     int `json:"done"`
	Renewed  int `json:"renewed"`
	Repaired int `json:"repaired"`
	// Unnamed says why some roots are not known.
	Unnamed string `json:"unnamed,omitempty"`
}

// Risk is something at risk: of Total shares, Needed of which are needed to read it,
// there are Shares, on Servers servers that each have another one.
type Risk struct {
	Path    string    `json:"path"`
	Shares  int       `json:"shares"`
	Needed  int       `json:"needed"`
	Total   int       `json:"total"`
	Servers int       `json:"servers"`
	Since   time.Time `json:"since"`
	// Repair is why a repair failed.
	Repair string `json:"repair,omitempty"`
}

// Readable says that there are shares enough.
func (r Risk) Readable() bool { return r.Shares >= r.Needed }

// Failure is something that could not be looked after, or read.
type Failure struct {
	Path   string    `json:"path"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	Next   time.Time `json:"next"` // try
}

// shown is how many risks and failures a Status names.
const shown = 10

// Status tells how upkeep stands.
func (u *Upkeep) Status() (Status, error) {
	s := Status{Automatic: u.opt.Automatic, Repair: u.opt.Repair, History: u.opt.History}
	u.mu.Lock()
	s.Waiting, s.Working = u.waiting, u.working
	u.mu.Unlock()
	var r, last round
	err := u.store.view(func(t *tx) (err error) {
		if r, err = t.round(); err != nil {
			return err
		}
		if err := t.get("state", []byte("last"), &last); err != nil {
			return err
		}
		s.Known = t.bucket("items").Stats().KeyN
		if s.AtRisk, s.Risks, err = first(t, "risks", func(r Risk) string { return r.Path }); err != nil {
			return err
		}
		s.Failed, s.Failures, err = first(t, "failures", func(f Failure) string { return f.Path })
		return err
	})
	if err != nil {
		return s, err
	}
	if r.Number > 0 && r.Finished.IsZero() {
		s.Current = r.status()
	} else if u.opt.Automatic && r.Number > 0 {
		s.Next = u.nextRound(r)
	}
	if last.Number > 0 {
		s.Last = last.status()
	}
	return s, nil
}

func (r round) status() *Round {
	return &Round{
		Number: r.Number, Started: r.Started, Finished: r.Finished, Request: r.Request,
		Open: r.Open, Done: r.Done, Renewed: r.Renewed, Repaired: r.Repaired, Unnamed: r.Why,
	}
}

// first counts a bucket's values and gives the first few by path.
func first[V any](t *tx, bucket string, path func(V) string) (n int, list []V, err error) {
	list = []V{}
	err = t.bucket(bucket).ForEach(func(_, raw []byte) error {
		n++
		var v V
		if err := json.Unmarshal(bytes.Clone(raw), &v); err != nil {
			return err
		}
		at, _ := slices.BinarySearchFunc(list, v, func(a, b V) int { return strings.Compare(path(a), path(b)) })
		if at < shown {
			if list = slices.Insert(list, at, v); len(list) > shown {
				list = list[:shown]
			}
		}
		return nil
	})
	return n, list, err
}
