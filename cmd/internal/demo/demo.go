package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"warren/magicfolder"
	"warren/node/config"
	"warren/torutil"
)

// Options of a demo.
type Options struct {
	Exe  string    // this binary
	Out  io.Writer // the lines
	From string    // the tree whose files the folder holds
	Keep bool      // leave everything in place, and say where
	// LargeFile is the size of the one large file, in bytes.
	LargeFile int64
	// TorControl and Torrc turn Tor on: the services attach to the tor at that
	// control port, the newcomers launch their own with those lines added.
	TorControl, Torrc string
}

func (o Options) tor() bool { return o.TorControl != "" }

const (
	servers    = 5
	folderName = "project"
	conflicted = "plan.txt" // the file that two edit at once
)

// person is one of the three who share the folder.
type person struct {
	name, node, folder string
	run                *process
}

// story is a running demo.
type story struct {
	*stage
	Options
	began      time.Time
	mailbox    string
	furlFile   string
	storage    []*process
	op, nc, th *person        // operator, newcomer, third
	asked      torutil.Counts // the connections of the command that asked the introducer
}

// Run plays the whole story; any step that does not come true is the error.
func Run(ctx context.Context, o Options) (err error) {
	root, err := os.MkdirTemp("", "warren-demo-")
	if err != nil {
		return err
	}
	s := &story{stage: &stage{exe: o.Exe, root: root}, Options: o, began: time.Now()}
	defer func() {
		s.finish()
		if o.Keep {
			fmt.Fprintf(o.Out, "kept: %s\n", root)
			return
		}
		err = errors.Join(err, os.RemoveAll(root))
	}()
	fmt.Fprintf(o.Out, "warren demo: everything below happens on this machine, in %s\n", root)
	for _, step := range []struct {
		what  string
		limit time.Duration
		run   func(context.Context) error
	}{
		{"services", 3 * time.Minute, s.services},
		{"the operator", 3 * time.Minute, s.operator},
		{"invite and join", 3 * time.Minute, s.inviteAndJoin},
		{"edits", 2 * time.Minute, s.edits},
		{"a conflict", 2 * time.Minute, s.conflict},
		{"two servers die", 6 * time.Minute, s.losses},
		{"connections", time.Minute, s.connections},
	} {
		sctx, cancel := context.WithTimeout(ctx, step.limit)
		err := step.run(sctx)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	s.say("done: all of it true")
	return nil
}

// say prints a line with the time since the start.
func (s *story) say(format string, args ...any) {
	fmt.Fprintf(s.Out, "%6.1f s  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// listen are a service's options: an onion service, or a port of its own on loopback.
func (s *story) listen() ([]string, error) {
	if s.tor() {
		return []string{"--listen=tor", "--tor-control-port=" + s.TorControl, "--hide-ip"}, nil
	}
	port, err := torutil.FreePort()
	if err != nil {
		return nil, err
	}
	return []string{"--listen=tcp", fmt.Sprintf("--port=tcp:%d:interface=127.0.0.1", port), fmt.Sprintf("--location=tcp:127.0.0.1:%d", port)}, nil
}

// client are the options of a node that serves nobody.
func (s *story) client() []string {
	if s.tor() {
		return []string{"--tor-control-port=" + s.TorControl, "--hide-ip"}
	}
	return nil
}

func (s *story) services(ctx context.Context) error {
	// The mailbox, where inviter and newcomer meet.
	box := filepath.Join(s.root, "mailbox")
	args := []string{"mailbox", "--port=tcp:0:interface=127.0.0.1"}
	if s.tor() {
		args = []string{"mailbox", "--listen=tor", "--tor-control-port=" + s.TorControl}
	}
	p, err := s.start("mailbox", append(args, box)...)
	if err != nil {
		return err
	}
	if err := until(ctx, p, "the mailbox", func() (err error) {
		s.mailbox, err = readWhole(filepath.Join(box, "mailbox.url"))
		return err
	}); err != nil {
		return err
	}
	s.say("mailbox        %s", s.mailbox)

	// The introducer, where servers and clients find each other.
	intro := filepath.Join(s.root, "introducer")
	listen, err := s.listen()
	if err != nil {
		return err
	}
	if _, err := s.run(ctx, append(append([]string{"create-introducer"}, listen...), intro)...); err != nil {
		return err
	}
	if p, err = s.start("introducer", "run", intro); err != nil {
		return err
	}
	s.furlFile = filepath.Join(intro, "private", "introducer.furl")
	if err := until(ctx, p, "the introducer", func() error { _, err := readWhole(s.furlFile); return err }); err != nil {
		return err
	}
	s.say("introducer     running; its FURL is in %s", s.furlFile)

	for i := range servers {
		name := fmt.Sprintf("storage%d", i+1)
		if listen, err = s.listen(); err != nil {
			return err
		}
		dir := filepath.Join(s.root, name)
		args := append([]string{"create-node", "--nickname=" + name, "--introducer=@" + s.furlFile, "--webport=tcp:0:interface=127.0.0.1", "--shares-needed=3", "--shares-happy=4", "--shares-total=5"}, listen...)
		if _, err := s.run(ctx, append(args, dir)...); err != nil {
			return err
		}
		p, err := s.start(name, "run", dir)
		if err != nil {
			return err
		}
		s.storage = append(s.storage, p)
	}
	return nil
}

// status is the part of `warren status --json` that the demo looks at.
type status struct {
	Servers []struct {
		Connected bool `json:"connected"`
	} `json:"servers"`
	Folders []struct {
		Name   string `json:"name"`
		State  string `json:"state"`
		Reason string `json:"reason"`
	} `json:"folders"`
	Connections torutil.Counts `json:"connections"`
}

func (s *story) status(ctx context.Context, dir string) (status, error) {
	var st status
	err := s.ask(ctx, &st, "status", "-d", dir)
	return st, err
}

// settled waits until the person's folder says that everything is stored and seen.
func (s *story) settled(ctx context.Context, p *person) error {
	return until(ctx, p.run, p.name+"'s folder up to date", func() error {
		st, err := s.status(ctx, p.node)
		if err != nil {
			return err
		}
		for _, f := range st.Folders {
			if f.Name != folderName {
				continue
			}
			if f.State == magicfolder.StateCurrent {
				return nil
			}
			return fmt.Errorf("%s %s", f.State, f.Reason)
		}
		return errors.New("no folder yet")
	})
}

// arrived waits until p's folder holds exactly the files of want.
func (s *story) arrived(ctx context.Context, p *person, want map[string][32]byte) error {
	err := until(ctx, p.run, "the files at "+p.name, func() error {
		have, err := hashes(p.folder)
		if err != nil {
			return err
		}
		return sameFiles(want, have)
	})
	if err != nil {
		return s.explain(p, err)
	}
	return nil
}

// explain adds to an error what the person's node says of itself.
func (s *story) explain(p *person, err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	text, serr := s.run(ctx, "status", "-d", p.node)
	if serr != nil {
		return errors.Join(err, serr)
	}
	return fmt.Errorf("%w\n%s", err, text)
}

func (s *story) operator(ctx context.Context) error {
	op := &person{name: "alice", node: filepath.Join(s.root, "alice"), folder: filepath.Join(s.root, "alice-project")}
	s.op = op
	args := append([]string{"create-client", "--nickname=Friends of the warren", "--introducer=@" + s.furlFile, "--webport=tcp:0:interface=127.0.0.1", "--mailbox=" + s.mailbox}, s.client()...)
	// Asking the introducer which servers there are needs them to have announced.
	made, err := s.createWhenServersAreKnown(ctx, append(args, op.node))
	if err != nil {
		return err
	}
	s.say("alice          %d storage servers known, so the encoding is %d of %d, and stored means on %d of them", made.Servers, made.Needed, made.Total, made.Happy)
	// Two servers are going to die here, and no file may be lost by that: what is
	// stored on four of five may not bear it.
	cfg, err := config.Open(op.node)
	if err != nil {
		return err
	}
	if err := cfg.Set(config.Setting{Section: "client", Key: "shares.happy", Value: strconv.Itoa(servers)}); err != nil {
		return err
	}
	s.say("alice          sets shares.happy = %d: stored means on all of them, so that any two may die", servers)
	if op.run, err = s.start("alice", "run", op.node); err != nil {
		return err
	}
	if err := until(ctx, op.run, "five storage servers", func() error {
		st, err := s.status(ctx, op.node)
		if err != nil {
			return err
		}
		n := 0
		for _, sv := range st.Servers {
			if sv.Connected {
				n++
			}
		}
		if n < servers {
			return fmt.Errorf("%d connected", n)
		}
		return nil
	}); err != nil {
		return err
	}
	s.say("alice          node running, connected to %d storage servers", servers)

	if err := os.MkdirAll(op.folder, 0o755); err != nil {
		return err
	}
	files, size, err := copyTree(op.folder, s.From)
	if err != nil {
		return err
	}
	if err := randomFile(filepath.Join(op.folder, "large.bin"), s.LargeFile); err != nil {
		return err
	}
	before := time.Now()
	if _, err := s.run(ctx, "folder", "add", "-d", op.node, "--name="+folderName, "--author=alice", op.folder); err != nil {
		return err
	}
	if err := s.settled(ctx, op); err != nil {
		return err
	}
	s.say("alice          folder %q stored: %d files (%.1f MiB) and one of %d MiB, in %.1f s", folderName, files, float64(size)/(1<<20), s.LargeFile>>20, time.Since(before).Seconds())
	return nil
}

// createWhenServersAreKnown repeats a creation until the introducer told of all
// servers: the encoding that it chooses fits those.
func (s *story) createWhenServersAreKnown(ctx context.Context, args []string) (made created, err error) {
	dir := args[len(args)-1]
	err = until(ctx, nil, "five servers announced", func() error {
		made = created{}
		if err := s.ask(ctx, &made, args...); err != nil {
			return err
		}
		s.asked = sum(s.asked, made.Connections)
		if made.Servers == servers {
			return nil
		}
		return errors.Join(fmt.Errorf("%d so far", made.Servers), os.RemoveAll(dir))
	})
	return made, err
}

// created is what `warren create-client --json` prints.
type created struct {
	Needed      int            `json:"shares_needed"`
	Happy       int            `json:"shares_happy"`
	Total       int            `json:"shares_total"`
	Servers     int            `json:"servers_known"`
	Connections torutil.Counts `json:"connections"`
}

// invited is what `warren invite --json` prints.
type invited struct {
	Code string `json:"code"`
	Link string `json:"link"`
}

// join invites name and has them join into an empty directory.
func (s *story) join(ctx context.Context, name string) (*person, error) {
	p := &person{name: name, node: filepath.Join(s.root, name), folder: filepath.Join(s.root, name+"-project")}
	var inv invited
	if err := s.ask(ctx, &inv, "invite", "-d", s.op.node, "--folder="+folderName, name); err != nil {
		return nil, err
	}
	s.say("alice          $ warren invite %s --folder %s", name, folderName)
	// The demo's mailbox is none that every program tries: the link names it.
	s.say("alice          code %s; tell %s:  warren join %s", inv.Code, name, inv.Link)
	args := []string{"join", "-d", p.node, "--yes", "--webport=tcp:0:interface=127.0.0.1"}
	if s.tor() {
		args = append(args, "--tor-launch", "--tor-torrc="+s.Torrc)
	} else {
		args = append(args, "--direct")
	}
	before := time.Now()
	var err error
	if p.run, err = s.start(name, append(args, inv.Link, p.folder)...); err != nil {
		return nil, err
	}
	s.say("%-14s $ warren join %s", name, inv.Link)
	if err := until(ctx, p.run, name+"'s node", func() error { _, err := s.status(ctx, p.node); return err }); err != nil {
		return nil, err
	}
	s.say("%-14s joined, node running %.1f s after the command", name, time.Since(before).Seconds())
	return p, nil
}

func (s *story) inviteAndJoin(ctx context.Context) error {
	want, err := hashes(s.op.folder)
	if err != nil {
		return err
	}
	before := time.Now()
	if s.nc, err = s.join(ctx, "bob"); err != nil {
		return err
	}
	if err := s.arrived(ctx, s.nc, want); err != nil {
		return err
	}
	s.say("bob            all %d files arrived with the same hashes, %.1f s after the invite", len(want), time.Since(before).Seconds())
	return nil
}

// edit writes a file in one folder and waits for it in another.
func (s *story) edit(ctx context.Context, from, to *person, name string) error {
	text := fmt.Sprintf("%s wrote this at %s\n", from.name, time.Now().Format(time.RFC3339Nano))
	before := time.Now()
	if err := os.WriteFile(filepath.Join(from.folder, name), []byte(text), 0o644); err != nil {
		return err
	}
	if err := until(ctx, to.run, name+" at "+to.name, func() error {
		got, err := os.ReadFile(filepath.Join(to.folder, name))
		if err == nil && string(got) != text {
			err = errors.New("still another version")
		}
		return err
	}); err != nil {
		return err
	}
	s.say("%-14s an edit of %s is at %s after %.1f s", from.name, name, to.name, time.Since(before).Seconds())
	return nil
}

func (s *story) edits(ctx context.Context) error {
	if err := s.settled(ctx, s.nc); err != nil {
		return err
	}
	if err := s.edit(ctx, s.op, s.nc, "notes.txt"); err != nil {
		return err
	}
	return s.edit(ctx, s.nc, s.op, "notes.txt")
}

func (s *story) conflict(ctx context.Context) error {
	const name = conflicted
	if err := s.edit(ctx, s.op, s.nc, name); err != nil {
		return err
	}
	if err := s.settled(ctx, s.nc); err != nil {
		return err
	}
	// Bob goes offline; both edit; bob returns.
	s.nc.run.stop()
	ours, theirs := []byte("alice's plan\n"), []byte("bob's plan\n")
	if err := errors.Join(os.WriteFile(filepath.Join(s.op.folder, name), ours, 0o644), os.WriteFile(filepath.Join(s.nc.folder, name), theirs, 0o644)); err != nil {
		return err
	}
	// Alice's edit is on the grid once her folder says so; the scan may still be ahead.
	if _, err := s.run(ctx, "folder", "status", "-d", s.op.node, "--scan"); err != nil {
		return err
	}
	if err := s.settled(ctx, s.op); err != nil {
		return err
	}
	var err error
	if s.nc.run, err = s.start("bob", "run", s.nc.node); err != nil {
		return err
	}
	var copyName string
	if err := until(ctx, s.nc.run, "the conflict copy at bob", func() error {
		matches, err := filepath.Glob(filepath.Join(s.nc.folder, name+".conflict-*"))
		if err == nil && len(matches) == 0 {
			err = errors.New("none yet")
		}
		if err != nil {
			return err
		}
		copyName = filepath.Base(matches[0])
		got, err := os.ReadFile(matches[0])
		if err == nil && string(got) != string(ours) {
			err = errors.New("not alice's bytes yet")
		}
		return err
	}); err != nil {
		return err
	}
	mine, err := os.ReadFile(filepath.Join(s.nc.folder, name))
	if err != nil {
		return err
	}
	if string(mine) != string(theirs) {
		return errors.New("bob's own bytes are not in place")
	}
	s.say("conflict       both edited %s while bob was offline: his bytes stay, alice's are in %s", name, copyName)
	return nil
}

func (s *story) losses(ctx context.Context) error {
	for _, p := range []*person{s.op, s.nc} {
		if err := s.settled(ctx, p); err != nil {
			return s.explain(p, err)
		}
	}
	want, err := hashes(s.op.folder)
	if err != nil {
		return err
	}
	for _, p := range s.storage[:2] {
		st, err := s.status(ctx, filepath.Join(s.root, p.name))
		if err != nil {
			return err
		}
		p.last = &st.Connections
		p.kill()
	}
	s.say("storage        servers 1 and 2 killed: %d of %d are left", servers-2, servers)
	before := time.Now()
	if s.th, err = s.join(ctx, "carol"); err != nil {
		return err
	}
	// The file in conflict has two versions, until somebody resolves it: a third
	// person has one of them in place and the other beside it.
	delete(want, conflicted)
	if err := until(ctx, s.th.run, "the files at carol", func() error {
		have, err := hashes(s.th.folder)
		if err != nil {
			return err
		}
		_, there := have[conflicted]
		delete(have, conflicted)
		if err := sameFiles(want, have); err != nil {
			return err
		}
		if !there {
			return errors.New("all are there but " + conflicted)
		}
		return nil
	}); err != nil {
		return s.explain(s.th, err)
	}
	s.say("carol          all %d files and the conflicted one arrived, with the same hashes, %.1f s after the invite", len(want), time.Since(before).Seconds())
	s.say("carol          large.bin has SHA-256 %x", want["large.bin"])
	return nil
}

// connections ends every process and adds up what all said that they opened: those
// that were killed were asked before.
func (s *story) connections(context.Context) error {
	s.finish()
	all := s.asked
	for _, p := range s.processes {
		c, err := p.connections()
		if err != nil && s.tor() {
			return err // what is not known cannot be called Tor only
		}
		if err != nil {
			s.say("connections    %s did not say", p.name)
		}
		all = sum(all, c)
	}
	for _, via := range transports() {
		s.say("connections    %-10s %d made, %d failed", via, all.By[via].Made, all.By[via].Failed)
	}
	if n := all.Tried(torutil.ViaDirect); s.tor() && n > 0 {
		return fmt.Errorf("%d direct connections in Tor mode", n)
	}
	return nil
}

func transports() []torutil.Transport {
	return []torutil.Transport{torutil.ViaDirect, torutil.ViaTor, torutil.InProcess, torutil.ViaLocal}
}

func sum(a, b torutil.Counts) torutil.Counts {
	out := torutil.Counts{By: map[torutil.Transport]torutil.Tally{}, Refused: a.Refused + b.Refused}
	for _, via := range transports() {
		out.By[via] = torutil.Tally{Made: a.By[via].Made + b.By[via].Made, Failed: a.By[via].Failed + b.By[via].Failed}
	}
	return out
}
