package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

func TestMain(m *testing.M) {
	// What go list reads in its own process, go test does not know of: a look at
	// each file here has it run these tests again when one changes.
	for _, top := range []string{"go.mod", "cmd", "invite", "node", "magicfolder", "torutil", "tests"} {
		if err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") {
				_, err = os.Stat(path)
			}
			return err
		}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath, Dir, Doc string
	Standard             bool
	Imports              []string
	TestImports          []string
	XTestImports         []string
	GoFiles              []string
}

func list(t *testing.T, env []string, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,Doc,Standard,Imports,TestImports,XTestImports,GoFiles"}, args...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) == 0 {
		t.Fatal("go list found no package: this test would prove nothing")
	}
	return pkgs
}

// room returns the first path element below the module, "" for another module's.
func room(path string) string {
	rest, ok := strings.CutPrefix(path, "warren/")
	if !ok {
		return ""
	}
	r, _, _ := strings.Cut(rest, "/")
	return r
}

// leaves are for every room: vocabulary and file writing, without dependencies.
var leaves = []string{"warren/node/caps", "warren/node/furl", "warren/node/durable", "warren/node/taghash"}

func TestSiblingsDoNotImportEachOther(t *testing.T) {
	// invite, node, magicfolder and torutil know nothing of one another: dial
	// funcs, listeners and small interfaces are handed to them by cmd, so Tor is
	// injected and nothing can dial around it.
	for _, p := range list(t, nil, "./...") {
		for _, imp := range p.Imports {
			from, to := room(p.ImportPath), room(imp)
			if to == "" || from == to {
				continue
			}
			switch {
			case from == "cmd" && to != "tests":
			case from == "tests":
			case slices.Contains(leaves, imp):
			default:
				t.Errorf("%s imports %s: only cmd wires the rooms together", p.ImportPath, imp)
			}
		}
	}
}

// floors orders the packages of node: each imports only those on lower floors.
var floors = [][]string{
	{"sha256x2"},
	{"taghash", "furl", "erasure", "durable"},
	{"caps", "hashtree"},
	{"config"},
	{"storage/container"},
	{"storage"},
	{"storage/disk", "storage/mem"},
	{"storage/storagetest"},
	{"foolscap/banana"},
	{"foolscap"},
	{"sharedport"},
	{"storage/gbs", "storage/expire"},
	{"introducer"},
	{"grid"},
	{"immutable", "mutable"},
	{"dirnode"},
	{"upkeep"},
	{"webapi"},
	{""},
}

