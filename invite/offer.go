package invite

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"warren/invite/code"
	"warren/invite/message"
	"warren/invite/wormhole"
)

// offer is one invite and the goroutine that serves it.
type offer struct {
	inviter *Inviter
	id      string
	session *wormhole.Session // nil when the ledger has none any more
	fresh   bool              // made in this process
	ended   context.Context   // done when the state is final
	finish  context.CancelFunc
	halted  context.Context // done when nobody should serve any more
	stop    context.CancelFunc
	served  chan struct{} // closed when serve has returned

	// mu guards what follows. It is taken after the session's own mutex (Save
	// and Event run under that), so no method of the session is called with it.
	mu     sync.Mutex
	record record
	kept   time.Time // the record's Seen as the ledger has it
}

// newOffer prepares serving r; need demands that the mailbox server is ours.
func newOffer(i *Inviter, r record, need bool) *offer {
	o := &offer{inviter: i, id: r.ID, record: r, kept: r.Seen, served: make(chan struct{})}
	// Not a child of i.ctx: closing must never look like the invite's end.
	o.ended, o.finish = context.WithCancel(context.Background())
	o.halted, o.stop = context.WithCancel(i.ctx)
	if r.Session == nil {
		return o
	}
	attempts := 0
	life := int64(r.Expires.Sub(r.Created) / time.Second)
	digits := 0
	if life > int64(shortLife/time.Second) {
		digits = 6
	}
	if r.Session.CodeText() == "" {
		attempts = 2
	}
	o.session = wormhole.New(wormhole.Config{
		Dial: o.dial, Save: o.saveSession, MakeCode: o.makeCode, Versions: r.versions(),
		Seconds: life, Digits: digits, Need: need,
		Attempts: attempts, Wait: o.wait, Event: o.event,
	}, *r.Session)
	return o
}

// makeCode: two words for up to an hour, four for longer.
func (o *offer) makeCode(nameplate string) (string, error) {
	words := 2
	if v := o.invite(); v.Expires.Sub(v.Created) > shortLife {
		words = 4
	}
	c, err := code.New(rand.Reader, nameplate, words)
	return c.Text(), err
}

// dial reaches the mailbox server, unless that takes so long that it may have
// forgotten us meanwhile.
func (o *offer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := o.inviter.config.Dial(ctx, network, address)
	if err == nil && o.away() {
		conn.Close()
		return nil, ErrLost
	}
	return conn, err
}

// invite is a copy for others.
func (o *offer) invite() Invite {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.record.Invite
}

// change alters the record and saves it; nothing is altered when saving fails.
func (o *offer) change(alter func(*record) bool) error {
	o.mu.Lock()
	next := o.record
	if !alter(&next) {
		o.mu.Unlock()
		return nil
	}
	if err := o.inviter.ledger.save(next); err != nil {
		o.mu.Unlock()
		return fmt.Errorf("saving the invite: %w", err)
	}
	told := next.State != o.record.State
	o.record, o.kept = next, next.Seen
	o.mu.Unlock()
	if told && o.inviter.config.Changed != nil {
		o.inviter.config.Changed(next.Invite)
	}
	return nil
}

func (o *offer) saveSession(s wormhole.State) error {
	return o.change(func(r *record) bool {
		r.Session = &s
		r.Own = s.GrantedSeconds() > 0
		return true
	})
}

// event runs under the session's mutex.
func (o *offer) event(e wormhole.Event) {
	now := o.inviter.config.Now()
	save := false
	o.mu.Lock()
	switch e {
	case wormhole.Connected, wormhole.Alive:
		o.record.Online, o.record.Seen = true, now
		// A minute's error in an absence of ten does no harm.
		save = !o.record.Own && now.Sub(o.kept) >= time.Minute
	case wormhole.Disconnected:
		o.record.Online = false
	}
	o.mu.Unlock()
	if save {
		// When this fails, the next save tells the disk as much.
		_ = o.change(func(*record) bool { return true })
	}
	if e == wormhole.KeyAgreed {
		o.advance(Exchanging)
	}
}

// wait pauses between tries, and ends an invite that was away too long.
func (o *offer) wait(ctx context.Context, attempt int) error {
	if o.away() {
		return ErrLost
	}
	if err := o.inviter.config.Wait(ctx, attempt); err != nil {
		return err
	}
	if o.away() {
		return ErrLost
	}
	return nil
}

