package magicfolder

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"sync"
	"time"

	"warren/magicfolder/download"
	"warren/magicfolder/fsys"
	"warren/magicfolder/remote"
	"warren/magicfolder/scan"
	"warren/magicfolder/snapshot"
	"warren/magicfolder/state"
	"warren/magicfolder/upload"
)

// Folder is one synced directory. Its methods may be called concurrently, and
// whether or not it runs.
type Folder struct {
	opt   Options
	log   *slog.Logger
	db    *state.DB
	store *state.Store
	key   ed25519.PrivateKey
	keys  keyLocks
	deep  int   // how many ancestors one question reads
	round int64 // roundBytes

	scanMu  sync.Mutex // one scan at a time
	pushMu  sync.Mutex // one round of uploads at a time
	pollMu  sync.Mutex // one poll at a time
	linkMu  sync.Mutex // one writer of our Personal directory at a time
	freshMu sync.Mutex // one reader of the Collective at a time
	cfgMu   sync.Mutex // one change of cfg at a time

	ignore  scan.Ignore
	turn    int             // of ignore, at the last whole scan; scanMu guards it
	sendMu  sync.Mutex      // guards sending; nothing else is locked under it
	sending map[string]bool // keys whose versions are being uploaded

	mu          sync.Mutex // guards all below
	cfg         state.Folder
	disk        fsys.FS
	peers       map[string]*peer // by the readcap of their Personal directory
	collective  Version
	personal    Version // of ours, when it was last compared
	personalNow Asked   // of ours, when it was last asked for
	ownName     bool    // our entry was there at the last look
	bad         map[remote.Cap]error
	stat        statusState
	recheck     map[string]time.Time // paths to look at again, and since when
	running     bool
	nextDue     time.Time          // when the next delete is to be uploaded; zero: none waits
	men         members            // see there
	loss        loss               // of our Personal directory
	unwatch     context.CancelFunc // ends the watching of the directory; nil: not yet
	missed      bool               // publish left a path out because somebody worked on it
	orphans     map[string]bool    // keys of versions that another names no more, see unyield
	orphanAll   bool               // any may be one

	wakeScan, wakePush, wakePoll, wakeLink chan struct{}
}

func newFolder(o Options, db *state.DB, cfg state.Folder) *Folder {
	return &Folder{
		opt: o, log: o.Logger.With("folder", cfg.Name), db: db, store: db.Store(cfg), cfg: cfg,
		deep:  snapshot.MaxAncestors,
		round: roundBytes,
		key:   ed25519.NewKeyFromSeed(cfg.Seed),
		peers: map[string]*peer{}, men: newMembers(), bad: map[remote.Cap]error{}, recheck: map[string]time.Time{},
		orphans: map[string]bool{}, orphanAll: true,
		stat:     newStatusState(),
		wakeScan: make(chan struct{}, 1), wakePush: make(chan struct{}, 1), wakePoll: make(chan struct{}, 1), wakeLink: make(chan struct{}, 1),
	}
}

func (f *Folder) config() state.Folder {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cfg
}

// Name is the folder's name on this node.
func (f *Folder) Name() string { return f.config().Name }

// Dir is the folder's directory.
func (f *Folder) Dir() string { return f.config().Dir }

// Participant is our name in the Collective.
func (f *Folder) Participant() string { return f.config().Author }

// Collective is the writecap that others join with.
func (f *Folder) Collective() Cap { return f.config().Collective }

func (f *Folder) now() time.Time { return f.opt.Clock.Now() }

func (f *Folder) fault(step string) error {
	if f.opt.Fault == nil {
		return nil
	}
	return f.opt.Fault(step)
}

