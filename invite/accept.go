package invite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"warren/invite/code"
	"warren/invite/message"
	"warren/invite/wormhole"
	"warren/node/durable"
)

// Stage is how far an acceptance has come. Stages may repeat: a connection is
// lost, the inviter goes offline.
type Stage int

// The stages.
const (
	StageConnecting   Stage = iota + 1 // to the mailbox
	StageNobody                        // connected; nobody is at this code: perhaps it is mistyped, used or expired
	StageMissed                        // the same, and another public mailbox could not be asked
	StageOffline                       // the inviter is offline, waiting
	StageKeyAgreed                     // the inviter is there and the code is right
	StageSettings                      // the settings came and are valid
	StageAcknowledged                  // our acknowledgement is on its way
	StageMember                        // the inviter has confirmed
)

// String is a line for people.
func (s Stage) String() string {
	switch s {
	case StageConnecting:
		return "connecting to the mailbox"
	case StageNobody:
		return "nobody is at this code yet: is it typed right? waiting"
	case StageMissed:
		return "nobody is at this code yet, and another mailbox, where it may be good, could not be reached: waiting"
	case StageOffline:
		return "the inviter is offline, waiting"
	case StageKeyAgreed:
		return "the inviter is there, and the code is right"
	case StageSettings:
		return "received the settings"
	case StageAcknowledged:
		return "told the inviter"
	case StageMember:
		return "the inviter has confirmed"
	}
	return "?"
}

// AcceptOptions say what to accept and how.
type AcceptOptions struct {
	// CodeOrLink is what the newcomer typed.
	CodeOrLink string
	// Mailbox is a server's address; a link's is used without it, and the
	// public ones for a bare code.
	Mailbox string
	// Dial reaches mailbox servers.
	Dial wormhole.Dial
	// Public are tried for a bare code; PublicMailboxes if nil.
	Public []string
	// StateFile is where the exchange is kept until it has ended, so that
	// accepting the same code again after a crash goes on instead of coming
	// as a third. It contains the code: 0600. Empty keeps nothing.
	StateFile string
	// Progress is told of each stage, from several goroutines. It must not
	// block. May be nil.
	Progress func(Stage)
	// Reply makes the newcomer's keys, keeps the settings and returns what the
	// inviter shall know. It may be called again after a crash. An error
	// refuses the invite, unless it wraps ErrNotNow, and Accept returns it.
	Reply func(context.Context, message.Settings) (message.Acknowledgement, error)
	// Patience is how long silence lasts before the inviter counts as
	// offline; five seconds if zero.
	Patience time.Duration
	// After and Wait are for tests, as in Config.
	After func(time.Duration) <-chan time.Time
	Wait  func(ctx context.Context, attempt int) error
}

// Accept accepts an invite. It waits for an inviter that is offline until ctx
// ends. The settings returned have been validated; with ErrUnconfirmed they are
// returned, too.
func Accept(ctx context.Context, options AcceptOptions) (message.Settings, error) {
	if options.Reply == nil {
		return message.Settings{}, errors.New("Accept needs Reply")
	}
	var settings message.Settings
	err := meet(ctx, options, application{
		id: message.AppID, refuse: message.EncodeRefusal,
		talk: func(ctx context.Context, a *acceptance, t *try) (err error) {
			settings, err = a.exchange(ctx, t)
			return err
		},
	})
	return settings, err
}

// application is what two kinds of invites differ in, on the newcomer's side.
type application struct {
	id       string
	versions json.RawMessage
	refuse   func(reason string) []byte
	talk     func(context.Context, *acceptance, *try) error // the newcomer's half
}

// meet meets the inviter and talks to it.
func meet(ctx context.Context, options AcceptOptions, app application) error {
	c, mailboxes, err := target(&options)
	if err != nil {
		return err
	}
	a := &acceptance{options: options, code: c, app: app}
	if err := a.prepare(ctx, mailboxes); err != nil {
		return err
	}
	running, cancel := context.WithCancel(ctx)
	defer a.runners.Wait()
	defer cancel()
	for _, t := range a.tries {
		a.runners.Go(func() { t.done <- t.session.Run(running) })
	}
	err = a.run(ctx)
	if err != nil && (ctx.Err() != nil || errors.Is(err, ErrNotNow) || errors.Is(err, wormhole.ErrSave) || a.resumed && errors.Is(err, wormhole.ErrUnreachable)) {
		return err // not the exchange's end: the state file is for the next try
	}
	return errors.Join(err, a.forget())
}

