package pipe

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

type addr string

func (addr) Network() string  { return "test" }
func (a addr) String() string { return string(a) }

// Both ends may write first, up to the buffer.
func TestBothWriteFirst(t *testing.T) {
	a, b := New(addr("a"), addr("b"))
	for _, c := range []net.Conn{a, b} {
		if _, err := c.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	if a.RemoteAddr() != b.LocalAddr() || a.LocalAddr() != addr("a") {
		t.Error("addresses")
	}
	// Full: the next write waits for its deadline.
	a.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	if n, err := a.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d, %v", n, err)
	}
	a.SetReadDeadline(time.Unix(1, 0))
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	a.SetDeadline(time.Time{})
	if n, err := a.Read(make([]byte, 10)); n != 10 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestMuchData(t *testing.T) {
	a, b := New(addr("a"), addr("b"))
	want := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	done := make(chan error, 1)
	go func() {
		_, err := a.Write(want)
		a.Close()
		done <- err
	}()
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := b.Write([]byte("x")); err == nil {
		t.Error("write to a closed end")
	}
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read of our own closed end: %v", err)
	}
	if err := a.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second close: %v", err)
	}
}

func TestCloseWakes(t *testing.T) {
	a, b := New(addr("a"), addr("b"))
	read := make(chan error, 1)
	go func() {
		_, err := b.Read(make([]byte, 1))
		read <- err
	}()
	a.Close()
	if err := <-read; err != io.EOF {
		t.Error(err)
	}
	c, d := New(addr("c"), addr("d"))
	c.(interface{ CloseWrite() error }).CloseWrite()
	if _, err := d.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
	if _, err := d.Write([]byte("back")); err != nil {
		t.Error(err)
	}
	if n, err := c.Read(make([]byte, 9)); n != 4 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestListener(t *testing.T) {
	ln := NewListener(addr("here"))
	go func() {
		c, err := ln.Accept()
		if err == nil {
			io.Copy(c, c)
			c.Close()
		}
	}()
	c, err := ln.Dial(t.Context(), addr("there"))
	if err != nil {
		t.Fatal(err)
	}
	c.Write([]byte("x"))
	if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Error(err)
	}
	c.Close()
	ln.Close()
	if _, err := ln.Dial(t.Context(), addr("there")); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