// open gives the folder's directory, after finishing what a crash left.
func (f *Folder) open() (fsys.FS, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.disk != nil {
		if err := f.disk.Present(); err == nil {
			return f.disk, nil
		}
		f.disk.Close()
		f.disk = nil
		if f.unwatch != nil {
			f.unwatch() // the watches may be on what is not mounted any more
		}
	}
	disk, err := f.openFS()
	if err != nil {
		return nil, err
	}
	d := &download.Downloader{FS: disk, Store: f.store, Own: f.cfg.Author}
	if err := d.Recover(); err != nil {
		disk.Close()
		return nil, err
	}
	f.disk = disk
	return disk, nil
}

func (f *Folder) openFS() (fsys.FS, error) {
	if f.opt.OpenFS != nil {
		return f.opt.OpenFS(f.cfg.Dir)
	}
	return fsys.Open(f.cfg.Dir)
}

func (f *Folder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.disk != nil {
		f.disk.Close()
		f.disk = nil
	}
}

func (f *Folder) downloader(disk fsys.FS) *download.Downloader {
	return &download.Downloader{Grid: f.opt.Grid, FS: disk, Store: f.store, Own: f.Participant(), Fault: f.opt.Fault}
}

func (f *Folder) capturer(disk fsys.FS) *upload.Capturer {
	return &upload.Capturer{FS: disk, Store: f.store, Now: f.now, Settle: f.opt.Settle,
		Supersede: f.opt.Supersede, Sending: f.isSending, Fault: f.opt.Fault}
}

// Run keeps the folder in step until ctx ends. It returns after everything that
// it started has ended; nothing that was captured is lost by stopping.
func (f *Folder) Run(ctx context.Context) error {
	f.mu.Lock()
	if f.running {
		f.mu.Unlock()
		return errors.New("the folder runs already")
	}
	f.running = true
	f.mu.Unlock()
	var wg sync.WaitGroup
	events := make(chan scan.Event)
	wg.Go(func() { f.watchLoop(ctx, events) })
	wg.Go(func() { f.scanLoop(ctx, events) })
	wg.Go(func() { f.pushLoop(ctx) })
	wg.Go(func() { f.pollLoop(ctx) })
	wg.Go(func() { f.linkLoop(ctx) })
	wg.Wait()
	f.mu.Lock()
	f.running = false
	f.mu.Unlock()
	f.close()
	return ctx.Err()
}

// wait sleeps for d, or until wake or the end; it says whether to go on.
func (f *Folder) wait(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	c, stop := f.opt.Clock.After(d)
	defer stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-c:
	}
	return ctx.Err() == nil
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (f *Folder) watchLoop(ctx context.Context, events chan<- scan.Event) {
	if f.opt.OpenFS != nil {
		return
	}
	for {
		pause := f.opt.Scan
		if disk, err := f.open(); err == nil {
			here, stop := context.WithCancel(ctx)
			f.mu.Lock()
			f.unwatch = stop
			f.mu.Unlock()
			turn := f.ignore.Turn()
			err := f.ignore.Watch(here, disk, f.Dir(), events, func() { f.setWatch(nil) })
			stop()
			if ctx.Err() != nil {
				return
			}
			if err == nil && turn != f.ignore.Turn() {
				continue // other directories are to be watched
			}
			if err == nil {
				err, pause = scan.ErrWatch, min(pause, 10*time.Second)
			}
			f.setWatch(err)
		}
		if !f.wait(ctx, pause, nil) {
			return
		}
	}
}

func (f *Folder) scanLoop(ctx context.Context, events <-chan scan.Event) {
	next := f.now()
	dirty := map[string]bool{}
	for {
		if ctx.Err() != nil {
			return
		}
		if !f.now().Before(next) {
			if f.scan(ctx) == nil {
				clear(dirty)
			}
			next = f.now().Add(f.scanInterval())
		} else if len(dirty) > 0 {
			paths := make([]string, 0, len(dirty))
			for p := range dirty {
				paths = append(paths, p)
			}
			clear(dirty)
			f.scan(ctx, paths...)
		}
		// Files that were changing are looked at again after they settle.
		again := next
		f.mu.Lock()
		for p := range f.recheck {
			dirty[p] = true
		}
		f.mu.Unlock()
		if len(dirty) > 0 {
			again = f.now().Add(max(f.opt.Settle, 50*time.Millisecond) / 2)
		}
		timer, stop := f.opt.Clock.After(max(again.Sub(f.now()), time.Millisecond))
		select {
		case <-ctx.Done():
		case <-timer:
		case <-f.wakeScan:
			next = f.now()
		case ev := <-events:
			f.gather(ctx, ev, events, dirty, &next)
		}
		stop()
	}
}