func TestNodeFloors(t *testing.T) {
	// A package of node that imports upwards would make a cycle of meaning, if
	// not of imports: formats must not know services.
	floor := map[string]int{}
	for i, names := range floors {
		for _, n := range names {
			floor[strings.TrimSuffix("warren/node/"+n, "/")] = i
		}
	}
	for _, p := range list(t, nil, "./node/...") {
		at, ok := floor[p.ImportPath]
		if !ok {
			t.Errorf("%s stands on no floor: add it to floors, with its place", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			if room(imp) != "node" {
				continue
			}
			sameNoun := strings.HasPrefix(p.ImportPath, imp+"/") || strings.HasPrefix(imp, p.ImportPath+"/")
			if to := floor[imp]; to > at || to == at && !sameNoun {
				t.Errorf("%s (floor %d) imports %s (floor %d)", p.ImportPath, at, imp, to)
			}
		}
	}
}

func TestTestHelpersStayOutOfTheBinary(t *testing.T) {
	// Packages for tests may panic, keep secrets readable and listen anywhere.
	for _, p := range list(t, nil, "-deps", "./cmd/warren") {
		name := p.ImportPath[strings.LastIndex(p.ImportPath, "/")+1:]
		if p.Standard {
			continue
		}
		if room(p.ImportPath) == "tests" || strings.HasSuffix(name, "test") && room(p.ImportPath) != "" {
			t.Errorf("the binary contains %s", p.ImportPath)
		}
		// It dials with the default client and takes no dialer: a leak around Tor.
		if p.ImportPath == "github.com/psanford/wormhole-william/rendezvous" || p.ImportPath == "github.com/psanford/wormhole-william/wormhole" {
			t.Errorf("the binary contains %s, which dials around Tor", p.ImportPath)
		}
		if p.ImportPath == "testing" {
			t.Error("the binary contains package testing")
		}
	}
}

// networkAllowed are foreign packages in the binary that import net, net/http or
// os/exec, each with the reason why that is no way around torutil.
var networkAllowed = map[string]string{
	"github.com/coder/websocket":               "speaks WebSocket over the http.Client that it is given; invite gives one on Network's dialer (TestNoDefaultHTTP)",
	"github.com/coder/websocket/internal/util": "types of the above",
	"github.com/cretz/bine/control":            "speaks Tor's control protocol on a connection that torutil/control made through Local",
	"github.com/cretz/bine/torutil":            "address helpers of bine",
	"github.com/cretz/bine/tor":                "launches tor; only torutil/control uses it, and not its dialers",
	"github.com/cretz/bine/process":            "starts the tor executable for torutil/control",
	"golang.org/x/net/internal/socks":          "SOCKS5 over the dialer that it is given (torutil/control)",
	"golang.org/x/net/proxy":                   "as above",
	"golang.org/x/crypto/ssh/terminal":         "terminal sizes only",
	"github.com/schollz/progressbar/v3":        "has an HTTP server of its own that is off unless asked for; ui never asks",
	"golang.org/x/sys/windows":                 "system calls; imports net for the types of socket addresses (node/config, node/storage/disk)",
	"golang.org/x/net/http/httpguts":           "header grammar",
	"go.etcd.io/bbolt":                         "none of its files dials; listed should it ever import net",
	"github.com/klauspost/cpuid/v2":            "reads /proc on some systems; imports os/exec on darwin only",
}

func TestForeignPackagesWithANetworkAreListed(t *testing.T) {
	// A dependency that can dial must be looked at once, and again when a new one
	// comes: DNS and direct connections are how an anonymous user is found.
	for _, env := range [][]string{{"GOOS=linux"}, {"GOOS=darwin"}, {"GOOS=windows"}} {
		env := append(env, "CGO_ENABLED=0")
		for _, p := range list(t, env, "-deps", "./cmd/warren") {
			if p.Standard || room(p.ImportPath) != "" {
				continue
			}
			for _, imp := range p.Imports {
				if (imp == "net" || imp == "net/http" || imp == "os/exec") && networkAllowed[p.ImportPath] == "" {
					t.Errorf("%v: %s imports %s: read it, then list it with a reason or drop it", env[0], p.ImportPath, imp)
				}
			}
		}
	}
}

// forbidden are the ways onto the network of the standard library. Only torutil
// may name them.
var forbidden = map[string][]string{
	"net": {"Dial", "DialTimeout", "DialTCP", "DialUDP", "DialIP", "DialUnix", "Dialer", "Listen", "ListenTCP", "ListenUDP", "ListenPacket", "ListenUnix", "ListenIP",
		"ListenUnixgram", "ListenMulticastUDP", "ListenConfig", "LookupHost", "LookupIP", "LookupAddr", "LookupCNAME", "LookupMX", "LookupNS", "LookupPort", "LookupSRV", "LookupTXT",
		"ResolveTCPAddr", "ResolveUDPAddr", "ResolveIPAddr", "ResolveUnixAddr", "Resolver", "DefaultResolver", "InterfaceAddrs"},
	"crypto/tls":            {"Dial", "DialWithDialer", "Dialer", "Listen"},
	"syscall":               {"Socket", "Connect", "Bind", "Listen", "Sendto"},
	"golang.org/x/sys/unix": {"Socket", "Connect", "Bind", "Listen", "Sendto"},
	"net/http":              {"DefaultClient", "DefaultTransport", "DefaultServeMux", "Get", "Head", "Post", "PostForm", "ListenAndServe", "ListenAndServeTLS", "ProxyFromEnvironment"},
}

func TestOnlyTorutilTouchesTheNetwork(t *testing.T) {
	// One Network, handed around: whatever else dials, listens or looks up a name
	// leaks the user's address in Tor mode.
	eachFile(t, func(path string, file *ast.File) {
		for _, v := range violations(file) {
			t.Errorf("%s: %s", path, v)
		}
	})
}

// violations are the ways onto the network that a file takes by itself.
func violations(file *ast.File) (found []string) {
	names := map[string]string{} // local name -> import path
	for _, imp := range file.Imports {
		p := strings.Trim(imp.Path.Value, `"`)
		local := p[strings.LastIndex(p, "/")+1:]
		if imp.Name != nil {
			local = imp.Name.Name
		}
		names[local] = p
		if local == "." {
			found = append(found, "a dot import hides where names come from")
		}
	}
	say := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			id, ok := n.X.(*ast.Ident)
			if ok && slices.Contains(forbidden[names[id.Name]], n.Sel.Name) {
				say("%s.%s: take a dialer or listener from torutil's Network", id.Name, n.Sel.Name)
			}
		case *ast.ValueSpec:
			if zeroDials(n.Type, names) && len(n.Values) == 0 {
				say("a zero http.Client or http.Transport dials by itself")
			}
		case *ast.Field:
			if zeroDials(n.Type, names) {
				say("hold a *http.Client or *http.Transport: the zero value dials by itself")
			}
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && id.Name == "new" && len(n.Args) == 1 && zeroDials(n.Args[0], names) {
				say("a new http.Client or http.Transport dials by itself")
			}
		case *ast.CompositeLit:
			keys := map[string]bool{}
			for _, e := range n.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok {
					if k, ok := kv.Key.(*ast.Ident); ok {
						v, isIdent := kv.Value.(*ast.Ident)
						keys[k.Name] = !isIdent || v.Name != "nil"
					}
				}
			}
			switch {
			case isSel(n.Type, names, "net/http", "Client") && !keys["Transport"]:
				say("http.Client without a Transport uses the default one, which dials by itself")
			case isSel(n.Type, names, "net/http", "Transport") && !keys["DialContext"] && !keys["DialTLSContext"]:
				say("http.Transport without DialContext dials by itself")
			case isSel(n.Type, names, "net/http", "Transport") && keys["Proxy"]:
				say("http.Transport with a Proxy goes around torutil")
			}
		}
		return true
	})
	return found
}

