package magicfolder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"warren/magicfolder/download"
	"warren/magicfolder/fsys"
	"warren/magicfolder/remote"
	"warren/magicfolder/scan"
	"warren/magicfolder/state"
)

// The words of Status.State.
const (
	StateStopped  = "stopped"    // the folder does not run
	StateStarting = "starting"   // nothing is known yet
	StateOffline  = "offline"    // the grid did not answer the last poll
	StateWaiting  = "waiting"    // edits wait in the stash; Reason says for what
	StateSyncing  = "syncing"    // something is on its way
	StateProblem  = "problem"    // some files cannot be synced; see Errors
	StateCurrent  = "up to date" // the last poll succeeded and nothing is left to do
)

// Count of work.
type Count struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// Status is what a folder says about itself. All strings are safe to print.
type Status struct {
	Name        string    `json:"name"`
	Dir         string    `json:"dir"`
	Participant string    `json:"participant"`
	State       string    `json:"state"`
	Reason      string    `json:"reason,omitempty"`
	Running     bool      `json:"running"`
	AdminOnly   bool      `json:"admin_only,omitempty"` // only the admin enters newcomers
	ReadOnly    bool      `json:"read_only,omitempty"`  // nothing that is written here is shared
	NotShared   int       `json:"not_shared,omitempty"` // files written here that are not, for that reason
	LastPoll    time.Time `json:"last_poll,omitzero"`   // the last that succeeded
	LastScan    time.Time `json:"last_scan,omitzero"`
	Files       int       `json:"files"` // at the last full scan
	Bytes       int64     `json:"bytes"`
	// Withheld files were deleted before anybody heard of them; their versions are in
	// the history of this device alone while a participant may be on magic-folder 24.3.
	Withheld   int   `json:"withheld,omitempty"`
	ToUpload   Count `json:"to_upload"`
	ToDownload Count `json:"to_download"` // Bytes of those whose size is known
	ToLink     int   `json:"to_link"`     // versions taken over, not yet in our directory
	Changing   int   `json:"changing"`    // files being written to
	Sent       int64 `json:"sent"`        // bytes, both since the start
	Received   int64 `json:"received"`

	Participants []ParticipantStatus `json:"participants"`
	Conflicts    []ConflictStatus    `json:"conflicts"`
	Errors       []FileStatus        `json:"errors"`  // files that could not be synced
	Notes        []FileStatus        `json:"notes"`   // files that some systems cannot hold
	Alarms       []string            `json:"alarms"`  // participants' misbehaviour
	Notices      []string            `json:"notices"` // what changed about participants since the start, and is as it should be
}

// ParticipantStatus is one entry of the Collective.
type ParticipantStatus struct {
	Name  string `json:"name"`
	Self  bool   `json:"self,omitempty"`
	Files int    `json:"files"`
	Error string `json:"error,omitempty"`
}

// ConflictStatus is one conflict file that is still there.
type ConflictStatus struct {
	Path string `json:"path"`
	File string `json:"file"`
	Name string `json:"participant"`
}

// FileStatus is a remark about one path.
type FileStatus struct {
	Path    string    `json:"path"`
	Message string    `json:"message"`
	Since   time.Time `json:"since,omitzero"`
}

// fileError is why one file is not in step.
type fileError struct {
	path, message string
	since         time.Time
	from          work
	tries         int
	next          time.Time // when it is worth another try
}

// work is what a file's error came from, and who notices that it is gone.
type work int

const (
	atScan work = iota
	atUpload
	atDownload
)

// statusState is guarded by Folder.mu.
type statusState struct {
	lastPoll, lastScan, active time.Time
	every                      time.Duration // how long a pause between polls may be
	asking                     time.Duration // how long it takes to ask for the versions, of late
	pollErr, waiting, disk     error
	watch                      error
	scanned                    bool
	scanTook                   time.Duration // of the whole folder, without capturing
	files                      int
	bytes                      int64
	toLook                     int
	sent, received             int64
	moved                      time.Time            // when bytes last were
	errors                     map[string]fileError // by key
	problems, notes            map[string]string
	alarms                     map[string]string
	notices                    []string
	passed                     map[string]string // ignored versions of others: by key, whose
	withholds                  bool              // the last look at the stash left out what is withheld
}