// target reads what the newcomer typed and fills in the defaults.
func target(options *AcceptOptions) (code.Code, []string, error) {
	if options.Dial == nil {
		return code.Code{}, nil, errors.New("accepting an invite needs Dial")
	}
	if options.Progress == nil {
		options.Progress = func(Stage) {}
	}
	if options.Patience == 0 {
		options.Patience = 5 * time.Second
	}
	if options.After == nil {
		options.After = time.After
	}
	if options.Wait == nil {
		options.Wait = pause
	}
	if options.Public == nil {
		options.Public = PublicMailboxes()
	}
	var c code.Code
	mailboxes := options.Public
	if code.IsLink(options.CodeOrLink) {
		link, err := code.ParseLink(options.CodeOrLink)
		if err != nil {
			return c, nil, err
		}
		c, mailboxes = link.Code, []string{link.Mailbox}
	} else {
		var err error
		if c, err = code.Parse(options.CodeOrLink); err != nil {
			return c, nil, err
		}
	}
	if options.Mailbox != "" {
		mailboxes = []string{options.Mailbox}
	}
	for _, m := range mailboxes {
		if err := code.CheckMailbox(m); err != nil {
			return c, nil, err
		}
	}
	return c, mailboxes, nil
}

// acceptance is one run of Accept.
type acceptance struct {
	options AcceptOptions
	app     application
	code    code.Code
	tries   []*try
	runners sync.WaitGroup
	seen    chan *try // whose other side has spoken

	// resumed: an earlier try may have claimed the number already.
	resumed bool
	// missed are the public mailboxes that could not be asked.
	missed error

	mu    sync.Mutex // guards what follows and the state file
	kept  map[string]wormhole.State
	ended bool // the state file is removed, for good
}

// try is a session at one mailbox.
type try struct {
	url     string
	session *wormhole.Session
	done    chan error
}

// prepare resumes what the state file holds for this code, or finds the mailbox
// and begins.
func (a *acceptance) prepare(ctx context.Context, mailboxes []string) error {
	a.options.Progress(StageConnecting)
	a.kept = map[string]wormhole.State{}
	var err error
	if a.resumed, err = a.restore(mailboxes); err != nil {
		return err
	}
	if !a.resumed {
		if mailboxes, err = a.find(ctx, mailboxes); err != nil {
			return err
		}
		for _, url := range mailboxes {
			s, err := wormhole.NewState(a.app.id, url, a.code.Text(), nil)
			if err != nil {
				return err
			}
			// Before the first word: the claim is this side's for ever.
			if err := a.keep(url, s); err != nil {
				return err
			}
		}
	}
	a.seen = make(chan *try, len(a.kept))
	for url, s := range a.kept {
		t := &try{url: url, done: make(chan error, 1)}
		var once sync.Once
		spoken := func() { once.Do(func() { a.seen <- t }) }
		t.session = wormhole.New(wormhole.Config{
			Dial: a.options.Dial, Attempts: 3, Wait: a.options.Wait, Versions: a.app.versions,
			Save: func(s wormhole.State) error { return a.keep(url, s) },
			Event: func(e wormhole.Event) {
				switch e {
				case wormhole.PeerSeen:
					spoken()
				case wormhole.KeyAgreed:
					a.options.Progress(StageKeyAgreed)
				case wormhole.Disconnected:
					a.options.Progress(StageConnecting)
				}
			},
		}, s)
		if t.session.PeerSeen() {
			spoken()
		}
		a.tries = append(a.tries, t)
	}
	return nil
}