// away: a mailbox that is not ours was not seen for so long that it may have
// forgotten us.
func (o *offer) away() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.record.Own && o.inviter.config.Now().Sub(o.record.Seen) > foreignAbsence
}

// advance goes to a state that is not final.
func (o *offer) advance(s State) error {
	return o.change(func(r *record) bool {
		if r.State.Final() || r.State == s {
			return false
		}
		r.State = s
		return true
	})
}

// end goes to a final state, once.
func (o *offer) end(s State, reason string) {
	err := o.change(func(r *record) bool {
		if r.State.Final() {
			return false
		}
		if r.Acknowledged && s != Done {
			// What was told to Joined stands, whatever became of the last word.
			s, reason = Done, "taken in, but the confirmation may not have arrived: "+reason
		}
		r.State, r.Reason, r.Ended = s, reason, o.inviter.config.Now()
		return true
	})
	if err != nil {
		// The disk refuses. Say what is true; a restart will find the
		// invite as it was and come to the same end.
		o.mu.Lock()
		o.record.State, o.record.Reason = s, reason
		o.mu.Unlock()
	}
	o.finish()
}

// endUnless ends the invite unless it has come too far for that: ErrTooLate.
func (o *offer) endUnless(far func(record) bool, s State, reason string) error {
	late := false
	err := o.change(func(r *record) bool {
		if late = r.State.Final() || far(*r); late {
			return false
		}
		r.State, r.Reason, r.Ended = s, reason, o.inviter.config.Now()
		return true
	})
	if err != nil {
		return err
	}
	if late {
		return ErrTooLate
	}
	o.finish()
	return nil
}

// Two limits for endUnless.
func exchanging(r record) bool { return r.State != Waiting }
func admitting(r record) bool  { return r.Admitting }

const nobodyCame = "nobody came in time"

// cancel ends the invite unless the newcomer is being taken in.
func (o *offer) cancel() error {
	return o.endUnless(admitting, Cancelled, "cancelled by the operator")
}

// serve runs the invite to its end, or until the Inviter closes.
func (o *offer) serve() {
	defer close(o.served)
	defer o.finish()
	defer o.stop()
	if o.session == nil {
		return
	}
	if !o.fresh && !o.resumes() {
		o.forget()
		return
	}
	ctx, cancel := context.WithCancel(o.halted)
	defer cancel()
	var runner sync.WaitGroup
	runner.Go(func() { o.session.Run(ctx) }) // how it ends, the session's methods say
	defer runner.Wait()
	defer cancel()

	if !o.invite().State.Final() {
		if err := o.attend(ctx); err != nil {
			if ctx.Err() != nil {
				return // closing: it goes on at the next start
			}
			o.failed(err)
		}
	}
	if o.invite().State != Lost {
		o.goodbye(ctx)
	}
	if ctx.Err() == nil {
		o.forget()
	}
}

// resumes judges an invite of an earlier process: false when the mailbox server is
// to be left alone.
func (o *offer) resumes() bool {
	if o.left() <= 0 {
		if err := o.endUnless(exchanging, Expired, nobodyCame); err != nil && !errors.Is(err, ErrTooLate) {
			o.end(Expired, nobodyCame) // the disk refuses
		}
	}
	if !o.away() {
		return true
	}
	o.end(Lost, ErrLost.Error())
	return false
}

// left is how long the invite has yet to live.
func (o *offer) left() time.Duration {
	return o.invite().Expires.Sub(o.inviter.config.Now())
}

// attend waits for the newcomer and carries out the exchange.
func (o *offer) attend(ctx context.Context) error {
	active, cancel := context.WithCancel(ctx)
	defer cancel()
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() {
		defer cancel()
		o.expire(active)
	})
	err := o.exchange(active)
	if err != nil && o.invite().State.Final() {
		return nil // cancelled or expired meanwhile: that is the reason
	}
	return err
}

// expire ends the invite when its time has come, and returns then or with ctx.
// Whoever has proven the code by then has some time yet; whoever is being taken in
// is not thrown out at the door.
func (o *offer) expire(ctx context.Context) {
	until := func(end time.Duration) bool {
		for {
			left := o.left() + end
			if left <= 0 {
				return true
			}
			select {
			// In steps: timers stand still while a machine sleeps.
			case <-o.inviter.config.After(min(left, time.Minute)):
			case <-o.ended.Done():
				return false
			case <-ctx.Done():
				return false
			}
		}
	}
	if !until(0) || o.endUnless(exchanging, Expired, nobodyCame) == nil {
		return
	}
	if !until(exchangeTime) || o.endUnless(admitting, Expired, "the newcomer began, and did not finish in time") == nil {
		return
	}
	select {
	case <-o.ended.Done():
	case <-ctx.Done():
	}
}

