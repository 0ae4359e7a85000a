package wormhole

import (
	"errors"
	"testing"
)

// Whoever sends while the session is saying goodbye hears why it ends.
func TestSendWhileClosing(t *testing.T) {
	for mood, want := range map[string]error{moodScary: ErrWrongCode, MoodErrory: ErrClosed} {
		if err := New(Config{}, State{state: state{Closing: mood}}).Send(0, []byte("hello")); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", mood, err, want)
		}
	}
}