// find chooses among the public mailboxes by what they list, so that no
// stranger's number is claimed. Those that do not list remain candidates when
// nobody lists the number.
func (a *acceptance) find(ctx context.Context, mailboxes []string) ([]string, error) {
	if len(mailboxes) == 1 {
		return mailboxes, nil
	}
	type answer struct {
		url  string
		info wormhole.Info
		err  error
	}
	answers := make(chan answer, len(mailboxes))
	var asking sync.WaitGroup
	defer asking.Wait()
	for _, url := range mailboxes {
		asking.Go(func() {
			limited, cancel := context.WithTimeout(ctx, 2*time.Minute)
			defer cancel()
			info, err := wormhole.Look(limited, a.options.Dial, url, a.app.id)
			answers <- answer{url, info, err}
		})
	}
	var listed, silent []string
	var failures error
	for range mailboxes {
		r := <-answers
		switch {
		case r.err != nil:
			failures = errors.Join(failures, r.err)
		case slices.Contains(r.info.Nameplates, a.code.Nameplate()):
			listed = append(listed, r.url)
		case len(r.info.Nameplates) == 0:
			silent = append(silent, r.url)
		}
	}
	switch {
	case len(listed) == 1:
		return listed, nil
	case len(listed) > 1:
		return nil, ErrAmbiguous
	case len(silent) > 0:
		if failures != nil {
			// Not wrapped: that it is unreachable is not the exchange's fate.
			a.missed = fmt.Errorf("another mailbox, where the code may be good, could not be asked: %v", failures)
		}
		return silent, nil
	case failures != nil:
		return nil, failures
	}
	// All of them list, and none lists this one.
	return nil, wormhole.ErrUnknown
}

// kept files hold the sessions of one code.
type keptFile struct {
	Sessions map[string]wormhole.State `json:"sessions"`
}

// restore loads the state file, if it is of this code.
func (a *acceptance) restore(mailboxes []string) (bool, error) {
	if a.options.StateFile == "" {
		return false, nil
	}
	b, err := os.ReadFile(a.options.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("the state of an earlier join: %w", err)
	}
	var f keptFile
	if err := json.Unmarshal(b, &f); err != nil {
		// Damaged: what it held cannot be resumed.
		return false, nil
	}
	for url, s := range f.Sessions {
		if s.CodeText() == a.code.Text() && s.MailboxURL() == url && slices.Contains(mailboxes, url) && !s.Done() {
			a.kept[url] = s
		}
	}
	return len(a.kept) > 0, nil
}

func (a *acceptance) keep(url string, s wormhole.State) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kept[url] = s
	if a.options.StateFile == "" || a.ended {
		return nil
	}
	b, err := json.Marshal(keptFile{a.kept})
	if err != nil {
		return errors.New("encoding the state of the join")
	}
	return durable.WriteFile(a.options.StateFile, b, 0o600)
}

func (a *acceptance) forget() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	// Sessions that still say goodbye must not make it anew.
	a.ended = true
	if a.options.StateFile == "" {
		return nil
	}
	if err := durable.Remove(a.options.StateFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the state of the join: %w", err)
	}
	return nil
}

// run is the newcomer's half.
func (a *acceptance) run(ctx context.Context) error {
	t, err := a.choose(ctx)
	if err != nil {
		return err
	}
	s := t.session
	err = a.app.talk(ctx, a, t)
	if ctx.Err() != nil || errors.Is(err, ErrNotNow) {
		return err
	}
	var refused *message.Refusal
	mood, reason := wormhole.MoodHappy, "used"
	if err != nil {
		mood, reason = wormhole.MoodErrory, "failed"
		var field *message.FieldError
		if s.Verified() && !errors.Is(err, wormhole.ErrWrongCode) && !errors.As(err, &refused) {
			text := "the newcomer's program could not use the settings"
			if errors.As(err, &field) {
				text = field.Error()
			}
			// Best effort: the inviter sees at least that we have left.
			_ = s.Send(s.Sent(), a.app.refuse(text))
		}
	}
	limited, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	// The goodbye is a courtesy: the exchange stands without it.
	_ = s.Close(limited, mood, reason)
	return err
}