func newStatusState() statusState {
	return statusState{errors: map[string]fileError{}, problems: map[string]string{}, notes: map[string]string{}, alarms: map[string]string{}}
}

const maxAlarms = 200

// raise notes an alarm; f.mu is held.
func (f *Folder) raise(key, message string) {
	message = fsys.Printable(message)
	if f.stat.alarms[key] == message {
		return
	}
	if len(f.stat.alarms) >= maxAlarms {
		return
	}
	f.stat.alarms[key] = message
	f.log.Warn("alarm", "what", message)
}

func (f *Folder) alarm(key, message string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.raise(key, message)
}

// clearAlarms forgets those whose key starts so; f.mu is held.
func (f *Folder) clearAlarms(prefix string) {
	maps.DeleteFunc(f.stat.alarms, func(k, _ string) bool { return strings.HasPrefix(k, prefix) })
}

func (f *Folder) dropAlarm(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.stat.alarms, key)
}

func (f *Folder) touch() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stat.active = f.now()
}

func (f *Folder) sentBytes(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stat.sent += n
	f.stat.moved = f.now()
}

func (f *Folder) receivedBytes(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stat.received += n
	f.stat.moved = f.now()
}

func (f *Folder) setToLook(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stat.toLook = n
}

func (f *Folder) setPassed(passed map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stat.passed = passed
}

// passedNotes says what of the others' is not taken; no more than a page of it.
func passedNotes(passed map[string]string) (notes []FileStatus) {
	const page = 50
	keys := slices.Sorted(maps.Keys(passed))
	for i, key := range keys {
		if i == page {
			return append(notes, FileStatus{Path: scan.IgnoreFile, Message: fmt.Sprintf("%d more files of others are not taken", len(keys)-page)})
		}
		notes = append(notes, FileStatus{Path: fsys.Printable(key), Message: fmt.Sprintf("ignored here: the version of %q is not taken", fsys.Printable(passed[key]))})
	}
	return notes
}

func (f *Folder) setLooked() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stat.toLook--
}

func (f *Folder) setDisk(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stat.disk = err
}

func (f *Folder) setWatch(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil && f.stat.watch == nil {
		poke(f.wakeScan) // the next one may be far off
	}
	f.stat.watch = err
}

func (f *Folder) setWaiting(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if errors.Is(err, context.Canceled) {
		return
	}
	f.stat.waiting = err
}

// setReached notes that the grid answers: whatever the last poll met, this one,
// which may take long, is no longer offline.
func (f *Folder) setReached() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !errors.Is(f.stat.pollErr, ErrUnhappy) {
		f.stat.pollErr = nil
	}
}

func (f *Folder) setPolled(err error) {
	f.mu.Lock()
	recovered := err == nil && (f.stat.pollErr != nil || f.stat.waiting != nil)
	f.stat.pollErr = err
	if err == nil {
		f.stat.lastPoll = f.now()
	}
	f.mu.Unlock()
	if recovered {
		// Servers are back: what waits in the stash goes on.
		poke(f.wakePush)
	}
}

func (f *Folder) setFileError(from work, key, path string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	old, ok := f.stat.errors[key]
	if !ok {
		old.since = now
	}
	if old.from != from {
		old.from, old.tries = from, 0
	}
	old.tries++
	old.next = now
	if !errors.Is(err, download.ErrBlocked) && !errors.Is(err, download.ErrCollision) { // found before a download
		old.next = now.Add(min(time.Second<<min(old.tries, 10), maxPause))
	}
	if msg := err.Error(); msg != old.message {
		f.log.Warn("a file cannot be synced", "path", fsys.Printable(path), "error", msg)
		old.message = msg
	}
	old.path = path
	f.stat.errors[key] = old
}

