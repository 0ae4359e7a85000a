package tornet

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"warren/torutil"
)

// node is one tor process and its directory.
type node struct {
	net         *Network
	name, dir   string
	torrc       []string
	controlPort string // "" lets tor pick one

	mu      sync.Mutex // guards all below
	cmd     *exec.Cmd
	exited  chan struct{}
	control *textproto.Conn // owns the process
	output  *bytes.Buffer
}

func (n *Network) newNode(name string) (*node, error) {
	d := &node{net: n, name: name, dir: filepath.Join(n.dir, name)}
	if err := os.MkdirAll(filepath.Join(d.dir, "keys"), 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(d.dir, 0o700); err != nil {
		return nil, err
	}
	d.torrc = []string{
		"DataDirectory " + quote(d.dir),
		"ControlPortWriteToFile " + quote(d.path("control-port")),
		"CookieAuthentication 1",
		"ShutdownWaitLength 0",
		"Log notice file " + d.path("notice.log"),
		"AvoidDiskWrites 1",
		"GeoIPFile " + d.emptyFile(), // reading the real ones takes a second each
		"GeoIPv6File " + d.emptyFile(),
		"Address 127.0.0.1",
	}
	if !strings.HasPrefix(name, "client-") {
		d.torrc = append(d.torrc, "SocksPort 0", "ExitPolicyRejectPrivate 0")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes = append(n.nodes, d)
	return d, nil
}

func (d *node) path(name string) string { return filepath.Join(d.dir, name) }

func quote(path string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(path) + `"`
}

// makeAuthority makes a directory authority's keys and gives the line by which
// the others know it.
func (n *Network) makeAuthority(ctx context.Context, name string) (line string, err error) {
	d, err := n.newNode(name)
	if err != nil {
		return "", err
	}
	dirPort, err := freePort()
	if err != nil {
		return "", err
	}
	orPort, err := freePort()
	if err != nil {
		return "", err
	}
	gencert := exec.CommandContext(ctx, "tor-gencert", "--create-identity-key", "--passphrase-fd", "0",
		"-m", "12", "-a", fmt.Sprintf("127.0.0.1:%d", dirPort),
		"-i", d.path("keys/authority_identity_key"),
		"-s", d.path("keys/authority_signing_key"),
		"-c", d.path("keys/authority_certificate"))
	gencert.Stdin = strings.NewReader("a key for one test\n")
	if out, err := gencert.CombinedOutput(); err != nil {
		return "", fmt.Errorf("tor-gencert: %w: %s", err, out)
	}
	v3, err := field(d.path("keys/authority_certificate"), "fingerprint ")
	if err != nil {
		return "", err
	}
	ports := []string{
		fmt.Sprintf("ORPort 127.0.0.1:%d", orPort),
		fmt.Sprintf("DirPort 127.0.0.1:%d", dirPort),
		"Nickname " + name,
	}
	// The relay's fingerprint comes from tor, which wants some authority named
	// before it makes its keys.
	const nobody = "DirAuthority nobody orport=1 v3ident=0000000000000000000000000000000000000000 127.0.0.1:2 0000000000000000000000000000000000000000"
	lines := append(append([]string{nobody}, d.torrc...), ports...)
	if err := os.WriteFile(d.path("keygen.torrc"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return "", err
	}
	keygen := exec.CommandContext(ctx, "tor", "--list-fingerprint", "-f", d.path("keygen.torrc"), "--defaults-torrc", d.emptyFile())
	if out, err := keygen.CombinedOutput(); err != nil {
		return "", fmt.Errorf("tor --list-fingerprint: %w: %s", err, out)
	}
	id, err := field(d.path("fingerprint"), name+" ")
	if err != nil {
		return "", err
	}
	d.torrc = append(d.torrc, ports...)
	d.torrc = append(d.torrc,
		"AuthoritativeDirectory 1",
		"V3AuthoritativeDirectory 1",
		"ContactInfo test@example.invalid",
		"ExitPolicy reject *:*",
		"TestingV3AuthInitialVotingInterval 5",
		"TestingV3AuthInitialVoteDelay 2",
		"TestingV3AuthInitialDistDelay 2",
		"V3AuthVotingInterval 10",
		"V3AuthVoteDelay 2",
		"V3AuthDistDelay 2",
		"V3AuthNIntervalsValid 5",
		"TestingDirAuthVoteExit *",
		"TestingDirAuthVoteHSDir *",
		"TestingDirAuthVoteGuard *",
		"MinUptimeHidServDirectoryV2 0",
		"TestingMinExitFlagThreshold 0",
	)
	return fmt.Sprintf("DirAuthority %s orport=%d no-v2 v3ident=%s 127.0.0.1:%d %s", name, orPort, v3, dirPort, id), nil
}

// field is the rest of the first line of a file that begins with prefix.
func field(path, prefix string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			return strings.TrimSpace(rest), nil
		}
	}
	return "", fmt.Errorf("%s: no line begins with %q", path, prefix)
}

func (d *node) emptyFile() string {
	path := d.path("empty")
	os.WriteFile(path, nil, 0o600)
	return path
}

// start runs tor and takes ownership of it.
func (d *node) start(ctx context.Context) error {
	if err := d.run(ctx); err != nil {
		d.kill()
		return fmt.Errorf("tornet: %s: %w\n%s", d.name, err, d.lastWords())
	}
	return nil
}

func (d *node) run(ctx context.Context) error {
	control := d.controlPort
	if control == "" {
		control = "127.0.0.1:auto"
	}
	lines := append(append([]string{}, d.net.TorrcLines()...), d.torrc...)
	lines = append(lines, "ControlPort "+control)
	if err := os.WriteFile(d.path("torrc"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	os.Remove(d.path("control-port"))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.output = &bytes.Buffer{}
	d.cmd = exec.Command("tor", "-f", d.path("torrc"), "--defaults-torrc", d.emptyFile(), "--hush",
		"__OwningControllerProcess", strconv.Itoa(os.Getpid()))
	d.cmd.Stdout, d.cmd.Stderr = d.output, d.output
	if err := d.cmd.Start(); err != nil {
		d.cmd = nil
		return err
	}
	cmd, exited := d.cmd, make(chan struct{})
	d.exited = exited
	go func() {
		cmd.Wait()
		close(exited)
	}()
	return d.own(ctx)
}

// own connects to the control port once it is there. It is called with mu held.
func (d *node) own(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var conn net.Conn
	for conn == nil {
		select {
		case <-d.exited:
			return errors.New("tor exited")
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		text, err := os.ReadFile(d.path("control-port"))
		at, ok := strings.CutPrefix(string(text), "PORT=")
		if err != nil || !ok || !strings.HasSuffix(at, "\n") {
			continue
		}
		if conn, err = d.net.local.DialContext(ctx, "tcp", strings.TrimSpace(at)); err != nil {
			return err
		}
	}
	d.control = textproto.NewConn(conn)
	// Once it answers, it has written its cookie too.
	if _, err := d.ask("PROTOCOLINFO 1"); err != nil {
		return err
	}
	cookie, err := os.ReadFile(d.path("control_auth_cookie"))
	if err != nil {
		return err
	}
	for _, command := range []string{"AUTHENTICATE " + hex.EncodeToString(cookie), "TAKEOWNERSHIP"} {
		if _, err := d.ask(command); err != nil {
			return err
		}
	}
	return nil
}

// ask sends a command and gives its answer's lines, without their codes. It is
// called with mu held.
func (d *node) ask(command string) (string, error) {
	if err := d.control.PrintfLine("%s", command); err != nil {
		return "", err
	}
	var lines []string
	for {
		line, err := d.control.ReadLine()
		if err != nil {
			return "", err
		}
		if len(line) < 4 || line[:3] != "250" {
			return "", fmt.Errorf("%s: %s", strings.Fields(command)[0], line)
		}
		lines = append(lines, line[4:])
		switch line[3] {
		case ' ':
			return strings.Join(lines, "\n"), nil
		case '+':
			data, err := d.control.ReadDotLines()
			if err != nil {
				return "", err
			}
			lines = append(lines, data...)
		}
	}
}

// waitBootstrapped asks until tor says that it has.
func (d *node) waitBootstrapped(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	phase := ""
	for {
		d.mu.Lock()
		var err error
		if d.control == nil {
			err = errors.New("it was killed")
		} else {
			phase, err = d.ask("GETINFO status/bootstrap-phase")
		}
		d.mu.Unlock()
		if err != nil {
			return fmt.Errorf("tornet: %s: %w\n%s", d.name, err, d.lastWords())
		}
		if strings.Contains(phase, "PROGRESS=100") {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("tornet: %s did not bootstrap: %w: %s\n%s", d.name, ctx.Err(), phase, d.lastWords())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (d *node) pid() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd == nil {
		return 0
	}
	return d.cmd.Process.Pid
}

func (d *node) kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd != nil {
		d.cmd.Process.Kill()
		<-d.exited
		d.cmd = nil
	}
	if d.control != nil {
		d.control.Close()
		d.control = nil
	}
}

// lastWords is the end of tor's log, for an error.
func (d *node) lastWords() string {
	text, _ := os.ReadFile(d.path("notice.log"))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	d.mu.Lock()
	defer d.mu.Unlock()
	var output string
	if d.output != nil && d.cmd == nil {
		output = d.output.String()
	}
	return output + strings.Join(lines[max(0, len(lines)-8):], "\n")
}

// freePort picks below the ports that the system gives to outgoing connections
// (from 32768 up on Linux), so that no connection takes it before tor does.
func freePort() (int, error) {
	local := torutil.NewLocal(&torutil.Ledger{})
	for range 100 {
		port := 20000 + rand.IntN(12000)
		ln, err := local.Listen(context.Background(), fmt.Sprintf("tcp:%d:interface=127.0.0.1", port))
		if err == nil {
			ln.Close()
			return port, nil
		}
	}
	return 0, errors.New("tornet: no free port found")
}
