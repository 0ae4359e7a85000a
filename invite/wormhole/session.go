package wormhole

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Dial opens an outgoing connection, as torutil.Network's DialContext does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Config is what a session needs beside its state.
type Config struct {
	Dial Dial
	// Save keeps the state; it returns when a killed process would find it
	// again. It must not call the session. May be nil.
	Save func(State) error
	// MakeCode makes the code for an allotted nameplate; needed when the
	// state has no code yet. After an error nothing is sent.
	MakeCode func(nameplate string) (string, error)
	// Seconds asks our own mailbox server to keep the exchange that long, at
	// a nameplate of Digits random digits. Other servers ignore both.
	Seconds int64
	Digits  int
	// Need makes it an error (ErrNotOurs) when Seconds are not granted.
	Need bool
	// Versions is the application's part of the version message; {} if nil.
	Versions json.RawMessage
	// Attempts bounds the tries to reach the server before it was reached
	// once; 0 tries for ever. Once reached, it is always tried again.
	Attempts int
	// Wait waits between tries; the default doubles from a second to half a
	// minute.
	Wait func(ctx context.Context, attempt int) error
	// Event is told what happens, in order, from the session's goroutine; it
	// must not block nor call the session. May be nil.
	Event func(Event)
}

// Event is something that happened to a session.
type Event int

// The events.
const (
	Connected    Event = iota + 1 // the server has welcomed us
	Disconnected                  // the connection ended; it will be made again
	Alive                         // the connection was found alive, each half minute
	PeerSeen                      // the other side's first message came
	KeyAgreed                     // the other side has proven the code
)

// Session is one side of an exchange. Run it in one goroutine; the other
// methods may be called from any.
type Session struct {
	config Config
	wake   chan struct{} // something may want sending

	// mu guards what follows. Save is called with it held.
	mu      sync.Mutex
	state   State
	err     error         // how it ended
	changed chan struct{} // closed and replaced at every change
	online  bool
}

// New prepares a session from a state, fresh or saved.
func New(config Config, state State) *Session {
	if config.Versions == nil {
		config.Versions = json.RawMessage("{}")
	}
	if config.Wait == nil {
		config.Wait = backoff
	}
	if config.Event == nil {
		config.Event = func(Event) {}
	}
	if config.Save == nil {
		config.Save = func(State) error { return nil }
	}
	return &Session{config: config, wake: make(chan struct{}, 1), state: state, changed: make(chan struct{})}
}