// maxPause is how long a file that could not be taken over is left alone at most:
// what fails for want of space on the disk is downloaded each time.
const maxPause = time.Minute

// failsAlone says whether a path's versions are to be left alone for now; f.mu is
// held.
func (f *Folder) failsAlone(key string) bool {
	e, ok := f.stat.errors[key]
	return ok && e.from == atDownload && f.now().Before(e.next)
}

// retryAll has the next poll try everything again.
func (f *Folder) retryAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, e := range f.stat.errors {
		e.next = time.Time{}
		f.stat.errors[key] = e
	}
}

// prune forgets errors of a kind of work that has nothing to do for their paths
// any more: the file was deleted, or the participant left.
func (f *Folder) prune(from work, todo func(key string, e fileError) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.stat.errors, func(key string, e fileError) bool { return e.from == from && !todo(key, e) })
}

func (f *Folder) clearFileError(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.stat.errors, key)
}

func (f *Folder) noteScan(res scan.Result, took time.Duration, whole bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if whole {
		f.stat.scanTook = took
		f.stat.lastScan, f.stat.scanned = f.now(), true
		f.stat.files, f.stat.bytes = res.Files, res.Bytes
		f.stat.problems, f.stat.notes = res.Problems, res.Notes
		return
	}
	maps.Copy(f.stat.problems, res.Problems)
	maps.Copy(f.stat.notes, res.Notes)
}

// Status describes the folder as it is now. It never says that it is up to date
// unless the grid has answered lately and nothing is left to do.
func (f *Folder) Status() Status {
	f.mu.Lock()
	st := Status{
		Name: f.cfg.Name, Dir: f.cfg.Dir, Participant: f.cfg.Author, Running: f.running,
		LastPoll: f.stat.lastPoll, LastScan: f.stat.lastScan, Files: f.stat.files, Bytes: f.stat.bytes,
		Changing: len(f.recheck), Sent: f.stat.sent, Received: f.stat.received,
		Conflicts: []ConflictStatus{}, Errors: []FileStatus{}, Notes: []FileStatus{}, Alarms: []string{},
	}
	st.AdminOnly, st.ReadOnly = f.cfg.Membership.AdminOnly, f.cfg.Membership.ReadOnly
	s := f.stat
	for _, e := range s.errors {
		st.Errors = append(st.Errors, FileStatus{fsys.Printable(e.path), fsys.Printable(e.message), e.since})
	}
	for p, why := range s.problems {
		st.Errors = append(st.Errors, FileStatus{Path: fsys.Printable(p), Message: why})
	}
	for p, why := range s.notes {
		st.Notes = append(st.Notes, FileStatus{Path: fsys.Printable(p), Message: why})
	}
	st.Notes = append(st.Notes, passedNotes(s.passed)...)
	st.Alarms = slices.AppendSeq(st.Alarms, maps.Values(s.alarms))
	st.Notices = append([]string{}, s.notices...)
	enrolled := f.cfg.Enrolled
	if enrolled {
		st.Participants = append(st.Participants, ParticipantStatus{Name: f.cfg.Author, Self: true})
	}
	todo := map[string]Cap{}
	failing := map[string]bool{}
	for key := range s.errors {
		failing[key] = true
	}
	for _, p := range f.peers {
		ps := ParticipantStatus{Name: fsys.Printable(p.name), Files: len(p.heads)}
		if p.err != nil {
			ps.Error = fsys.Printable(p.err.Error())
		}
		st.Participants = append(st.Participants, ps)
		for key := range p.todo {
			if _, ignored := s.passed[key]; !ignored {
				todo[key] = p.heads[key]
			}
		}
	}
	disk := f.disk
	now := f.now()
	f.mu.Unlock()

	stuck := 0             // counted as to do, and cannot be done
	ours, _ := f.allOurs() // the error is of the store, which is asked again
	err := f.store.View(func(tx *state.Tx) error {
		lines, err := tx.Lines()
		if err != nil {
			return err
		}
		for key, line := range lines {
			if is, err := unheard(tx, line); err != nil {
				return err
			} else if is && !ours {
				st.Withheld++
				continue
			}
			st.ToUpload.Files++
			if failing[key] {
				stuck++
			}
			for _, v := range line {
				if v.Content == "" {
					st.ToUpload.Bytes += v.Size
				}
			}
		}
		for key, c := range todo {
			rec, _, err := tx.File(key)
			if err != nil {
				return err
			}
			if rec.Head == c && len(lines[key]) == 0 {
				continue
			}
			st.ToDownload.Files++
			if failing[key] {
				stuck++
			}
			if k, ok, err := tx.Known(c); err != nil {
				return err
			} else if ok {
				n, _ := remote.Size(k.Content)
				st.ToDownload.Bytes += n
			}
		}
		return tx.Files(func(key string, rec state.File) error {
			if rec.Head != "" && rec.Content != "" && len(st.Participants) > 0 && st.Participants[0].Self {
				st.Participants[0].Files++
			}
			if rec.Unlinked() && len(lines[key]) == 0 {
				st.ToLink++
			}
			for _, c := range rec.Conflicts {
				if disk != nil {
					if _, err := disk.Lstat(c.Path); err != nil {
						continue
					}
				}
				st.Conflicts = append(st.Conflicts, ConflictStatus{fsys.Printable(rec.Relpath), fsys.Printable(c.Path), fsys.Printable(c.Name)})
			}
			return nil
		})
	})
	slices.Sort(st.Alarms)
	for _, list := range [][]FileStatus{st.Errors, st.Notes} {
		slices.SortFunc(list, func(a, b FileStatus) int { return strings.Compare(a.Path, b.Path) })
	}
	slices.SortFunc(st.Participants, func(a, b ParticipantStatus) int { return strings.Compare(a.Name, b.Name) })
	if st.ReadOnly {
		st.NotShared, st.ToUpload, st.ToLink = st.ToUpload.Files, Count{}, 0
	}
	left := st.ToUpload.Files + st.ToDownload.Files + st.ToLink + st.Changing - stuck
	if !enrolled {
		left++ // to enter the folder
	}
	st.State, st.Reason = f.summary(st, s, now, left, err)
	st.Reason = fsys.Printable(st.Reason)
	return st
}