// choose waits until the inviter has spoken at one of the mailboxes.
func (a *acceptance) choose(ctx context.Context) (*try, error) {
	type end struct {
		t   *try
		err error
	}
	ends := make(chan end, len(a.tries))
	waiting, cancel := context.WithCancel(ctx)
	var waiters sync.WaitGroup
	defer waiters.Wait()
	defer cancel()
	for _, t := range a.tries {
		waiters.Go(func() {
			select {
			case err := <-t.done:
				t.done <- err
				ends <- end{t, err}
			case <-waiting.Done():
			}
		})
	}
	silence := a.options.After(a.options.Patience)
	left := len(a.tries)
	var failures error
	for {
		select {
		case t := <-a.seen:
			for _, other := range a.tries {
				if other != t {
					a.leave(ctx, other)
				}
			}
			return t, nil
		case e := <-ends:
			// It may have spoken and ended at once: then its own error is
			// the answer, from the exchange.
			if e.t.session.PeerSeen() {
				return e.t, nil
			}
			if e.err == nil {
				e.err = wormhole.ErrClosed
			}
			failures = errors.Join(failures, e.err)
			if left--; left == 0 {
				return nil, errors.Join(failures, a.missed)
			}
		case <-silence:
			if a.missed != nil && a.online() {
				a.options.Progress(StageMissed)
			} else if a.online() {
				a.options.Progress(StageNobody)
			} else {
				// Who is not there are we.
				silence = a.options.After(a.options.Patience)
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// online says whether a mailbox is connected.
func (a *acceptance) online() bool {
	return slices.ContainsFunc(a.tries, func(t *try) bool { return t.session.Online() })
}

// leave gives back what was claimed at a mailbox where the inviter is not.
func (a *acceptance) leave(ctx context.Context, t *try) {
	a.runners.Go(func() {
		limited, cancel := context.WithTimeout(ctx, closeTime)
		defer cancel()
		// It forgets us by itself when this does not reach it.
		_ = t.session.Close(limited, wormhole.MoodLonely, "")
	})
}

// exchange receives the settings and acknowledges them.
func (a *acceptance) exchange(ctx context.Context, t *try) (message.Settings, error) {
	s := t.session
	var none message.Settings
	if err := s.Send(0, message.EncodeGreeting(message.Newcomer)); err != nil {
		return none, err
	}
	b, err := a.await(ctx, s, 0)
	if err != nil {
		return none, err
	}
	greeting, err := message.ParseGreeting(b, message.Inviter)
	if err != nil {
		if refusal := message.CheckRefusal(b); refusal != nil {
			return none, refusal
		}
		return none, err
	}
	var settings message.Settings
	if greeting.Legacy != nil {
		settings = *greeting.Legacy
	} else {
		if b, err = a.await(ctx, s, 1); err != nil {
			return none, err
		}
		if refusal := message.CheckRefusal(b); refusal != nil {
			return none, refusal
		}
		if settings, err = message.ParseSettings(b); err != nil {
			return none, err
		}
	}
	a.options.Progress(StageSettings)
	ack, err := a.options.Reply(ctx, settings)
	if err != nil {
		return none, err
	}
	if greeting.Legacy != nil {
		if err := s.Send(1, message.LegacyAnswer()); err != nil {
			return none, err
		}
		return settings, s.Flush(ctx)
	}
	if !greeting.Ours {
		// Tahoe's and Gridsync's inviters have left; nobody would read it.
		return settings, nil
	}
	if b, err = ack.Encode(); err != nil {
		return none, err
	}
	if err := s.Send(1, b); err != nil {
		return none, err
	}
	a.options.Progress(StageAcknowledged)
	b, err = a.await(ctx, s, 2)
	switch {
	case ctx.Err() != nil:
		return settings, fmt.Errorf("%w: %w", ErrUnconfirmed, ctx.Err())
	case err != nil:
		return settings, fmt.Errorf("%w: %w", ErrUnconfirmed, err)
	}
	if err := message.ParseConfirmation(b); err != nil {
		return none, err
	}
	a.options.Progress(StageMember)
	return settings, nil
}

// await waits for a message, and says so when it takes long.
func (a *acceptance) await(ctx context.Context, s *wormhole.Session, n int) ([]byte, error) {
	return a.waitFor(ctx, s, func(ctx context.Context) ([]byte, error) { return s.Message(ctx, n) })
}

func (a *acceptance) waitFor(ctx context.Context, s *wormhole.Session, what func(context.Context) ([]byte, error)) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		b   []byte
		err error
	}
	got := make(chan result, 1)
	var waiter sync.WaitGroup
	defer waiter.Wait()
	waiter.Go(func() {
		b, err := what(ctx)
		got <- result{b, err}
	})
	silence := a.options.After(a.options.Patience)
	for {
		select {
		case r := <-got:
			return r.b, r.err
		case <-silence:
			if !s.Online() {
				silence = a.options.After(a.options.Patience) // who is offline are we
				continue
			}
			a.options.Progress(StageOffline)
		}
	}
}
