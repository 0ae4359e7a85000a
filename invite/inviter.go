package invite

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/text/unicode/norm"

	"warren/invite/code"
	"warren/invite/message"
	"warren/invite/wormhole"
)

// Config is what an Inviter needs of its node. All functions may be called
// concurrently.
type Config struct {
	// Ledger is the path of the bbolt file, made if it does not exist.
	Ledger string
	// Dial reaches mailbox servers.
	Dial wormhole.Dial
	// Settings gives what the invite's newcomer shall get. The invite's id is
	// filled in, and its name as participant where none is set.
	Settings func(context.Context, Invite) (message.Settings, error)
	// Joined is told that the newcomer has the settings and what its public
	// keys are. It is called before the newcomer is told that it is a member;
	// after a crash in between it is called again for the same Invite.ID, so
	// it must be idempotent. An error refuses the newcomer. May be nil.
	Joined func(context.Context, Invite, message.Acknowledgement) error
	// Folder and Admit are Settings and Joined for invites to a folder alone
	// (Options.FolderOnly): what the newcomer gets, and its entry in the
	// Collective. Admit must be idempotent. May be nil: no such invites.
	Folder func(context.Context, Invite) (message.FolderInvite, error)
	Admit  func(context.Context, Invite, message.FolderReply) error
	// Changed is told of every change of state. It must not block. May be nil.
	Changed func(Invite)
	// Public are the mailboxes that a newcomer tries when it has only a code;
	// PublicMailboxes if nil.
	Public []string
	// Now is the clock, Wait the pause between tries to reach a server, and
	// After a timer, all for tests; nil is the real thing.
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
	Wait  func(ctx context.Context, attempt int) error
}

// Inviter serves a node's invites.
type Inviter struct {
	config Config
	ledger *ledger
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	// mu guards what follows.
	mu      sync.Mutex
	started bool
	closed  bool
	invites map[string]*offer
}

// New opens the ledger. Nothing is served before Start.
func New(config Config) (*Inviter, error) {
	if config.Dial == nil || config.Settings == nil {
		return nil, errors.New("an Inviter needs Dial and Settings")
	}
	if config.Now == nil {
		config.Now = wallClock
	}
	if config.After == nil {
		config.After = time.After
	}
	if config.Wait == nil {
		config.Wait = pause
	}
	if config.Public == nil {
		config.Public = PublicMailboxes()
	}
	l, err := openLedger(config.Ledger)
	if err != nil {
		return nil, err
	}
	i := &Inviter{config: config, ledger: l, invites: map[string]*offer{}}
	i.ctx, i.cancel = context.WithCancel(context.Background())
	return i, nil
}

// wallClock is the time of day alone: the monotonic clock, by which Go compares
// two times that have one, stands still while a machine sleeps, and invites do not
// live longer for that.
func wallClock() time.Time { return time.Now().Round(0) }

