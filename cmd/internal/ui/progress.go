package ui

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Progress is an io.Writer that counts what passes and, when that takes longer
// than a second and somebody watches, shows a bar. Finish ends it.
type Progress struct {
	ui    *UI
	what  string
	total int64 // -1: not known
	done  int64
	start time.Time
	bar   *progressbar.ProgressBar
}

// Progress returns a progress display for total bytes (-1: not known).
func (u *UI) Progress(what string, total int64) *Progress {
	return &Progress{ui: u, what: what, total: total, start: time.Now()}
}

func (p *Progress) Write(b []byte) (int, error) {
	p.done += int64(len(b))
	if p.bar == nil && !p.ui.Quiet && !p.ui.JSON && p.ui.watched() && time.Since(p.start) > time.Second {
		p.bar = progressbar.NewOptions64(p.total, progressbar.OptionSetWriter(p.ui.Err), progressbar.OptionSetDescription(p.what),
			progressbar.OptionShowBytes(true), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	if p.bar != nil {
		p.bar.Set64(p.done)
	}
	return len(b), nil
}

// Reader counts what is read from r.
func (p *Progress) Reader(r io.Reader) io.Reader { return io.TeeReader(r, p) }

// Finish removes the bar.
func (p *Progress) Finish() {
	if p.bar != nil {
		p.bar.Finish()
	}
}