func backoff(ctx context.Context, attempt int) error {
	d := min(time.Second<<min(attempt, 5), 30*time.Second)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Run keeps the exchange going until it is closed (nil), fails (the error that
// every other method then returns) or ctx ends. After ctx has ended the saved
// state can be resumed.
func (s *Session) Run(ctx context.Context) error {
	err := s.run(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		if err == nil {
			s.err = ErrClosed
		}
	}
	s.notify()
	return err
}

func (s *Session) run(ctx context.Context) error {
	reached := false
	for attempt := 0; ; attempt++ {
		c := &connection{session: s}
		err := c.run(ctx)
		s.mu.Lock()
		was, closed, mood := s.online, s.state.Closed, s.state.Closing
		s.online = false
		s.notify()
		s.mu.Unlock()
		if was {
			reached = true
		}
		if c.served {
			// A server that welcomes and does no more is full, or broken: it
			// is left alone for longer and longer.
			attempt = 0
		}
		var final *finalError
		switch {
		case mood == moodScary && (closed || !was):
			// Said goodbye, or could not: that is no reason to keep the
			// truth from our own side.
			return ErrWrongCode
		case closed:
			return nil
		case errors.As(err, &final):
			return final.err
		case ctx.Err() != nil:
			return ctx.Err()
		case !reached && s.config.Attempts > 0 && attempt+1 >= s.config.Attempts:
			return fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		if was {
			s.config.Event(Disconnected)
		}
		if err := s.config.Wait(ctx, attempt); err != nil {
			return err
		}
	}
}

// finalError ends the session, not only the connection.
type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }
func (e *finalError) Unwrap() error { return e.err }

func final(err error) error { return &finalError{err} }

// change alters the state and saves it. What depends on the change may be sent
// when it has returned nil. The caller holds mu.
func (s *Session) change(alter func(*state) error) error {
	next, err := s.state.clone()
	if err != nil {
		return err
	}
	if err := alter(&next.state); err != nil {
		return err
	}
	if err := s.config.Save(next); err != nil {
		// Nothing has changed, and nothing goes on: after a restart the
		// other side would see something else under the same phase.
		s.err = fmt.Errorf("%w: %w", ErrSave, err)
		s.notify()
		return final(s.err)
	}
	s.state = next
	s.notify()
	return nil
}

// notify wakes who waits. The caller holds mu.
func (s *Session) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// wait waits until ready returns true.
func (s *Session) wait(ctx context.Context, ready func(*state) bool) error {
	for {
		s.mu.Lock()
		ok, err, changed := ready(&s.state.state), s.err, s.changed
		s.mu.Unlock()
		switch {
		case ok:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// State is a copy of what would be saved now.
func (s *Session) State() (State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.clone()
}

// Code waits for the code: it is known once a nameplate is allotted, and then
// it has been saved.
func (s *Session) Code(ctx context.Context) (string, error) {
	var text string
	err := s.wait(ctx, func(st *state) bool { text = st.Code; return text != "" })
	return text, err
}

// Send takes the application's message number n (from 0) and returns when it is
// saved; it is sent when the key is proven. A message that was taken already is
// left as it is: repeating a Send after a restart is safe.
func (s *Session) Send(n int, plain []byte) error {
	if len(plain) > MaxMessage {
		return ErrTooLarge
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	taken := s.state.Next + len(s.state.Queue)
	switch {
	case n < taken:
		return nil
	case n > taken || n >= maxPhases:
		return fmt.Errorf("message %d sent out of order", n)
	case s.state.Closing == moodScary:
		return ErrWrongCode // known already, and being said to the server
	case s.state.Closing != "":
		return ErrClosed
	}
	return s.change(func(st *state) error {
		st.Queue = append(st.Queue, append([]byte{}, plain...))
		return st.advance(s.versions())
	})
}

// Sent counts the messages that Send has taken.
func (s *Session) Sent() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Next + len(s.state.Queue)
}

// Message waits for the other side's application message number n.
func (s *Session) Message(ctx context.Context, n int) ([]byte, error) {
	var plain []byte
	phase := fmt.Sprint(n)
	err := s.wait(ctx, func(st *state) bool {
		var ok bool
		plain, ok = st.In[phase]
		return ok
	})
	return plain, err
}

// Versions waits for the other side's version message and returns the
// application's part. When it returns, the other side has proven the code.
func (s *Session) Versions(ctx context.Context) (json.RawMessage, error) {
	var plain []byte
	err := s.wait(ctx, func(st *state) bool {
		var ok bool
		plain, ok = st.In[phaseVersion]
		return ok
	})
	if err != nil {
		return nil, err
	}
	var v struct {
		App json.RawMessage `json:"app_versions"`
	}
	if err := json.Unmarshal(plain, &v); err != nil {
		return nil, fmt.Errorf("the other side's version message: %w", err)
	}
	return v.App, nil
}

// Verifier waits for the key and returns magic-wormhole's verifier: people on
// both sides may compare it.
func (s *Session) Verifier(ctx context.Context) ([]byte, error) {
	var key []byte
	err := s.wait(ctx, func(st *state) bool { key = st.Key; return st.Verified })
	if err != nil {
		return nil, err
	}
	v, err := derive(key, "wormhole:verifier")
	return v[:], err
}

// Flush waits until the server has all that can be sent: before the key is
// agreed, our first message; afterwards, everything.
func (s *Session) Flush(ctx context.Context) error {
	return s.wait(ctx, func(st *state) bool { return st.allStored() })
}

// PeerSeen says whether the other side's first message has come.
func (s *Session) PeerSeen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Peer != ""
}

// Online says whether the mailbox server is connected now.
func (s *Session) Online() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.online
}

// Verified says whether the other side has proven the code.
func (s *Session) Verified() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Verified
}

// Moods that a side may close with; servers keep statistics of them.
const (
	MoodHappy  = "happy"
	MoodLonely = "lonely"
	MoodErrory = "errory"
	moodScary  = "scary"
)

// Close gives the nameplate and the mailbox back, after what was sent before has
// reached the server. reason is told, by our own mailbox server, to who comes
// later: "used", "expired" or "cancelled". It waits for the server until ctx
// ends; the wish is saved, and a resumed session carries it out.
func (s *Session) Close(ctx context.Context, mood, reason string) error {
	s.mu.Lock()
	if s.err == nil && s.state.Closing == "" {
		if err := s.change(func(st *state) error { st.Closing, st.Reason = mood, reason; return nil }); err != nil {
			s.mu.Unlock()
			return err
		}
	}
	s.mu.Unlock()
	err := s.wait(ctx, func(st *state) bool { return st.Closed })
	if errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}

func (s *Session) versions() []byte {
	b, err := json.Marshal(map[string]json.RawMessage{"app_versions": s.config.Versions})
	if err != nil {
		return []byte(`{"app_versions": {}}`)
	}
	return b
}
