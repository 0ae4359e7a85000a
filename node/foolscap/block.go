package foolscap

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxBlock bounds a negotiation block, as Foolscap does.
const maxBlock = 4096

// ErrNegotiation is what every failure to agree with a peer wraps.
var ErrNegotiation = errors.New("foolscap: negotiation failed")

// ErrDuplicate means that the two tubs are connected already.
var ErrDuplicate = fmt.Errorf("%w: duplicate connection", ErrNegotiation)

func disagree(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrNegotiation, fmt.Sprintf(format, args...))
}

// readBlock reads up to and without the empty line that ends a block.
func readBlock(r *bufio.Reader) (string, error) {
	var b []byte
	for !strings.HasSuffix(string(b[max(0, len(b)-4):]), "\r\n\r\n") {
		if len(b) == maxBlock {
			return "", disagree("header too long")
		}
		c, err := r.ReadByte()
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrNegotiation, err)
		}
		b = append(b, c)
	}
	return string(b[:len(b)-4]), nil
}

// parseBlock reads "key: value" lines. Keys come back in lower case.
func parseBlock(s string) (map[string]string, error) {
	block := map[string]string{}
	for line := range strings.SplitSeq(s, "\r\n") {
		key, value, ok := strings.Cut(line, ":")
		if !ok || key == "" || !printable(line) {
			return nil, disagree("malformed header line")
		}
		key = strings.ToLower(key)
		if _, twice := block[key]; twice {
			return nil, disagree("header line twice")
		}
		block[key] = strings.TrimLeft(value, " ")
	}
	return block, nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// formatBlock writes a block with the empty line that ends it.
func formatBlock(block map[string]string) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(block)) {
		b.WriteString(key + ": " + block[key] + "\r\n")
	}
	return b.String() + "\r\n"
}

// parseRequest reads the client's plaintext header and returns the tub id that it
// asks for.
func parseRequest(header string) (string, error) {
	lines := strings.Split(header, "\r\n")
	words := strings.Split(lines[0], " ")
	if len(words) != 3 || words[0] != "GET" || words[2] != "HTTP/1.1" {
		return "", disagree("not a Foolscap request")
	}
	id, ok := strings.CutPrefix(words[1], "/id/")
	if !ok {
		return "", disagree("not a Foolscap request")
	}
	if !slices.Contains(lines[1:], "Upgrade: TLS/1.0") {
		return "", disagree("the peer asks for no encryption")
	}
	return id, nil
}

func formatRequest(tubID, host string) string {
	return "GET /id/" + tubID + " HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: TLS/1.0\r\nConnection: Upgrade\r\n\r\n"
}

const switchingProtocols = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: TLS/1.0, PB/1.0\r\nConnection: Upgrade\r\n\r\n"

// parseResponse checks the server's plaintext header.
func parseResponse(header string) error {
	lines := strings.Split(header, "\r\n")
	words := strings.SplitN(lines[0], " ", 3)
	if len(words) < 2 || !strings.HasPrefix(words[0], "HTTP/1.") {
		return disagree("the server does not speak Foolscap")
	}
	if words[1] != "101" {
		return disagree("the server has no such tub: %q", clip(lines[0], 200))
	}
	for _, line := range lines[1:] {
		if strings.HasPrefix(line, "Upgrade: TLS/1.0") {
			return nil
		}
	}
	return disagree("the server offers no encryption")
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