func zeroDials(e ast.Expr, names map[string]string) bool {
	return isSel(e, names, "net/http", "Client") || isSel(e, names, "net/http", "Transport")
}

func TestViolationsAreSeen(t *testing.T) {
	// A rule that nothing can break proves nothing.
	for _, c := range []struct {
		imports, code string
		want          int
	}{
		{`"net"`, `c, err := net.Dial("tcp", "x:1"); _, _ = c, err`, 1},
		{`n "net"`, `var d n.Dialer; _ = d`, 1},
		{`"net"`, `_ = net.DefaultResolver`, 1},
		{`"net"`, `f := net.LookupHost; _ = f`, 1},
		{`. "net"`, `_, _ = Dial("tcp", "x:1")`, 1},
		{`"crypto/tls"`, `_, _ = tls.Dial("tcp", "x:1", nil)`, 1},
		{`"net/http"`, `_, _ = http.Get("http://x/")`, 1},
		{`"net/http"`, `_ = http.DefaultClient`, 1},
		{`"net/http"`, `c := http.Client{}; _ = c`, 1},
		{`"net/http"`, `c := &http.Client{Timeout: 1}; _ = c`, 1},
		{`"net/http"`, `c := &http.Client{Transport: nil}; _ = c`, 1},
		{`"net/http"`, `var c http.Client; _ = c`, 1},
		{`"net/http"`, `c := new(http.Client); _ = c`, 1},
		{`"net/http"`, `type t struct{ c http.Client }`, 1},
		{`"net/http"`, `c := &http.Transport{MaxConnsPerHost: 1}; _ = c`, 1},
		{`"net/http"`, `c := &http.Transport{DialContext: nil}; _ = c`, 1},
		{`"net/http"`, `c := &http.Transport{DialContext: f, Proxy: http.ProxyFromEnvironment}; _ = c`, 2},
		{`"syscall"`, `_, _ = syscall.Socket(1, 1, 0)`, 1},
		{`"golang.org/x/sys/unix"`, `_ = unix.Connect(1, nil)`, 1},
		{`"net/http"`, `c := &http.Client{Transport: t}; _ = c`, 0},
		{`"net/http"`, `c := &http.Transport{DialTLSContext: f, Proxy: nil}; var p *http.Client; _, _ = c, p`, 0},
		{`"net"`, `var c net.Conn; _, _, _ = net.SplitHostPort(""); _ = c`, 0},
		{`net "example.org/other"`, `_ = net.Dial`, 0},
	} {
		source := "package p\nimport " + c.imports + "\nfunc f() {\n" + c.code + "\n}\n"
		file, err := parser.ParseFile(token.NewFileSet(), "x.go", source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if got := violations(file); len(got) != c.want {
			t.Errorf("%s: %q, want %d", c.code, got, c.want)
		}
	}
}

// runners are our packages that start other programs, each with the reason.
var runners = map[string]string{
	"warren/torutil/control":   "starts tor",
	"warren/cmd/internal/cli":  "join --detach starts this program anew; a missing tor is told at once; webopen opens the user's browser",
	"warren/cmd/internal/demo": "starts this program, as each of the people in the story",
}

func TestWhoStartsPrograms(t *testing.T) {
	// Another program does not go through torutil.
	for _, p := range list(t, nil, "-deps", "./cmd/warren") {
		if room(p.ImportPath) != "" && slices.Contains(p.Imports, "os/exec") && runners[p.ImportPath] == "" {
			t.Errorf("%s imports os/exec: list it with a reason or drop it", p.ImportPath)
		}
	}
}

func isSel(e ast.Expr, names map[string]string, path, name string) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != name {
		return false
	}
	id, ok := s.X.(*ast.Ident)
	return ok && names[id.Name] == path
}

