package ui

import (
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Progress counts what passes through it as an io.Writer, or is told by Set, and,
// when that takes longer than a second and somebody watches, shows a bar: on a
// terminal's standard error alone, and never under --json or --quiet. Finish
// removes it.
type Progress struct {
	ui   *UI
	what string

	mu    sync.Mutex // guards what follows: what is sent is read by another goroutine
	total int64      // -1: not known
	done  int64
	start time.Time
	bar   *progressbar.ProgressBar
	over  bool
}

// Progress returns a progress display for total bytes (-1: not known).
func (u *UI) Progress(what string, total int64) *Progress {
	return &Progress{ui: u, what: what, total: total, start: time.Now()}
}

func (p *Progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(p.done+int64(len(b)), p.total)
	return len(b), nil
}

// Set says how far it is, and of how much.
func (p *Progress) Set(done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(done, total)
}

// set is Set; p.mu is held.
func (p *Progress) set(done, total int64) {
	p.done = done
	if p.over {
		return
	}
	if p.bar == nil && !p.ui.Quiet && !p.ui.JSON && p.ui.watched() && time.Since(p.start) > time.Second {
		p.total = total
		p.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(p.ui.Err), progressbar.OptionSetDescription(p.what),
			progressbar.OptionShowBytes(true), progressbar.OptionShowCount(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	if p.bar == nil {
		return
	}
	if total != p.total {
		p.total = total
		p.bar.ChangeMax64(total)
	}
	p.bar.Set64(done)
}

// Reader counts what is read from r.
func (p *Progress) Reader(r io.Reader) io.Reader { return io.TeeReader(r, p) }

// Done is how many bytes it counted.
func (p *Progress) Done() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// Finish removes the bar, whether it was full or not. What is counted later shows
// nothing.
func (p *Progress) Finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	if p.bar != nil {
		p.bar.Exit()
		p.bar.Clear()
		p.bar = nil
	}
}