// pause doubles from a second to half a minute.
func pause(ctx context.Context, attempt int) error {
	timer := time.NewTimer(min(time.Second<<min(attempt, 5), 30*time.Second))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Start resumes what the ledger holds.
func (i *Inviter) Start() error {
	records, err := i.ledger.all()
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.started || i.closed {
		return ErrClosed
	}
	i.started = true
	now := i.config.Now()
	for _, r := range records {
		if r.State.Final() && now.Sub(r.Ended) > keepEnded {
			if err := i.ledger.remove(r.ID); err != nil {
				return fmt.Errorf("forgetting an old invite: %w", err)
			}
			continue
		}
		r.Online = false
		o := newOffer(i, r, false)
		i.invites[r.ID] = o
		i.work.Go(o.serve)
	}
	return nil
}

// Close stops serving and waits. Invites that wait go on at the next Start.
func (i *Inviter) Close() error {
	i.mu.Lock()
	i.closed = true
	i.mu.Unlock()
	i.cancel()
	i.work.Wait()
	return i.ledger.close()
}

// Options describe a new invite.
type Options struct {
	// Name is the newcomer's in the folder: a path component (see
	// message.CheckName). It is brought to NFC.
	Name string
	// Folder is the shared folder; empty invites to the grid only.
	Folder string
	// FolderOnly: the newcomer is on the grid already, and may run magic-folder
	// 24.3. ReadOnly and Again are for this kind, see Invite.
	FolderOnly, ReadOnly, Again bool
	// Expires is how long the invite lives; an hour if zero.
	Expires time.Duration
	// Mailbox is the server's address.
	Mailbox string
	// OwnMailbox: the server must be ours and keep the invite until it
	// expires, else wormhole.ErrNotOurs.
	OwnMailbox bool
}

// Issued is what the operator gives to the newcomer, one of the two.
type Issued struct {
	ID   string
	Code code.Code
	Link code.Link
	// CodeAloneIsEnough: the newcomer's program finds the mailbox by itself.
	CodeAloneIsEnough bool
	Expires           time.Time
}

// Offer makes an invite. When it returns, the invite is saved and waits at the
// mailbox server.
func (i *Inviter) Offer(ctx context.Context, options Options) (Issued, error) {
	options.Name = norm.NFC.String(options.Name)
	if err := message.CheckName("name", options.Name); err != nil {
		return Issued{}, fmt.Errorf("%w: %w", ErrName, errors.Unwrap(err))
	}
	if options.Expires == 0 {
		options.Expires = shortLife
	}
	if options.Expires < minLife || options.Expires > maxLife {
		return Issued{}, ErrExpires
	}
	if err := code.CheckMailbox(options.Mailbox); err != nil {
		return Issued{}, err
	}
	id := make([]byte, 5)
	rand.Read(id)
	now := i.config.Now()
	r := record{Invite: Invite{
		ID:   strings.ToLower(base32.StdEncoding.EncodeToString(id)),
		Name: options.Name, Folder: options.Folder,
		Created: now, Expires: now.Add(options.Expires),
		Mailbox: options.Mailbox, State: Waiting,
		FolderOnly: options.FolderOnly, ReadOnly: options.ReadOnly, Again: options.Again,
	}, Seen: now}
	// What cannot be sent later should not be promised now.
	if _, err := i.promise(ctx, r.Invite); err != nil {
		return Issued{}, err
	}
	state, err := wormhole.NewState(r.appID(), options.Mailbox, "", nil)
	if err != nil {
		return Issued{}, err
	}
	r.Session = &state
	o := newOffer(i, r, options.OwnMailbox)
	o.fresh = true
	i.mu.Lock()
	if !i.started || i.closed {
		i.mu.Unlock()
		return Issued{}, ErrClosed
	}
	i.invites[r.ID] = o
	i.work.Go(o.serve)
	i.mu.Unlock()

	text, err := o.session.Code(ctx)
	if err == nil {
		// The server has our first message: now the newcomer can come, and
		// our own server will keep it.
		err = o.session.Flush(ctx)
	}
	if err != nil {
		return Issued{}, errors.Join(err, i.withdraw(o))
	}
	c, err := code.Parse(text)
	if err != nil {
		return Issued{}, errors.Join(err, i.withdraw(o))
	}
	return Issued{
		ID: r.ID, Code: c, Link: code.Link{Code: c, Mailbox: options.Mailbox},
		CodeAloneIsEnough: slices.Contains(i.config.Public, options.Mailbox),
		Expires:           r.Expires,
	}, nil
}

// withdraw forgets an offer whose code nobody has seen.
func (i *Inviter) withdraw(o *offer) error {
	o.end(Cancelled, "could not be offered")
	o.stop()
	<-o.served
	i.mu.Lock()
	delete(i.invites, o.id)
	i.mu.Unlock()
	return i.ledger.remove(o.id)
}

// promise is what the newcomer will get, as far as that is known before it comes.
func (i *Inviter) promise(ctx context.Context, v Invite) ([]byte, error) {
	if v.FolderOnly {
		return i.folder(ctx, v, true)
	}
	return i.settings(ctx, v)
}

// settings asks the node and completes and checks the answer.
func (i *Inviter) settings(ctx context.Context, v Invite) ([]byte, error) {
	s, err := i.config.Settings(ctx, v)
	if err != nil {
		return nil, fmt.Errorf("the settings for the newcomer: %w", err)
	}
	if s.Ours != nil {
		ours := *s.Ours
		ours.Invite = v.ID
		if ours.Participant == "" {
			ours.Participant = v.Name
		}
		s.Ours = &ours
	}
	b, err := s.Encode()
	if err != nil {
		return nil, fmt.Errorf("the settings for the newcomer: %w", err)
	}
	return b, nil
}

// List tells all invites, the oldest first.
func (i *Inviter) List() []Invite {
	i.mu.Lock()
	defer i.mu.Unlock()
	out := make([]Invite, 0, len(i.invites))
	for _, o := range i.invites {
		out = append(out, o.invite())
	}
	slices.SortFunc(out, func(a, b Invite) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// Cancel ends an invite. When it returns nil, the newcomer will not be taken in,
// also after a restart; the mailbox server hears of it as soon as it can.
func (i *Inviter) Cancel(id string) error {
	i.mu.Lock()
	o := i.invites[id]
	i.mu.Unlock()
	if o == nil {
		return ErrNoInvite
	}
	return o.cancel()
}