func (f *Folder) summary(st Status, s statusState, now time.Time, left int, err error) (string, string) {
	switch {
	case err != nil:
		return StateProblem, err.Error()
	case s.disk != nil:
		return StateProblem, s.disk.Error()
	case s.pollErr != nil && errors.Is(s.pollErr, ErrUnhappy):
		return StateWaiting, waitReason(s.pollErr, st)
	case s.pollErr != nil:
		return StateOffline, s.pollErr.Error()
	case s.waiting != nil:
		return StateWaiting, waitReason(s.waiting, st)
	case !st.Running && s.lastPoll.IsZero():
		return StateStopped, ""
	case s.lastPoll.IsZero() || !s.scanned:
		return StateStarting, ""
	case now.Sub(s.lastPoll) > max(3*f.opt.Poll, s.every+2*s.asking+10*time.Second, 30*time.Second) && left == 0:
		return StateOffline, "no answer from the grid for a while"
	case left > 0:
		return StateSyncing, ""
	case len(st.Errors) > 0:
		return StateProblem, fmt.Sprintf("%d files cannot be synced", len(st.Errors))
	case s.watch != nil:
		return StateCurrent, scan.ErrWatch.Error()
	case st.NotShared > 0:
		return StateCurrent, fmt.Sprintf("we only read: %d changed here stay here", st.NotShared)
	}
	return StateCurrent, ""
}

func waitReason(err error, st Status) string {
	if errors.Is(err, ErrUnhappy) {
		if n := st.ToUpload.Files + st.ToLink; n != 1 {
			return fmt.Sprintf("%v: %d files wait and go on by themselves", ErrUnhappy, n)
		}
		return fmt.Sprintf("%v: a file waits and goes on by itself", ErrUnhappy)
	}
	return err.Error()
}