// gather takes events until they pause, so that one save is one look.
func (f *Folder) gather(ctx context.Context, ev scan.Event, events <-chan scan.Event, dirty map[string]bool, next *time.Time) {
	// Where somebody writes without a pause they are not waited for.
	for end := f.now().Add(time.Second); ; {
		if ev.All {
			*next = f.now()
		} else {
			dirty[ev.Path] = true
		}
		if !f.now().Before(end) {
			return
		}
		timer, stop := f.opt.Clock.After(50 * time.Millisecond)
		select {
		case <-ctx.Done():
			stop()
			return
		case <-timer:
			stop()
			return
		case ev = <-events:
		}
		stop()
	}
}

// A scan of the whole folder is a safety net where the system tells of changes, and
// takes no more than so much of a processor; it comes at least twice an hour.
const (
	scanShare      = 5000 // one part in so many, where the system tells
	blindScanShare = 100  // and where it does not
	slowestScan    = 30 * time.Minute
)

// scanInterval is the pause after a scan of the whole folder.
func (f *Folder) scanInterval() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	took := f.stat.scanTook
	if f.stat.watch != nil {
		// Without events the scan is all there is.
		return max(min(f.opt.Scan, 10*time.Second), min(took*blindScanShare, slowestScan))
	}
	return max(f.opt.Scan, min(took*scanShare, slowestScan))
}

func (f *Folder) pushLoop(ctx context.Context) {
	backoff := time.Second
	for {
		err := f.push(ctx)
		pause := time.Minute
		if err != nil && ctx.Err() == nil {
			pause, backoff = backoff, min(2*backoff, 30*time.Second)
		} else {
			backoff = time.Second
			f.mu.Lock()
			if !f.nextDue.IsZero() {
				pause = min(pause, max(f.nextDue.Sub(f.now()), 100*time.Millisecond))
			}
			f.mu.Unlock()
		}
		if !f.wait(ctx, pause, f.wakePush) {
			return
		}
	}
}

// linkLoop makes us a participant and publishes what polls took over, after each
// poll that reached the grid.
func (f *Folder) linkLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wakeLink:
		}
		if err := f.publish(ctx); err != nil && ctx.Err() == nil {
			f.setWaiting(err)
		}
	}
}

// ScanNow looks at the whole folder, captures what changed and uploads it.
func (f *Folder) ScanNow(ctx context.Context) error {
	if err := f.scan(ctx); err != nil {
		return err
	}
	return f.push(ctx)
}

// PollNow asks the grid for changes, applies them, and uploads and publishes what
// waits.
func (f *Folder) PollNow(ctx context.Context) error {
	if err := f.poll(ctx); err != nil {
		return err
	}
	return f.push(ctx)
}

// keyLocks lets one goroutine at a time work on a path.
type keyLocks struct {
	mu   sync.Mutex // guards held
	held map[string]chan struct{}
}

func (k *keyLocks) try(key string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held == nil {
		k.held = map[string]chan struct{}{}
	}
	if k.held[key] != nil {
		return false
	}
	k.held[key] = make(chan struct{})
	return true
}

func (k *keyLocks) lock(ctx context.Context, key string) error {
	for !k.try(key) {
		k.mu.Lock()
		c := k.held[key]
		k.mu.Unlock()
		if c == nil {
			continue
		}
		select {
		case <-c:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (k *keyLocks) unlock(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.held[key])
	delete(k.held, key)
}