// exchange is the inviter's half. Every step may be repeated after a restart.
func (o *offer) exchange(ctx context.Context) error {
	if o.invite().FolderOnly {
		return o.exchangeFolder(ctx)
	}
	s := o.session
	if err := s.Send(0, message.EncodeGreeting(message.Inviter)); err != nil {
		return err
	}
	b, err := s.Message(ctx, 0)
	if err != nil {
		return err
	}
	greeting, err := message.ParseGreeting(b, message.Newcomer)
	if err != nil {
		return err
	}
	if err := o.advance(Exchanging); err != nil {
		return err
	}
	if s.Sent() < 2 {
		settings, err := o.inviter.settings(ctx, o.invite())
		if err != nil {
			return err
		}
		if err := s.Send(1, settings); err != nil {
			return err
		}
	}
	if err := s.Flush(ctx); err != nil {
		return err
	}
	if !greeting.Ours {
		o.end(Done, "the settings were fetched by a program that does not say whether it used them")
		return nil
	}
	if b, err = s.Message(ctx, 1); err != nil {
		return err
	}
	ack, err := message.ParseAcknowledgement(b)
	if err != nil {
		return err
	}
	v := o.invite()
	if err := o.admit(ctx, func(ctx context.Context) error {
		if o.inviter.config.Joined == nil {
			return nil
		}
		return o.inviter.config.Joined(ctx, v, ack)
	}, ack.Keys); err != nil {
		return err
	}
	if err := s.Send(2, message.EncodeConfirmation()); err != nil {
		return err
	}
	if err := s.Flush(ctx); err != nil {
		return err
	}
	o.end(Done, "")
	return nil
}

// admit takes the newcomer in: from here on nothing cancels.
func (o *offer) admit(ctx context.Context, take func(context.Context) error, keys map[string]string) error {
	ended := false
	err := o.change(func(r *record) bool {
		ended = r.State.Final()
		r.Admitting = true
		return !ended
	})
	if err != nil {
		return err
	}
	if ended {
		return ErrTooLate
	}
	if o.invite().Acknowledged {
		return nil
	}
	if err := take(ctx); err != nil {
		return fmt.Errorf("taking the newcomer in: %w", err)
	}
	return o.change(func(r *record) bool { r.Acknowledged, r.Keys = true, keys; return true })
}

// failed turns an error into the state that people read.
func (o *offer) failed(err error) {
	var refusal *message.Refusal
	switch {
	case errors.Is(err, ErrLost):
		o.end(Lost, ErrLost.Error())
	case errors.Is(err, wormhole.ErrWrongCode):
		o.end(Failed, "somebody tried this code with wrong words, and a code is good for one try: make a new invite")
	case errors.Is(err, wormhole.ErrExpired):
		o.end(Expired, "the mailbox server has dropped it")
	case errors.As(err, &refusal):
		o.end(Failed, "the newcomer's program refused: "+refusal.Reason)
	default:
		o.end(Failed, err.Error())
	}
}

// goodbye tells the newcomer, if one is there, and the mailbox server how it
// ended.
func (o *offer) goodbye(ctx context.Context) {
	// Our own server keeps the code good until it hears this; any other ends
	// the session by ErrLost.
	ctx, cancel := context.WithTimeout(ctx, max(closeTime, o.left()))
	defer cancel()
	v, s := o.invite(), o.session
	mood, reason := wormhole.MoodLonely, string(v.State)
	switch v.State {
	case Done:
		mood, reason = wormhole.MoodHappy, "used"
	case Failed:
		mood = wormhole.MoodErrory
	}
	if v.State != Done && s.Verified() {
		text := "the invite was " + string(v.State)
		if v.State == Failed {
			text = "the operator's node could not complete the invite"
		}
		// If it cannot be sent, the newcomer waits; the mailbox tells it.
		_ = s.Send(s.Sent(), v.refusal(text))
	}
	// An unreachable server forgets us by itself.
	_ = s.Close(ctx, mood, reason)
}

// forget removes the secrets of an invite that has ended.
func (o *offer) forget() {
	// If it fails, the next start comes here again.
	_ = o.change(func(r *record) bool {
		if !r.State.Final() {
			return false
		}
		r.Session, r.Online = nil, false
		return true
	})
}
