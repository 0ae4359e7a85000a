package script

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"warren/tests/interop"
)

func TestMain(m *testing.M) {
	code := m.Run()
	interop.RemoveBuilt()
	os.Exit(code)
}

// TestStories runs every file of testdata. Beside testscript's commands there are
//
//	start NAME ARG...     run `warren ARG...` in the background
//	says NAME REGEXP      wait until it prints that
//	halt NAME             end it as Ctrl-C does, and wait
//	kill9 NAME            end it as a power cut does
//	await FILE [REGEXP]   wait until a file is there and matches
//	until REGEXP ARG...   run `warren ARG...` until it succeeds and prints a match
//	port VAR              put a free port's number into a variable
//	capture VAR REGEXP    put what the first group matches in the last output into a variable
//	code N                the last `fails` ended with this exit code
//	fails ARG...          run `warren ARG...`, which must fail; stdout, stderr and code look at it
func TestStories(t *testing.T) {
	bin := interop.Warren(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", filepath.Dir(bin)+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("USERPROFILE", e.WorkDir)
			s := &stage{t: t, bin: bin, running: map[string]*interop.Process{}}
			e.Values[stageKey{}] = s
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": with((*stage).start), "halt": with((*stage).halt), "kill9": with((*stage).kill),
			"says": with((*stage).says), "await": with((*stage).await), "until": with((*stage).until), "port": with((*stage).port),
			"capture": with((*stage).capture), "fails": with((*stage).fails), "code": with((*stage).code),
		},
	})
}

// stage is what one story has running.
type stage struct {
	t       testing.TB
	bin     string
	running map[string]*interop.Process
	exit    int
}

type stageKey struct{}

func with(f func(*stage, *testscript.TestScript, []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("this command takes no !")
		}
		f(ts.Value(stageKey{}).(*stage), ts, args)
	}
}

func (s *stage) start(ts *testscript.TestScript, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: start NAME ARG...")
	}
	p := interop.StartIn(s.t, ts.MkAbs("."), []string{"HOME=" + ts.Getenv("HOME"), "USERPROFILE=" + ts.Getenv("HOME")}, s.bin, args[1:]...)
	s.running[args[0]] = p
	ts.Defer(p.Kill)
}

func (s *stage) process(ts *testscript.TestScript, args []string) *interop.Process {
	if len(args) != 1 || s.running[args[0]] == nil {
		ts.Fatalf("name a process that was started")
	}
	return s.running[args[0]]
}

func (s *stage) halt(ts *testscript.TestScript, args []string) {
	s.process(ts, args).Stop(limit)
}

func (s *stage) kill(ts *testscript.TestScript, args []string) { s.process(ts, args).Kill() }

// limit bounds each wait.
const limit = 2 * time.Minute

func (s *stage) await(ts *testscript.TestScript, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: await FILE [REGEXP]")
	}
	want := regexp.MustCompile("(?s).")
	if len(args) == 2 {
		want = regexp.MustCompile("(?m)" + args[1])
	}
	var last string
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && want.Match(b) {
			return
		}
		last = fmt.Sprint(string(b), err)
	}
	ts.Fatalf("%s: not within %v: %s", args[0], limit, last)
}

// says waits for what a process prints.
func (s *stage) says(ts *testscript.TestScript, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: says NAME REGEXP")
	}
	p, want := s.process(ts, args[:1]), regexp.MustCompile("(?m)"+args[1])
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		if want.MatchString(p.Output()) {
			return
		}
	}
	ts.Fatalf("%s did not say that within %v:\n%s", args[0], limit, p.Output())
}

func (s *stage) until(ts *testscript.TestScript, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: until REGEXP ARG...")
	}
	want := regexp.MustCompile("(?m)" + args[0])
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); <-time.After(100 * time.Millisecond) {
		if err := ts.Exec(s.bin, args[1:]...); err == nil && want.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("warren %s: not within %v", strings.Join(args[1:], " "), limit)
}

func (s *stage) port(ts *testscript.TestScript, args []string) {
	for _, name := range args {
		ts.Setenv(name, fmt.Sprint(interop.FreePort(s.t)))
	}
}

func (s *stage) capture(ts *testscript.TestScript, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: capture VAR REGEXP")
	}
	m := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(m) < 2 {
		ts.Fatalf("the last output has no %s", args[1])
	}
	ts.Setenv(args[0], m[1])
}

func (s *stage) fails(ts *testscript.TestScript, args []string) {
	err := ts.Exec(s.bin, args...)
	exit, ok := err.(*exec.ExitError)
	if !ok {
		ts.Fatalf("warren %s: %v, but it should fail", strings.Join(args, " "), err)
	}
	s.exit = exit.ExitCode()
}

func (s *stage) code(ts *testscript.TestScript, args []string) {
	if len(args) != 1 || args[0] != fmt.Sprint(s.exit) {
		ts.Fatalf("exit code %d, want %s", s.exit, strings.Join(args, " "))
	}
}