// eachFile parses every file that can become part of the binary, outside torutil.
func eachFile(t *testing.T, f func(path string, file *ast.File)) {
	t.Helper()
	seen := 0
	for _, top := range []string{"cmd", "invite", "node", "magicfolder"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			if dir := filepath.Base(filepath.Dir(path)); strings.HasSuffix(dir, "test") {
				return nil // helpers of tests: TestTestHelpersStayOutOfTheBinary
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			seen++
			f(path, file)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen < 50 {
		t.Fatalf("only %d files seen: this test would prove little", seen)
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	// The tree explains the system: a reader meets each package by its comment.
	for _, p := range list(t, nil, "./...") {
		if len(p.GoFiles) > 0 && len(p.Doc) < 40 {
			t.Errorf("%s has no package comment that says what it is", p.ImportPath)
		}
	}
}

func TestTopLevelIsFixed(t *testing.T) {
	// The user fixed the top level; what belongs nowhere in it needs a decision.
	allowed := []string{"cmd", "invite", "node", "magicfolder", "torutil", "scripts", "tests", "go.mod", "go.sum", "Makefile", "README.md",
		"docs", ".ci", "LICENSE", "CHANGELOG.md", ".gitignore"}
	cmd := exec.Command("git", "ls-files")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Fields(string(out)) {
		if top, _, _ := strings.Cut(line, "/"); !slices.Contains(allowed, top) {
			t.Errorf("%s: the top level is fixed", line)
		}
	}
}
